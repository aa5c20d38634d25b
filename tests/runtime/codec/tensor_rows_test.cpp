// Requests to models whose rows are tensors, texts or bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/codec/base64.hpp"
#include "runtime/codec/cache_key.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/model/cells.hpp"
#include "support.hpp"

namespace troupe::codec {
namespace {

using namespace troupe::codec::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using kind = model::tensor_input::kind;

std::shared_ptr<const model::loaded_model> tensors(std::string name, std::vector<model::tensor_input> inputs,
                                                   model::output_spec output = {}) {
  model::loaded_model::parts p;
  p.name = std::move(name);
  p.version = "1";
  p.schema = model::schema(std::move(inputs));
  p.output = std::move(output);
  return std::make_shared<const model::loaded_model>(std::move(p));
}

std::shared_ptr<const model::model_table> models() {
  model::model_table::options o;
  o.default_model = "grid";
  return std::make_shared<const model::model_table>(
      std::vector{tensors("grid", {{"g", kind::number, {2, 3}, 0, 6}}),
                  tensors("cube", {{"c", kind::number, {1, 2, 2}, 0, 4}}),
                  tensors("both", {{"ids", kind::number, {2}, 0, 2}, {"word", kind::text, {1}, 2, 1}}),
                  tensors("columns", {{"age", kind::number, {1}, 0, 1}, {"town", kind::text, {1}, 1, 1}}),
                  tensors("file", {{"x", kind::bytes, {}, 0, 1}})},
      o);
}

test_batch parsed(std::string_view value, std::vector<header> headers = {},
                  parser_options options = make_options()) {
  test_batch b;
  b.add(value, std::move(headers));
  request_parser(std::move(options)).parse(*b.batch, models());
  return b;
}

std::string text(double cell) {
  return std::string(model::text_in(cell));
}

TEST(TensorRows, OneInputNestedFlatAndByName) {
  for (const char* features :
       {"[[1,2,3],[4,5,6]]", "[1,2,3,4,5,6]", R"({"g":[[1,2,3],[4,5,6]]})", R"({"g":[1,2,3,4,5,6]})"}) {
    const std::string json = std::string(R"({"features":)") + features + "}";
    const auto b = parsed(json);
    EXPECT_EQ(b[0].error_message, "") << features;
    EXPECT_EQ(b[0].rows, 1U);
    EXPECT_FALSE(b[0].list) << features;
    EXPECT_THAT(b.values(0), ElementsAre(1, 2, 3, 4, 5, 6));
  }
}

TEST(TensorRows, ListsOfRows) {
  const struct {
    const char *model, *features;
  } table[] = {{"grid", "[[[1,2,3],[4,5,6]],[[1,2,3],[4,5,6]]]"},
               {"grid", R"([{"g":[[1,2,3],[4,5,6]]},{"g":[1,2,3,4,5,6]}])"},
               {"cube", "[[[[1,2],[3,4]]],[[[1,2],[3,4]]]]"},
               {"cube", "[[1,2,3,4],[1,2,3,4]]"},
               {"columns", R"([[3,"x"],[4,"y"]])"},
               {"file", R"(["AAAA","AAAA"])"}};
  for (const auto& row : table) {
    const std::string json =
        std::string(R"({"model":")") + row.model + R"(","features":)" + row.features + "}";
    const auto b = parsed(json);
    EXPECT_EQ(b[0].error_message, "") << json;
    EXPECT_EQ(b[0].rows, 2U) << json;
    EXPECT_TRUE(b[0].list);
  }
}

TEST(TensorRows, TextsAndNumbersTogether) {
  const auto b = parsed(R"({"model":"both","features":{"word":"caf\u00e9","ids":[7,true]}})");
  ASSERT_EQ(b[0].error_message, "");
  EXPECT_EQ(b.values(0)[0], 7);
  EXPECT_EQ(b.values(0)[1], 1);
  EXPECT_EQ(text(b.values(0)[2]), "caf\xc3\xa9");
  const auto c = parsed(R"({"model":"columns","features":[41,"Bonn"]})");
  EXPECT_EQ(text(c.values(0)[1]), "Bonn");
}

TEST(TensorRows, BytesAsBase64AndAsTheValueItself) {
  const auto b = parsed(R"({"model":"file","features":"/9j/"})");
  ASSERT_EQ(b[0].error_message, "");
  EXPECT_EQ(text(b.values(0)[0]), "\xff\xd8\xff");
  const std::string raw("\xff\xd8\0\x01", 4);
  const auto c = parsed(raw, {{"model", "file"}, {"content-type", "image/jpeg"}, {"request_id", "r"}});
  EXPECT_EQ(c[0].error_message, "");
  EXPECT_EQ(c[0].request_id, "\"r\"");
  EXPECT_EQ(text(c.values(0)[0]), raw);
  auto small = make_options();
  small.max_record_bytes = 4;
  EXPECT_EQ(parsed(raw, {{"model", "file"}, {"content-type", "application/octet-stream"}}, small)[0].error,
            error_code::none);
  small.max_record_bytes = 3;
  const auto d = parsed(raw, {{"model", "file"}, {"content-type", "image/png"}}, small);
  EXPECT_EQ(d[0].error, error_code::too_large);
  EXPECT_FALSE(d[0].parsed);
}

TEST(TensorRows, MistakesAreNamed) {
  const struct {
    const char *model, *features, *message;
  } table[] = {
      {"grid", "[[1,2,3],[4,5]]", "input 'g' takes the shape [2, 3], found 2 values in dimension 1"},
      {"grid", "[[1,2,3]]", "input 'g' takes the shape [2, 3], found 1 values in dimension 0"},
      {"grid", "[1,2,3,4,5]", "input 'g' takes [2, 3], which are 6 values, got 5"},
      {"grid", "[1,2,3,4,5,6,7]", "which are 6 values, got 7"},
      {"grid", "[]", "got 0"},
      {"grid", "3", "input 'g' takes a list of the shape [2, 3], found a number"},
      {"grid", R"([[1,2,3],[4,"5",6]])", "input 'g' must be a finite number, found a string"},
      {"grid", "[[1,2,3],[4,null,6]]", "input 'g' must be a finite number, found null"},
      {"grid", "[[1,2,3],[4,NaN,6]]", "input 'g' must be a finite number, found NaN or Infinity"},
      {"grid", "[[1,2,3],[4,1e400,6]]", "a number beyond the range of a double"},
      {"grid", R"({"G":1})", "'G' is not an input of model grid version 1; did you mean 'g'?"},
      {"grid", "{}", "input 'g' of model grid version 1 is missing"},
      {"grid", "[[[1,2,3],[4,5,6]],[[1,2,3],[4,5]]]", "features[1]: input 'g'"},
      {"both", "[1,2,\"x\"]", "takes an object by input name (ids [2], word [1]), found a list"},
      {"both", R"({"ids":[1,2],"word":5})", "input 'word' must be a string, found a number"},
      {"both", R"({"ids":[1,2]})", "input 'word' of model both version 1 is missing"},
      {"columns", R"([1,"x",2])", "takes 2 values, got 3"},
      {"file", R"("a b=")", "input 'x' is a string, but not of base64"},
      {"file", R"("")", "input 'x' is empty"},
      {"file", "7", "input 'x' must be a string of base64, found a number"},
  };
  for (const auto& row : table) {
    const std::string json =
        std::string(R"({"model":")") + row.model + R"(","features":)" + row.features + "}";
    const auto b = parsed(json);
    EXPECT_EQ(b[0].error, error_code::invalid_features) << json;
    EXPECT_TRUE(b[0].parsed);
    EXPECT_THAT(std::string(b[0].error_message), HasSubstr(row.message)) << json;
    EXPECT_EQ(b[0].rows, 0U);
    EXPECT_TRUE(b.batch->values.empty());
  }
  const auto raw = parsed("abc", {{"content-type", "image/png"}});
  EXPECT_THAT(std::string(raw[0].error_message), HasSubstr("is for models that take bytes; model grid"));
  EXPECT_TRUE(raw[0].parsed);
}

TEST(TensorRows, TheLimitsAndOneBeyond) {
  auto o = make_options();
  o.max_rows = 2;
  o.max_values = 12;
  const std::string one = "[1,2,3,4,5,6]";
  const std::string row = "[[1,2,3],[4,5,6]]";
  EXPECT_EQ(parsed("{\"features\":[" + row + "," + row + "]}", {}, o)[0].error, error_code::none);
  EXPECT_EQ(parsed("{\"features\":[" + row + "," + row + "," + row + "]}", {}, o)[0].error,
            error_code::too_large);
  o.max_values = 11;
  EXPECT_EQ(parsed("{\"features\":[" + row + "," + row + "]}", {}, o)[0].error, error_code::too_large);
}

TEST(TensorRows, TheCachesKeyIsOfContents) {
  const std::vector<model::tensor_input> inputs = {{"n", kind::number, {1}, 0, 1},
                                                   {"t", kind::text, {2}, 1, 2}};
  const std::string_view ab = "ab";
  const std::string again = "ab";
  const std::string_view copy = again;
  const std::string_view a = "a";
  const std::string_view b = "b";
  const std::string_view none;
  const auto key = [&](double n, const std::string_view& x, const std::string_view& y) {
    const double row[] = {n, model::text_cell(&x), model::text_cell(&y)};
    const auto k = row_key(1, row, inputs);
    return std::pair(k.hi, k.lo);
  };
  EXPECT_EQ(key(1, ab, a), key(1, copy, a));
  EXPECT_NE(key(1, ab, a), key(2, ab, a));
  EXPECT_NE(key(1, ab, none), key(1, a, b));
  EXPECT_NE(key(1, a, b), key(1, b, a));
}

TEST(Base64, DecodesWhatIsAndRefusesTheRest) {
  const struct {
    const char* text;
    const char* bytes;  // null: refused
  } table[] = {{"", ""},
               {"Zg==", "f"},
               {"Zg", "f"},
               {"Zm8=", "fo"},
               {"Zm8", "fo"},
               {"Zm9v", "foo"},
               {"Zm9vYmFy", "foobar"},
               {"+/+/", "\xfb\xff\xbf"},
               {"Z", nullptr},
               {"Zg=", nullptr},
               {"Zh==", nullptr},
               {"Zm9=", nullptr},
               {"Zm 9", nullptr},
               {"=", nullptr},
               {"====", nullptr},
               {"Zm9v=", nullptr},
               {"Z===", nullptr},
               {"-_-_", nullptr}};
  for (const auto& row : table) {
    std::string out(decoded_size(row.text), '?');
    const auto size = decode_base64(row.text, out.data());
    ASSERT_EQ(size.has_value(), row.bytes != nullptr) << row.text;
    if (size) {
      EXPECT_EQ(out.substr(0, *size), row.bytes) << row.text;
    }
  }
}

std::string written(const model::output_spec& output, const std::vector<double>& values, std::uint32_t rows) {
  const auto m = tensors("m", {{"g", kind::number, {1}, 0, 1}}, output);
  record r;
  r.request_id = "\"r\"";
  r.model = m.get();
  r.rows = rows;
  r.list = rows > 1;
  std::string out;
  EXPECT_TRUE(result_writer().prediction(out, r, values.data()));
  return out.substr(0, out.find(",\"model_name\""));
}

TEST(TensorResults, SeveralOutputsAreAnObject) {
  model::output_spec o;
  o.width = 3;
  o.parts = {{"a", 1}, {"b\"", 2}};
  EXPECT_EQ(written(o, {1, 2, 3.5}, 1), R"({"request_id":"r","prediction":{"a":1,"b\"":[2,3.5]})");
  EXPECT_EQ(written(o, {1, 2, 3, 4, 5, 6}, 2),
            R"({"request_id":"r","prediction":[{"a":1,"b\"":[2,3]},{"a":4,"b\"":[5,6]}])");
}

TEST(TensorResults, TheLikeliestClassesAlone) {
  model::output_spec o{model::task::classification, 4, {"w", "x", "y", "z"}};
  o.top_k = 2;
  EXPECT_EQ(
      written(o, {0.125, 0.375, 0.125, 0.375}, 1),
      R"({"request_id":"r","prediction":"x","predicted_class":"x","top_k":[{"class":"x","probability":0.375},)"
      R"({"class":"z","probability":0.375}],"confidence":0.375)");
}

}  // namespace
}  // namespace troupe::codec

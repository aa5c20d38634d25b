// Rows from V2's inputs: every datatype, every way to hold them, and the same answer from all.
#include "runtime/codec/v2_rows.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "runtime/codec/half.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/model/cells.hpp"
#include "v2_support.hpp"

namespace troupe::codec {
namespace {

using namespace troupe::codec::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string message(const v2_read& b) {
  return std::string(b.r().error_message);
}

std::string refused(std::string_view model, const std::string& body) {
  const auto b = read_v2_text(body, model);
  EXPECT_EQ(b.r().error, error_code::invalid_features) << body;
  EXPECT_EQ(b.r().rows, 0U);
  EXPECT_TRUE(b.batch.batch->values.empty());
  return message(b);
}

TEST(V2Rows, JsonNestedFlatAndBinaryAgree) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> number(0, 100);
  for (int round = 0; round < 50; ++round) {
    const std::size_t rows = 1 + random() % 20;
    std::vector<float> floats;
    for (std::size_t i = 0; i < rows * 3; ++i) floats.push_back(static_cast<float>(number(random)));
    std::string flat = "[", nested = "[";
    std::vector<std::string> columns(3);
    for (std::size_t i = 0; i < floats.size(); ++i) {
      std::string x;
      // As Python writes a float32: the double's own digits.
      append_number(x, static_cast<double>(floats[i]));
      flat += (i ? "," : "") + x;
      nested += (i % 3 ? "," : i ? "],[" : "[") + x;
      columns[i % 3] += (i < 3 ? "" : ",") + x;
    }
    const std::string shape = "[" + std::to_string(rows) + ",3]";
    const auto a = read_v2_text(json_request("input", "FP32", shape, flat + "]"));
    const auto b = read_v2_text(json_request("input", "FP32", shape, nested + "]]"));
    const auto c = read_binary("trio", "input", "FP32", shape, bytes_of(floats));
    std::string by_name = "{\"inputs\":[";
    for (std::size_t k : {2U, 0U, 1U})
      by_name += std::string(k == 2 ? "" : ",") + R"({"name":")" + std::vector{"a", "bmi", "c"}[k] +
                 R"(","datatype":"FP32","shape":[)" + std::to_string(rows) + (k == 0 ? ",1" : "") +
                 R"(],"data":[)" + columns[k] + "]}";
    const auto d = read_v2_text(by_name + "]}");
    const auto e = read_v2_text(bytes_of(floats), "trio", std::size_t{0});
    ASSERT_EQ(message(a) + message(b) + message(c) + message(d) + message(e), "");
    const std::vector<double> expected(floats.begin(), floats.end());
    EXPECT_EQ(a.values(), expected);
    EXPECT_EQ(b.values(), expected);
    EXPECT_EQ(c.values(), expected);
    EXPECT_EQ(d.values(), expected);
    EXPECT_EQ(e.values(), expected);
    EXPECT_EQ(c.r().rows, rows);
  }
}

TEST(V2Rows, EveryDatatypeRaw) {
  const auto read = [](const char* type, const std::string& raw) {
    const auto b = read_binary("trio", "input", type, "[1,3]", raw);
    EXPECT_EQ(message(b), "") << type;
    return b.values();
  };
  EXPECT_THAT(read("BOOL", bytes_of<std::uint8_t>({0, 1, 1})), ElementsAre(0, 1, 1));
  EXPECT_THAT(read("UINT8", bytes_of<std::uint8_t>({0, 1, 255})), ElementsAre(0, 1, 255));
  EXPECT_THAT(read("UINT16", bytes_of<std::uint16_t>({0, 1, 65535})), ElementsAre(0, 1, 65535));
  EXPECT_THAT(read("UINT32", bytes_of<std::uint32_t>({0, 1, UINT32_MAX})), ElementsAre(0, 1, UINT32_MAX));
  EXPECT_THAT(read("UINT64", bytes_of<std::uint64_t>({0, 1, UINT64_MAX})), ElementsAre(0, 1, 0x1p64));
  EXPECT_THAT(read("INT8", bytes_of<std::int8_t>({0, -1, -128})), ElementsAre(0, -1, -128));
  EXPECT_THAT(read("INT16", bytes_of<std::int16_t>({0, -1, INT16_MIN})), ElementsAre(0, -1, INT16_MIN));
  EXPECT_THAT(read("INT32", bytes_of<std::int32_t>({0, -1, INT32_MIN})), ElementsAre(0, -1, INT32_MIN));
  EXPECT_THAT(read("INT64", bytes_of<std::int64_t>({0, -1, INT64_MIN})), ElementsAre(0, -1, -0x1p63));
  EXPECT_THAT(read("FP16", bytes_of<std::uint16_t>({0x3c00, 0xc000, 0x0001})), ElementsAre(1, -2, 0x1p-24));
  EXPECT_THAT(read("BF16", bytes_of<std::uint16_t>({0x3f80, 0xc000, 0x4049})), ElementsAre(1, -2, 3.140625));
  EXPECT_THAT(read("FP64", bytes_of<double>({0.1, -1e300, 3})), ElementsAre(0.1, -1e300, 3));
  EXPECT_THAT(message(read_binary("trio", "input", "BOOL", "[1,3]", bytes_of<std::uint8_t>({0, 1, 2}))),
              HasSubstr("input 'input' element [0][2] must be 0 or 1"));
}

TEST(V2Rows, EveryDatatypeInJson) {
  struct row {
    const char* type;
    const char* data;
    std::vector<double> values;
    const char* says;
  };
  const row table[] = {
      {"BOOL", "[true,false,1]", {1, 0, 1}, ""},
      {"BOOL", "[true,false,2]", {}, "element [0][2] must be true or false"},
      {"UINT8", "[0,1,255]", {0, 1, 255}, ""},
      {"UINT8", "[0,1,256]", {}, "element [0][2] must be an integer of UINT8"},
      {"UINT8", "[0,-1,25]", {}, "element [0][1] must be an integer of UINT8"},
      {"INT8", "[-128,1,127]", {-128, 1, 127}, ""},
      {"INT8", "[-129,1,127]", {}, "element [0][0]"},
      {"INT32", "[1.0,2,3.5]", {}, "element [0][2]"},
      {"INT64", "[-9223372036854775808,2,9007199254740993]", {-0x1p63, 2, 0x1p53}, ""},
      {"UINT64", "[18446744073709551615,2,3]", {0x1p64, 2, 3}, ""},
      {"FP64", "[0.1,2,1e300]", {0.1, 2, 1e300}, ""},
      {"FP32", "[0.1,2,16777217]", {static_cast<double>(0.1F), 2, 16777216}, ""},
      {"FP32", "[0.1,2,1e39]", {}, "element [0][2] is beyond the range of FP32"},
      {"FP16", "[0.1,2,65504]", {to_fp16(0.1), 2, 65504}, ""},
      {"FP16", "[0.1,2,65536]", {}, "beyond the range of FP16"},
      {"BF16", "[3.141592,2,3]", {3.140625, 2, 3}, ""},
      {"FP32", "[true,2,3]", {}, "must be a number, found a boolean"},
      {"FP32", "[1,\"2\",3]", {}, "element [0][1] must be a number, found a string"},
      {"FP64", "[1,[2],3]", {}, "element [0][1] must be a number, found a list"},
      {"FP64", "[1,2,Infinity]", {}, "element [0][2] must be a finite number, found Infinity"},
      {"FP64", "[1,2,1e400]", {}, "beyond the range of a double"},
      {"INT32", "[1,NaN,3]", {}, "NaN"},
      {"FP32", "{}", {}, "data of input 'input' must be a list, found an object"},
      {"BYTES", "[\"a\",\"b\",\"c\"]", {}, "must be numbers, found BYTES"},
  };
  for (const row& one : table) {
    const auto b = read_v2_text(json_request("input", one.type, "[1,3]", one.data));
    if (one.values.empty()) {
      EXPECT_THAT(message(b), HasSubstr(one.says)) << one.type << one.data;
      EXPECT_EQ(b.r().error, error_code::invalid_features);
    } else {
      EXPECT_EQ(message(b), "") << one.type << one.data;
      EXPECT_EQ(b.values(), one.values) << one.type << one.data;
    }
  }
}

TEST(V2Rows, MissingIsNanOrNullWhereTheModelDefinesIt) {
  const double nan = std::nan("");
  for (const auto& b : {read_v2_text(json_request("input", "FP32", "[1,3]", "[1,null,3]")),
                        read_v2_text(json_request("input", "FP64", "[1,3]", "[[1,NaN,3]]")),
                        read_binary("trio", "input", "FP64", "[1,3]", bytes_of<double>({1, nan, 3})),
                        read_v2_text(R"({"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[1]},
                          {"name":"c","datatype":"FP32","shape":[1],"data":[3]}]})")}) {
    ASSERT_EQ(message(b), "");
    EXPECT_TRUE(std::isnan(b.values()[1]));
    EXPECT_EQ(b.values()[2], 3);
  }
  EXPECT_EQ(refused("trio", json_request("input", "FP32", "[2,3]", "[1,2,3,4,5,null]")),
            "input 'input' element [1][2] (feature 'c') is missing (NaN) and model trio version 3 does not "
            "say what "
            "to put in its place");
  EXPECT_THAT(message(read_binary("trio", "input", "FP32", "[1,3]", bytes_of<float>({INFINITY, 1, 2}))),
              HasSubstr("element [0][0] (feature 'a') must be a finite number, found Infinity"));
  EXPECT_THAT(refused("trio", R"({"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[1]}]})"),
              HasSubstr("input 'c' is missing"));
}

TEST(V2Rows, ShapesThatDoNotFit) {
  EXPECT_THAT(refused("trio", json_request("input", "FP32", "[1,4]", "[1,2,3,4]")),
              HasSubstr("has the shape [1, 4], model trio version 3 takes [?, 3]: 3 features"));
  EXPECT_THAT(refused("trio", json_request("input", "FP32", "[3,1]", "[1,2,3]")), HasSubstr("has the shape"));
  EXPECT_THAT(refused("trio", json_request("input", "FP32", "[]", "[1]")), HasSubstr("has the shape"));
  EXPECT_THAT(refused("trio", json_request("input", "FP32", "[0,3]", "[]")), HasSubstr("no rows"));
  for (const char* data : {"[1,2]", "[1,2,3,4]", "[[1,2,3],[1,2,3]]", "[[1,2]]", "[[1,2,3,4]]", "[]",
                           "[[[1,2,3]]]", "[[1,2,[3]]]"})
    EXPECT_THAT(refused("trio", json_request("input", "FP64", "[1,3]", data)),
                HasSubstr("does not have its shape"))
        << data;
  EXPECT_THAT(
      refused("trio", json_request("imput", "FP32", "[1,3]", "[1,2,3]")),
      HasSubstr("input 'imput' is not a feature of model trio version 3; send one input named 'input'"));
  EXPECT_THAT(refused("trio", R"({"inputs":[{"name":"a","datatype":"FP32","shape":[2],"data":[1,2]},
                          {"name":"c","datatype":"FP32","shape":[1],"data":[3]}]})"),
              HasSubstr("input 'c' has 1 rows, input 'a' has 2"));
}

TEST(V2Rows, CategoriesAndBounds) {
  const auto both = [](const std::string& size, const std::string& colour) {
    return R"({"inputs":[{"name":"size","datatype":"FP64","shape":[2],"data":)" + size +
           R"(},{"name":"colour","datatype":"BYTES","shape":[2,1],"data":)" + colour + "}]}";
  };
  const auto b = read_v2_text(both("[null,7]", R"([["green"],["red"]])"), "kinds");
  ASSERT_EQ(message(b), "");
  EXPECT_THAT(b.values(), ElementsAre(5, 1, 7, 0));
  EXPECT_THAT(refused("kinds", both("[1,11]", R"(["green","red"])")),
              HasSubstr("input 'size' element [1] is 11, and must be from 0 to 10"));
  EXPECT_THAT(refused("kinds", both("[1,2]", R"(["green","rad"])")), HasSubstr("did you mean 'red'"));
  EXPECT_THAT(refused("kinds", R"({"inputs":[{"name":"colour","datatype":"FP32","shape":[1],"data":[1]}]})"),
              HasSubstr("must be one of red, green, found a number"));
  const std::string raw = bytes_of_texts({"green", "red"});
  const auto c = read_binary("kinds", "colour", "BYTES", "[2]", raw);
  ASSERT_EQ(message(c), "");
  EXPECT_THAT(c.values(), ElementsAre(5, 1, 5, 0));
}

TEST(V2Rows, Tensors) {
  const auto grid =
      read_v2_text(json_request("g", "INT8", "[2,2,2]", "[[[1,2],[3,4]],[[5,6],[7,8]]]"), "grid");
  ASSERT_EQ(message(grid), "");
  EXPECT_EQ(grid.r().rows, 2U);
  EXPECT_THAT(grid.values(), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  const auto one = read_v2_text(json_request("g", "FP32", "[2,2]", "[1,2,3,4]"), "grid");
  EXPECT_EQ(one.r().rows, 1U);
  EXPECT_THAT(refused("grid", json_request("g", "FP32", "[4]", "[1,2,3,4]")), HasSubstr("takes [?, 2, 2]"));
  EXPECT_THAT(refused("grid", json_request("g", "FP32", "[1,2,2]", "[1,null,3,4]")),
              HasSubstr("input 'g' element [0][0][1] must be a finite number, found NaN"));
  EXPECT_THAT(refused("grid", json_request("h", "FP32", "[1,2,2]", "[1,2,3,4]")),
              HasSubstr("is not an input"));
  EXPECT_THAT(refused("both", json_request("ids", "FP32", "[1,2]", "[1,2]")), HasSubstr("'word'"));

  const auto both =
      read_v2_text(R"({"inputs":[{"name":"word","datatype":"BYTES","shape":[2,1],"data":["x","caf\u00e9"]},
    {"name":"ids","datatype":"INT64","shape":[2,2],"data":[1,2,3,4]}]})",
                   "both");
  ASSERT_EQ(message(both), "");
  const auto v = both.values();
  EXPECT_EQ(v[0], 1);
  EXPECT_EQ(v[4], 4);
  EXPECT_EQ(model::text_in(v[2]), "x");
  EXPECT_EQ(model::text_in(v[5]), "caf\u00e9");
}

TEST(V2Rows, BytesAreBase64InJsonAndPlainElsewhere) {
  const auto json = read_v2_text(json_request("x", "BYTES", "[1]", "[\"AAEC\"]"), "file");
  ASSERT_EQ(message(json), "");
  const std::string bytes("\0\1\2", 3);
  EXPECT_EQ(model::text_in(json.values()[0]), bytes);
  const auto raw = read_binary("file", "x", "BYTES", "[2]", bytes_of_texts({bytes, "\xff\xfe"}));
  ASSERT_EQ(message(raw), "");
  EXPECT_EQ(model::text_in(raw.values()[0]), bytes);
  EXPECT_EQ(model::text_in(raw.values()[1]), "\xff\xfe");
  const auto whole = read_v2_text("anything at all", "file", std::size_t{0});
  ASSERT_EQ(message(whole), "");
  EXPECT_EQ(model::text_in(whole.values()[0]), "anything at all");

  EXPECT_THAT(message(read_binary("file", "x", "BYTES", "[2]", bytes_of_texts({"a"}))),
              HasSubstr("has no length"));
  EXPECT_THAT(message(read_binary("file", "x", "BYTES", "[1]", bytes_of_texts({"a", "b"}))),
              HasSubstr("behind its last"));
  EXPECT_THAT(message(read_binary("file", "x", "BYTES", "[1]",
                                  std::string("\xff\xff\xff\xff"
                                              "ab",
                                              6))),
              HasSubstr("a length of 4294967295"));
  EXPECT_THAT(message(read_v2_text("12345", "trio", std::size_t{0})),
              HasSubstr("a row of model trio version 3 has 12"));
}

TEST(V2Rows, TypedContentsOfGrpc) {
  const auto read = [](const char* type, v2_contents::kind held, const void* data, std::size_t n,
                       std::span<const std::string_view> texts = {}, const char* model = "trio",
                       const char* name = "input") {
    v2_read out;
    out.batch.batch->via = door::grpc;
    out.batch.batch->models = v2_models();
    record& r = out.batch.add({});
    const std::int64_t shape[] = {1, static_cast<std::int64_t>(3)};
    const std::int64_t one[] = {1};
    v2_request q;
    v2_input& in = q.inputs.emplace_back();
    in.name = name;
    in.datatype = type;
    in.shape = texts.empty() ? std::span<const std::int64_t>(shape) : std::span<const std::int64_t>(one);
    in.contents.held = held;
    in.contents.data = data;
    in.contents.count = n;
    in.contents.texts = texts;
    infer_head head;
    head.model = model;
    read_v2(q, head, {}, out.tools, r, *out.batch.batch, out.plan);
    return out;
  };
  using held = v2_contents::kind;
  const float floats[] = {1, 2.5F, 3};
  const double doubles[] = {1, 2.5, 3};
  const std::int32_t ints[] = {1, -2, 300};
  const std::uint64_t longs[] = {1, 2, 3};
  const bool bools[] = {true, false, true};
  EXPECT_THAT(read("FP32", held::fp32, floats, 3).values(), ElementsAre(1, 2.5, 3));
  EXPECT_THAT(read("FP64", held::fp64, doubles, 3).values(), ElementsAre(1, 2.5, 3));
  EXPECT_THAT(read("INT16", held::int32, ints, 3).values(), ElementsAre(1, -2, 300));
  EXPECT_THAT(read("UINT64", held::uint64, longs, 3).values(), ElementsAre(1, 2, 3));
  EXPECT_THAT(read("BOOL", held::boolean, bools, 3).values(), ElementsAre(1, 0, 1));
  EXPECT_THAT(message(read("INT8", held::int32, ints, 3)),
              HasSubstr("element [0][2] is beyond the range of INT8"));
  EXPECT_THAT(message(read("FP32", held::fp32, floats, 2)),
              HasSubstr("has 2 elements, its shape [1, 3] needs 3"));
  EXPECT_THAT(message(read("FP64", held::fp32, floats, 3)), HasSubstr("do not fit its datatype FP64"));
  EXPECT_THAT(message(read("FP32", held::none, nullptr, 0)), HasSubstr("has no data"));
  const std::string_view texts[] = {"abc"};
  EXPECT_EQ(model::text_in(read("BYTES", held::texts, nullptr, 0, texts, "file", "x").values()[0]), "abc");
  EXPECT_THAT(message(read("FP32", held::texts, nullptr, 0, texts)), HasSubstr("has the shape"));
}

TEST(V2Rows, HalfFloats) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto h = static_cast<std::uint16_t>(bits);
    const double fp16 = static_cast<double>(from_fp16(h));
    const double bf16 = static_cast<double>(from_bf16(h));
    ASSERT_TRUE(!std::isfinite(fp16) || to_fp16(fp16) == fp16) << bits;
    ASSERT_TRUE(!std::isfinite(bf16) || to_bf16(bf16) == bf16) << bits;
  }
  EXPECT_EQ(from_fp16(0x7bff), 65504);
  EXPECT_EQ(from_fp16(0x0400), 0x1p-14F);
  EXPECT_TRUE(std::isinf(from_fp16(0xfc00)));
  EXPECT_TRUE(std::isnan(from_fp16(0x7e00)));
  EXPECT_EQ(to_fp16(1 + 0x1p-11), 1);
  EXPECT_EQ(to_fp16(1 + 3 * 0x1p-11), 1 + 0x1p-9);
}

}  // namespace
}  // namespace troupe::codec

#include "runtime/codec/request_parser.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "support.hpp"

namespace troupe::codec {
namespace {

using namespace troupe::codec::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

test_batch parsed(std::string_view value, std::vector<header> headers = {},
                  parser_options options = make_options(), bool fallback = true,
                  std::int64_t timestamp_ms = sent_ms) {
  test_batch b;
  b.add(value, std::move(headers), timestamp_ms);
  request_parser parser(std::move(options));
  parser.parse(*b.batch, make_models(fallback));
  return b;
}

std::string nested(std::size_t levels) {  // lists within one another, the innermost not empty
  return std::string(levels, '[') + "1" + std::string(levels, ']');
}

std::string id_of(std::size_t bytes) {
  return R"({"features":[1,2,3],"request_id":")" + std::string(bytes, 'x') + "\"}";
}

// --- bad input
// ------------------------------------------------------------------------------------------------------

struct bad_input {
  std::string name;
  std::string value;
  error_code code;
  bool parsed;
  std::string message;  // all of it
};

void PrintTo(const bad_input& b, std::ostream* out) {
  *out << b.name;
}

class BadInput : public ::testing::TestWithParam<bad_input> {};

TEST_P(BadInput, EndsAsDocumented) {
  const auto& c = GetParam();
  const auto b = parsed(c.value);
  EXPECT_EQ(to_string(b[0].error), to_string(c.code));
  EXPECT_EQ(b[0].parsed, c.parsed);
  EXPECT_EQ(b[0].error_message, c.message);
  EXPECT_EQ(b[0].rows, 0u);
  EXPECT_TRUE(b.batch->values.empty());
  EXPECT_FALSE(b[0].request_id.empty());
}

constexpr auto json = error_code::invalid_json;
constexpr auto features = error_code::invalid_features;
constexpr auto no_model = error_code::model_not_found;
const std::string f3 = R"("features":[1,2,3])";

INSTANTIATE_TEST_SUITE_P(
    NotARequest, BadInput,
    ::testing::ValuesIn(std::vector<bad_input>{
        {"empty", "", json, false, "the value is empty"},
        {"blank", " \n\t ", json, false, "the value is empty"},
        {"bom_alone", "\xef\xbb\xbf", json, false, "the value is empty"},
        {"two_boms", "\xef\xbb\xbf\xef\xbb\xbf{" + f3 + "}", json, false, "the value is not valid JSON"},
        {"word", "hello", json, false, "the value is not valid JSON"},
        {"list", "[1,2,3]", json, false, "a request is a JSON object, found a list"},
        {"number", "17", json, false, "a request is a JSON object, found a number"},
        {"string", "\"x\"", json, false, "a request is a JSON object, found a string"},
        {"null", "null", json, false, "a request is a JSON object, found null"},
        {"true", "true", json, false, "a request is a JSON object, found a boolean"},
        {"nan", "NaN", json, false, "a request is a JSON object, found NaN or Infinity"},
        {"cut", "{" + f3, json, false, "the value is not valid JSON"},
        {"cut_in_string", R"({"features":[1,2,3],"x":"ab)", json, false,
         "the value is not valid JSON: a string is not closed"},
        {"trailing", "{" + f3 + "} x", json, false, "the value is not valid JSON"},
        {"two_objects", "{" + f3 + "}{}", json, false, "the value is not valid JSON"},
        {"trailing_comma", "{" + f3 + ",}", json, false, "the value is not valid JSON"},
        {"list_trailing_comma", R"({"features":[1,2,3,]})", json, false, "the value is not valid JSON"},
        {"no_comma", R"({"features":[1 2,3]})", json, false, "the value is not valid JSON"},
        {"no_colon", R"({"features" [1,2,3]})", json, false, "the value is not valid JSON"},
        {"single_quotes", "{'features':[1,2,3]}", json, false, "the value is not valid JSON"},
        {"leading_zero", R"({"features":[01,2,3]})", json, false, "the value is not valid JSON"},
        {"plus", R"({"features":[+1,2,3]})", json, false, "the value is not valid JSON"},
        {"point_alone", R"({"features":[1.,2,3]})", json, false, "the value is not valid JSON"},
        {"hex", R"({"features":[0x1,2,3]})", json, false, "the value is not valid JSON"},
        {"bad_utf8", "{\"features\":[1,2,3],\"x\":\"\xff\"}", json, false, "the value is not valid UTF-8"},
        {"cut_utf8", "{\"features\":[1,2,3],\"x\":\"\xc3\"}", json, false, "the value is not valid UTF-8"},
        {"overlong_utf8", "{\"features\":[1,2,3],\"x\":\"\xc0\xaf\"}", json, false,
         "the value is not valid UTF-8"},
        {"surrogate_utf8", "{\"features\":[1,2,3],\"x\":\"\xed\xa0\x80\"}", json, false,
         "the value is not valid UTF-8"},
        {"utf16", std::string("\xff\xfe{\0}\0", 6), json, false, "the value is not valid UTF-8"},
        {"control_in_string", "{\"features\":[1,2,3],\"x\":\"\n\"}", json, false,
         "the value is not valid JSON: a control character in a string"},
        {"bad_escape", R"({"features":[1,2,3],"x":"\q"})", json, false,
         "the value is not valid JSON: an invalid escape in a string"},
        {"lone_surrogate", R"({"features":[1,2,3],"x":"\ud800"})", json, false,
         "the value is not valid JSON: an invalid escape in a string"},
        {"lone_low_surrogate", R"({"features":[1,2,3],"x":"\udc00"})", json, false,
         "the value is not valid JSON: an invalid escape in a string"},
        {"unknown_field_broken", R"({"features":[1,2,3],"x":{"y":[tru]}})", json, false,
         "the value is not valid JSON"},
        {"nan_outside_features", R"({"features":[1,2,3],"x":[{"y":NaN}]})", json, false,
         "the value is not valid JSON: NaN or Infinity"},
        {"nan_as_key", R"({"features":{NaN:1}})", json, false, "the value is not valid JSON"},
        {"number_as_key", R"({"features":[1,2,3],"x":{1e400:1}})", json, false,
         "the value is not valid JSON"},
        {"nul", std::string("{\0}", 3), json, false, "the value is not valid JSON"},
        {"too_deep", "{" + f3 + ",\"x\":" + nested(max_depth) + "}", json, false,
         "the value is nested deeper than 64 levels"},
        {"open_brackets", std::string(1 << 20, '['), json, false, "the value is not valid JSON"},
        {"brackets", nested(1 << 18), json, false, "the value is nested deeper than 64 levels"},
        {"open_objects", "{\"features\":" + std::string(200'000, '{'), json, false,
         "the value is not valid JSON"},
        {"too_large", "{" + f3 + "}" + std::string((1 << 20) - 20 + 1, ' '), error_code::too_large, false,
         "the value has 1048577 bytes, more than the 1048576 of kafka.max_record_bytes"},
    }),
    [](const auto& i) { return i.param.name; });

INSTANTIATE_TEST_SUITE_P(
    CannotBeScored, BadInput,
    ::testing::ValuesIn(std::vector<bad_input>{
        {"no_features", R"({"request_id":"r"})", features, true, "the request has no features"},
        {"empty_object", "{}", features, true, "the request has no features"},
        {"null_features", R"({"features":null})", features, true, "features is null"},
        {"string_features", R"({"features":"1,2,3"})", features, true,
         "features must be a list of numbers, an object by feature name or a list of rows, found a string"},
        {"number_features", R"({"features":7})", features, true,
         "features must be a list of numbers, an object by feature name or a list of rows, found a number"},
        {"nan_features", R"({"features":NaN})", features, true,
         "features must be a list of numbers, an object by feature name or a list of rows, found NaN or "
         "Infinity"},
        {"zero", R"({"features":[]})", features, true,
         "model trio version 3 takes 3 features (a, bmi, c), got 0"},
        {"too_few", R"({"features":[1,2]})", features, true,
         "model trio version 3 takes 3 features (a, bmi, c), got 2"},
        {"too_many", R"({"features":[1,2,3,4]})", features, true,
         "model trio version 3 takes 3 features (a, bmi, c), got 4"},
        {"too_few_unnamed", R"({"features":[1,2],"model":"wide"})", features, true,
         "model wide version 1 takes 20 features, got 2"},
        {"nan", R"({"features":[1,NaN,3]})", features, true,
         "feature 'bmi' must be a finite number, found NaN or Infinity"},
        {"infinity", R"({"features":[1,2,Infinity]})", features, true,
         "feature 'c' must be a finite number, found NaN or Infinity"},
        {"minus_infinity", R"({"features":[-Infinity,2,3]})", features, true,
         "feature 'a' must be a finite number, found NaN or Infinity"},
        {"huge", R"({"features":[1,1e400,3]})", features, true,
         "feature 'bmi' must be a finite number, found a number beyond the range of a double"},
        {"huge_negative", R"({"features":[1,2,-1.5E+309]})", features, true,
         "feature 'c' must be a finite number, found a number beyond the range of a double"},
        {"string", R"({"features":[1,"2",3]})", features, true,
         "feature 'bmi' must be a finite number, found a string"},
        {"boolean", R"({"features":[true,2,3]})", features, true,
         "feature 'a' must be a finite number, found a boolean"},
        {"list_in_list", R"({"features":[1,[2],3]})", features, true,
         "feature 'bmi' must be a finite number, found a list"},
        {"unnamed_string", R"({"features":[1,"2"],"model":"wide"})", features, true,
         "features[1] must be a finite number, found a string"},
        {"null_not_imputed", R"({"features":[null,2,3]})", features, true,
         "feature 'a' is null and model trio version 3 does not say what to put in its place"},
        {"name_missing", R"({"features":{"a":1,"bmi":2}})", features, true,
         "feature 'c' is missing and model trio version 3 does not say what to put in its place"},
        {"name_unknown", R"({"features":{"a":1,"bmj":2,"c":3}})", features, true,
         "'bmj' is not a feature of model trio version 3; did you mean 'bmi'?"},
        {"name_far", R"({"features":{"a":1,"weight":2,"c":3}})", features, true,
         "'weight' is not a feature of model trio version 3"},
        {"name_unnamed", R"({"features":{"weight":2},"model":"wide"})", features, true,
         "'weight' is not a feature of model wide version 1, whose features have no names of their own: send "
         "a list, "
         "or f0, f1, ..."},
        {"name_string", R"({"features":{"a":1,"bmi":"2","c":3}})", features, true,
         "feature 'bmi' must be a finite number, found a string"},
        {"row_count", R"({"features":[[1,2,3],[1,2]]})", features, true,
         "features[1]: model trio version 3 takes 3 features (a, bmi, c), got 2"},
        {"row_string", R"({"features":[[1,2,3],[1,2,"x"]]})", features, true,
         "features[1]: feature 'c' must be a finite number, found a string"},
        {"row_scalar", R"({"features":[[1,2,3],4]})", features, true,
         "features[1]: a row must be a list or an object, found a number"},
        {"row_unnamed", R"({"features":[["x"]],"model":"wide"})", features, true,
         "features[0][0] must be a finite number, found a string"},
        {"row_name", R"({"features":[{"a":1,"c":2,"d":3}]})", features, true,
         "features[0]: 'd' is not a feature of model trio version 3; did you mean 'a'?"},
        {"hostile_name", "{\"features\":{\"\\u0000\\n\\u001b[31m" + std::string(200, 'y') + "\":1}}",
         features, true, "'???[31m" + std::string(57, 'y') + "...' is not a feature of model trio version 3"},
        {"model_unknown", R"({"model":"quartet",)" + f3 + "}", no_model, true,
         "model 'quartet' is not loaded; loaded: iris, trio, wide"},
        {"model_number", R"({"model":7,)" + f3 + "}", json, true, "model must be a string, found a number"},
        {"version_list", R"({"model_version":[3],)" + f3 + "}", json, true,
         "model_version must be a string or a number, found a list"},
        {"id_object", R"({"request_id":{},)" + f3 + "}", json, true,
         "request_id must be a string or a number, found an object"},
        {"id_boolean", R"({"request_id":false,)" + f3 + "}", json, true,
         "request_id must be a string or a number, found a boolean"},
        {"id_too_long", id_of(1025), json, true, "request_id has 1025 bytes, more than 1024"},
        {"priority_string", R"({"priority":"1",)" + f3 + "}", json, true,
         "priority must be an integer from 0, found a string"},
        {"priority_negative", R"({"priority":-1,)" + f3 + "}", json, true,
         "priority must be an integer from 0"},
        {"priority_fraction", R"({"priority":1.5,)" + f3 + "}", json, true,
         "priority must be an integer from 0"},
        {"priority_huge", R"({"priority":1e999,)" + f3 + "}", json, true,
         "priority must be an integer from 0, found a number beyond the range of a double"},
        {"timeout_string", R"({"timeout_ms":"9",)" + f3 + "}", json, true,
         "timeout_ms must be a number of milliseconds, found a string"},
        {"timeout_zero", R"({"timeout_ms":0,)" + f3 + "}", error_code::deadline_exceeded, true,
         "the request had expired when it was read"},
        {"timeout_negative", R"({"timeout_ms":-5,)" + f3 + "}", error_code::deadline_exceeded, true,
         "the request had expired when it was read"},
        {"timeout_passed", R"({"timeout_ms":377,)" + f3 + "}", error_code::deadline_exceeded, true,
         "the request had expired when it was read"},
        {"features_before_deadline", R"({"timeout_ms":0,"features":[1]})", features, true,
         "model trio version 3 takes 3 features (a, bmi, c), got 1"},
    }),
    [](const auto& i) { return i.param.name; });

TEST(RequestParser, TombstoneIsADeadLetter) {
  const auto b = parsed(std::string_view());
  EXPECT_EQ(b[0].error, error_code::invalid_json);
  EXPECT_FALSE(b[0].parsed);
  EXPECT_EQ(b[0].error_message, "the record has no value (a tombstone)");
  EXPECT_EQ(b[0].request_id, "\"requests-3-100\"");
}

TEST(RequestParser, NothingAtTheLimitsIsRefused) {
  parser_options o = make_options();
  o.max_rows = 3;
  o.max_values = 9;
  const std::string largest = "{" + f3 + "}" + std::string((1 << 20) - f3.size() - 2, ' ');
  ASSERT_EQ(largest.size(), o.max_record_bytes);
  for (const std::string& value : {
           largest,
           "{" + f3 + ",\"x\":" + nested(max_depth - 1) + "}",
           id_of(1024),
           std::string(R"({"features":[[1,2,3],[1,2,3],[1,2,3]]})"),
           std::string(R"({"features":[1,2,3],"timeout_ms":377.001})"),
           std::string("\xef\xbb\xbf{\"features\":[1,2,3]}"),
           std::string(R"({"features":[1,2,3],"x":1e400,"y":123456789012345678901234567890,"z":[1e-400]})"),
       }) {
    const auto b = parsed(value, {}, o);
    EXPECT_EQ(b[0].error, error_code::none) << b[0].error_message << value.substr(0, 200);
  }
}

TEST(RequestParser, OneBeyondTheRowsIsTooLarge) {
  parser_options o = make_options();
  o.max_rows = 2;
  auto b = parsed(R"({"features":[[1,2,3],[1,2,3],[1,2,3]]})", {}, o);
  EXPECT_EQ(b[0].error, error_code::too_large);
  EXPECT_TRUE(b[0].parsed);
  EXPECT_EQ(b[0].error_message,
            "the request has 3 rows of 3 features; at most 2 rows and 1000000 numbers are taken");
  o.max_rows = 10;
  o.max_values = 8;
  b = parsed(R"({"features":[{},{},{}],"model":"wide"})", {}, o);
  EXPECT_EQ(b[0].error, error_code::too_large);
  EXPECT_TRUE(b.batch->values.empty());
}

TEST(RequestParser, AHundredThousandNumbersAreCountedNotKept) {
  std::string value = R"({"features":[0)";
  for (int i = 1; i < 100'000; ++i) value += ",0";
  const auto b = parsed(value + "]}");
  EXPECT_EQ(b[0].error_message, "model trio version 3 takes 3 features (a, bmi, c), got 100000");
  EXPECT_TRUE(b.batch->values.empty());
}

TEST(RequestParser, ABadRecordLeavesItsNeighboursAlone) {
  test_batch b;
  const std::string good = R"({"features":[1,2,3]})";
  const std::string huge(200'000, '[');
  for (const char* value : {R"({"features":[[4,5,6],[7,8,"x"]]})", R"({"features":[1e400,2,3]})", "{", ""}) {
    b.add(good);
    b.add(value);
    b.add(huge);
  }
  b.add(good);
  request_parser parser(make_options());
  parser.parse(*b.batch, make_models());
  for (std::size_t i = 0; i < b.batch->records.size(); ++i) {
    EXPECT_EQ(b[i].error == error_code::none, i % 3 == 0) << i;
    if (i % 3 == 0) {
      EXPECT_THAT(b.values(i), ElementsAre(1, 2, 3)) << i;
    }
  }
}

// --- features
// -------------------------------------------------------------------------------------------------------

TEST(RequestParser, FlatListIsOneRow) {
  const auto b =
      parsed(R"({"request_id":"r-1","features":[1, -2.5e-3 ,18446744073709551615],"model_version":"v3"})");
  EXPECT_EQ(b[0].error, error_code::none) << b[0].error_message;
  EXPECT_TRUE(b[0].parsed);
  EXPECT_FALSE(b[0].list);
  EXPECT_EQ(b[0].rows, 1u);
  EXPECT_EQ(b[0].request_id, "\"r-1\"");
  EXPECT_EQ(b[0].model->version(), "3");
  EXPECT_TRUE(b[0].fallback_from.empty());
  EXPECT_THAT(b.values(0), ElementsAre(1, -2.5e-3, 18446744073709551615.0));
}

TEST(RequestParser, ListOfRowsAnswersWithAList) {
  auto b = parsed(R"({"features":[[1,2,3],{"c":6,"a":4},[7,null,9]]})");
  EXPECT_EQ(b[0].error, error_code::none) << b[0].error_message;
  EXPECT_TRUE(b[0].list);
  EXPECT_EQ(b[0].rows, 3u);
  const auto v = b.values(0);
  EXPECT_EQ(v[0] + v[2] + v[3] + v[5] + v[6] + v[8], 1 + 3 + 4 + 6 + 7 + 9);
  EXPECT_TRUE(std::isnan(v[4]));
  EXPECT_TRUE(std::isnan(v[7]));
  b = parsed(R"({"features":[[1,2,3]]})");
  EXPECT_TRUE(b[0].list);
  EXPECT_EQ(b[0].rows, 1u);
}

TEST(RequestParser, ObjectByNameInAnyOrder) {
  const auto b = parsed(R"({"features":{"c":3,"a":1,"bmi":null}})");
  EXPECT_EQ(b[0].error, error_code::none) << b[0].error_message;
  EXPECT_FALSE(b[0].list);
  EXPECT_EQ(b.values(0)[0], 1);
  EXPECT_TRUE(std::isnan(b.values(0)[1]));
  EXPECT_EQ(b.values(0)[2], 3);
}

TEST(RequestParser, LongNumbersAreReadAsDoubles) {
  const auto b =
      parsed(R"({"features":[123456789012345678901234567890,1e-400,0.1000000000000000055511151231257827]})");
  EXPECT_EQ(b[0].error, error_code::none) << b[0].error_message;
  EXPECT_THAT(b.values(0), ElementsAre(123456789012345678901234567890.0, 0.0, 0.1));
}

TEST(RequestParser, TheLastOfEqualKeysWins) {
  const auto b = parsed(
      R"({"features":[9],"request_id":"x","features":{"a":0,"c":3,"bmi":2,"a":1},"request_id":"y","model":7,"model":"trio"})");
  EXPECT_EQ(b[0].error, error_code::none) << b[0].error_message;
  EXPECT_EQ(b[0].request_id, "\"y\"");
  EXPECT_THAT(b.values(0), ElementsAre(1, 2, 3));
}

TEST(RequestParser, FieldsInEveryOrder) {
  std::vector<std::string> parts = {R"("request_id":"r\u00e9\n")", R"("features":{"sepal":2,"petal":1})",
                                    R"("model":"iris")", R"("model_version":1)", R"("priority":2)"};
  std::sort(parts.begin(), parts.end());
  int orders = 0;
  do {
    std::string value = "{";
    for (const auto& p : parts) value += (value.size() > 1 ? "," : "") + p;
    value += "}";
    const auto b = parsed(value);
    ASSERT_EQ(b[0].error, error_code::none) << value << b[0].error_message;
    ASSERT_EQ(b[0].request_id, "\"r\xc3\xa9\\n\"");
    ASSERT_EQ(b[0].model->name(), "iris");
    ASSERT_EQ(b[0].cls, 1);
    ASSERT_THAT(b.values(0), ElementsAre(1, 2));
    ++orders;
  } while (std::next_permutation(parts.begin(), parts.end()));
  EXPECT_EQ(orders, 120);
}

// --- ids, models, classes, deadlines
// --------------------------------------------------------------------------------

TEST(RequestParser, RequestIds) {
  const std::vector<std::pair<std::string, std::string>> table = {
      {R"("r-1")", R"("r-1")"},
      {R"("a\"b\\c\u0001\ud83d\ude00")", "\"a\\\"b\\\\c\\u0001\xf0\x9f\x98\x80\""},
      {"17", R"("17")"},
      {"-9223372036854775808", R"("-9223372036854775808")"},
      {"18446744073709551615", R"("18446744073709551615")"},
      {"123456789012345678901234567890", R"("123456789012345678901234567890")"},
      {"1.50", R"("1.50")"},
      {"1e400", R"("1e400")"},
      {"null", R"("requests-3-100")"},
      {R"("")", R"("requests-3-100")"},
  };
  for (const auto& [given, expected] : table) {
    const auto b = parsed(R"({"x":{"request_id":5.5}, "request_id" : )" + given +
                          R"( ,"y":[{"request_id":6.5}],"features":[1,2,3]})");
    EXPECT_EQ(b[0].error, error_code::none) << given << b[0].error_message;
    EXPECT_EQ(b[0].request_id, expected) << given;
  }
  EXPECT_EQ(parsed(R"({"features":[1,2,3]})")[0].request_id, R"("requests-3-100")");
  EXPECT_EQ(parsed(R"({"request_id":[1],"features":[1,2,3]})")[0].request_id, R"("requests-3-100")");
}

TEST(RequestParser, ModelVersions) {
  const std::vector<std::pair<std::string, std::string>> table = {
      {R"("v2")", "2"}, {R"("2")", "2"}, {"2", "2"}, {"null", "3"}, {R"("")", "3"}, {R"("v3")", "3"}};
  for (const auto& [given, expected] : table) {
    const auto b = parsed(R"({"features":[1,2,3],"model":"trio","model_version":)" + given + "}");
    ASSERT_NE(b[0].model, nullptr) << given;
    EXPECT_EQ(b[0].model->version(), expected) << given;
    EXPECT_TRUE(b[0].fallback_from.empty()) << given;
  }
}

TEST(RequestParser, AnUnknownVersionFallsBackIfAllowed) {
  for (const auto& [given, from] : std::vector<std::pair<std::string, std::string>>{
           {R"("v9")", "v9"}, {"9", "9"}, {"2.10", "2.10"}, {R"("\"")", "\\\""}}) {
    const std::string value = R"({"features":[1,2,3],"model_version":)" + given + "}";
    auto b = parsed(value);
    EXPECT_EQ(b[0].error, error_code::none);
    EXPECT_EQ(b[0].model->version(), "3");
    EXPECT_EQ(b[0].fallback_from, from);
    b = parsed(value, {}, make_options(), false);
    EXPECT_EQ(b[0].error, error_code::model_not_found);
    EXPECT_EQ(b[0].model, nullptr);
    EXPECT_EQ(b[0].fallback_from, from);
  }
  EXPECT_EQ(
      parsed(R"({"features":[1,2,3],"model_version":"v9","model":"trio"})", {}, make_options(), false)[0]
          .error_message,
      "version '9' of model 'trio' is not loaded; loaded: 1, 2, 3");
}

TEST(RequestParser, ADefaultThatIsAwayIsNamed) {
  model::model_table::options how;
  how.default_model = "quartet";
  how.default_stays = true;
  const auto table = std::make_shared<const model::model_table>(make_models()->all(), how);
  test_batch b;
  b.add(R"({"features":[1,2,3]})");
  request_parser parser(make_options());
  parser.parse(*b.batch, table);
  EXPECT_EQ(b[0].error, error_code::model_not_found);
  EXPECT_EQ(b[0].error_message, "the default model 'quartet' is not loaded; loaded: iris, trio, wide");
}

TEST(RequestParser, WithoutModelsNothingIsFound) {
  test_batch b;
  b.add(R"({"features":[1,2,3]})");
  request_parser parser(make_options());
  parser.parse(*b.batch, nullptr);
  EXPECT_EQ(b[0].error, error_code::model_not_found);
  EXPECT_EQ(b[0].error_message, "no model is loaded");
}

TEST(RequestParser, PrioritiesAreClasses) {
  const std::vector<std::pair<std::string, int>> table = {
      {"null", 2}, {"0", 2}, {"1", 0}, {"2", 1},
      {"2.0", 1},  {"3", 2}, {"4", 2}, {"1000000000000000000000", 2}};
  const nanos targets[] = {100'000'000, 1'000'000'000, 60'000'000'000};
  for (const auto& [given, cls] : table) {
    const auto b = parsed(R"({"features":[1,2,3],"priority":)" + given + "}");
    EXPECT_EQ(b[0].error, error_code::none) << given;
    EXPECT_EQ(b[0].cls, cls) << given;
    EXPECT_EQ(b[0].target, sent + targets[cls]) << given;
    EXPECT_EQ(b[0].expiry, INT64_MAX) << given;
  }
}

TEST(RequestParser, Deadlines) {
  parser_options o = make_options();
  o.queue_timeout = 2'000'000'000;
  const std::string value = R"({"features":[1,2,3],"timeout_ms":1000.5})";
  const std::string plain = R"({"features":[1,2,3]})";
  EXPECT_EQ(parsed(value)[0].expiry, sent + 1'000'500'000);
  EXPECT_EQ(parsed(value, {}, o)[0].expiry, sent + 1'000'500'000);
  EXPECT_EQ(parsed(plain, {}, o)[0].expiry, sent + 2'000'000'000);
  EXPECT_EQ(parsed(R"({"features":[1,2,3],"timeout_ms":1e300})")[0].expiry, INT64_MAX);
  // From arrival if the record's time is unknown or ahead of ours.
  for (const std::int64_t timestamp : {std::int64_t{0}, std::int64_t{-1}, arrived_ms + 60'000, INT64_MAX}) {
    const auto b = parsed(value, {}, make_options(), true, timestamp);
    EXPECT_EQ(b[0].expiry, arrived + 1'000'500'000) << timestamp;
    EXPECT_EQ(b[0].target, arrived + 60'000'000'000) << timestamp;
  }
  EXPECT_EQ(parsed(plain, {}, o, true, arrived_ms - 2'000)[0].error, error_code::deadline_exceeded);
  EXPECT_EQ(parsed(plain, {}, o, true, arrived_ms - 1'999)[0].error, error_code::none);
  EXPECT_EQ(parsed(plain, {}, o, true, 1)[0].error, error_code::deadline_exceeded);
}

TEST(RequestParser, HeadersOverrideTheBody) {
  const std::string value =
      R"({"features":[1,2,3],"request_id":"body","model":"iris","model_version":"1","priority":3,"timeout_ms":1})";
  auto b = parsed(value, {{"request_id", "he\"ad"},
                          {"model", "trio"},
                          {"model_version", "v2"},
                          {"priority", "1"},
                          {"timeout_ms", "5000"},
                          {"ce_id", "x"}});
  EXPECT_EQ(b[0].error, error_code::none) << b[0].error_message;
  EXPECT_EQ(b[0].request_id, R"("he\"ad")");
  EXPECT_EQ(b[0].model->name(), "trio");
  EXPECT_EQ(b[0].model->version(), "2");
  EXPECT_EQ(b[0].cls, 0);
  EXPECT_EQ(b[0].expiry, sent + 5'000'000'000);
  // One without a value says nothing; a wrong type in the body is not looked at.
  b = parsed(
      R"({"features":[1,2,3],"request_id":[],"priority":{},"model_version":"1"})",
      {{"model", {}}, {"model_version", ""}, {"request_id", "1"}, {"request_id", "2"}, {"priority", "2"}});
  EXPECT_EQ(b[0].error, error_code::none) << b[0].error_message;
  EXPECT_EQ(b[0].request_id, "\"2\"");
  EXPECT_EQ(b[0].model->version(), "1");
}

TEST(RequestParser, BadHeaders) {
  const std::vector<std::pair<header, std::string>> table = {
      {{"request_id", "\xff"}, "header request_id is not valid UTF-8"},
      {{"priority", "first"}, "header priority must be an integer from 0"},
      {{"priority", "1 "}, "header priority must be an integer from 0"},
      {{"priority", "inf"}, "header priority must be an integer from 0"},
      {{"timeout_ms", "soon"}, "header timeout_ms must be a number of milliseconds"},
      {{"timeout_ms", "nan"}, "header timeout_ms must be a number of milliseconds"},
      {{"timeout_ms", "1e999"}, "header timeout_ms must be a number of milliseconds"},
  };
  for (const auto& [bad, message] : table) {
    const auto b = parsed(R"({"features":[1,2,3]})", {bad});
    EXPECT_EQ(b[0].error, error_code::invalid_json) << bad.value;
    EXPECT_TRUE(b[0].parsed) << bad.value;
    EXPECT_EQ(b[0].error_message, message) << bad.value;
  }
}

TEST(RequestParser, GoesOnInABatchWithTheSameModels) {
  test_batch b;
  b.add(R"({"features":[1,2,3]})");
  request_parser parser(make_options());
  const auto first = make_models();
  parser.parse(*b.batch, first);
  b.add(R"({"features":[4,5,6]})");
  parser.parse(*b.batch, make_models(), 1);
  EXPECT_EQ(b.batch->models, first);
  EXPECT_EQ(b[0].model, b[1].model);
  EXPECT_THAT(b.values(0), ElementsAre(1, 2, 3));
  EXPECT_THAT(b.values(1), ElementsAre(4, 5, 6));
}

// --- properties
// -----------------------------------------------------------------------------------------------------

/// A JSON value of any shape, as text with random blanks.
std::string anything(std::mt19937_64& random, int depth) {
  switch (random() % (depth > 0 ? 7 : 5)) {
    case 0:
      return "null";
    case 1:
      return random() % 2 ? "true" : "false";
    case 2:
      return std::to_string(static_cast<std::int64_t>(random()));
    case 3:
      return nlohmann::json(std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 200) - 100))
          .dump();
    case 4:
      return R"("\u0041\n\"\\ )" + std::string(random() % 9, 'z') + "\xc3\xa9\"";
    case 5: {
      std::string out = "[ ";
      for (std::size_t i = random() % 4; i-- > 0;) out += anything(random, depth - 1) + (i != 0 ? " ," : "");
      return out + "]";
    }
    default: {
      std::string out = "{";
      for (std::size_t i = random() % 4; i-- > 0;)
        out += "\"k" + std::to_string(i) + "\" : " + anything(random, depth - 1) + (i != 0 ? "," : "\n");
      return out + "}";
    }
  }
}

double some_number(std::mt19937_64& random) {
  for (;;) {
    double x = 0;
    const std::uint64_t bits = random();
    switch (random() % 3) {
      case 0:
        std::memcpy(&x, &bits, sizeof x);
        break;
      case 1:
        x = static_cast<double>(static_cast<std::int64_t>(bits) >> (random() % 64));
        break;
      default:
        x = std::round(static_cast<double>(bits >> 40) / 3.0) / 1e4;
        break;
    }
    if (std::isfinite(x)) return x;
  }
}

TEST(RequestParser, ReadsWhatAnotherLibraryReads) {
  std::mt19937_64 random(20241115);
  const auto models = make_models();
  request_parser parser(make_options());
  for (int round = 0; round < 3000; ++round) {
    nlohmann::json fields;
    const std::size_t rows = random() % 4;
    const bool list = rows != 0;
    std::vector<std::string> parts;
    nlohmann::json body = nlohmann::json::array();
    for (std::size_t r = 0; r < std::max<std::size_t>(rows, 1); ++r) {
      nlohmann::json row;
      if (random() % 3 == 0) {
        row = {{"c", some_number(random)}, {"a", some_number(random)}, {"bmi", some_number(random)}};
      } else {
        row = {some_number(random), some_number(random), some_number(random)};
      }
      body.push_back(row);
    }
    parts.push_back("\"features\":" + (list ? body : body[0]).dump());
    if (random() % 2)
      parts.push_back("\"request_id\":" +
                      nlohmann::json("id-" + std::to_string(random()) + "\n\xc3\xa9").dump());
    if (random() % 2) parts.push_back("\"model_version\" : \"v" + std::to_string(1 + random() % 3) + "\"");
    if (random() % 2) parts.push_back("\"priority\": " + std::to_string(random() % 5));
    if (random() % 2) parts.push_back("\"model\":\"trio\"");
    for (std::size_t i = random() % 3; i-- > 0;)
      parts.push_back("\"x" + std::to_string(i) + "\":" + anything(random, 4));
    std::shuffle(parts.begin(), parts.end(), random);
    std::string value = " {";
    for (const auto& p : parts) value += (value.size() > 2 ? "," : "") + p;
    value += "}\n";

    test_batch b;
    b.add(value);
    parser.parse(*b.batch, models);
    const auto expected = nlohmann::json::parse(value);
    ASSERT_EQ(b[0].error, error_code::none) << value << b[0].error_message;
    ASSERT_EQ(b[0].list, list) << value;
    ASSERT_EQ(nlohmann::json::parse(b[0].request_id), expected.value("request_id", "requests-3-100"))
        << value;
    ASSERT_EQ("v" + b[0].model->version(), expected.value("model_version", "v3")) << value;
    std::vector<double> numbers;
    for (const auto& row : list ? expected["features"] : nlohmann::json::array({expected["features"]})) {
      for (std::size_t i = 0; i < 3; ++i)
        numbers.push_back(row.is_object() ? row[models->all()[1]->schema().features[i].name].get<double>()
                                          : row[i].get<double>());
    }
    ASSERT_EQ(b.values(0), numbers) << value;
  }
}

TEST(RequestParser, AcceptsNothingThatAnotherLibraryRefuses) {
  std::mt19937_64 random(7);
  const auto models = make_models();
  request_parser parser(make_options());
  const std::string_view bytes = "{}[]\",:0123456789.eE+-truefalsn \\u\n\xc3\xa9";
  int refused = 0;
  for (int round = 0; round < 30'000; ++round) {
    std::string value = R"({"request_id":"r\n1","features":[1,-2.5e3,null],"x":{"y":[true,"\u00e9",{}]}})";
    for (std::size_t i = 1 + random() % 3; i-- > 0;) {
      const std::size_t at = random() % value.size();
      switch (random() % 3) {
        case 0:
          value[at] = bytes[random() % bytes.size()];
          break;
        case 1:
          value.erase(at, 1 + random() % 3);
          break;
        default:
          value.insert(at, 1, bytes[random() % bytes.size()]);
          break;
      }
    }
    test_batch b;
    b.add(value);
    parser.parse(*b.batch, models);
    refused += !b[0].parsed;
    try {
      const bool object = nlohmann::json::parse(value).is_object();
      ASSERT_EQ(b[0].parsed, object) << value;
    } catch (const nlohmann::json::parse_error&) {
      ASSERT_FALSE(b[0].parsed) << value;
    } catch (const nlohmann::json::out_of_range&) {
      // 1e400 is JSON, though not for a library that must hold it.
    }
  }
  EXPECT_GT(refused, 10'000);
}

}  // namespace
}  // namespace troupe::codec

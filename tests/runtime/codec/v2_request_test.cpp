// Bodies of V2 requests: what is taken, and what every broken one is told.
#include "runtime/codec/v2_request.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "v2_support.hpp"

namespace troupe::codec {
namespace {

using namespace troupe::codec::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string good = json_request("input", "FP32", "[1,3]", "[1,2,3]");

TEST(V2Request, EverythingThatItMaySay) {
  v2_request_parser parser;
  v2_request request;
  const std::string body =
      R"({"id":"r-\u00e9","parameters":{"priority":2,"timeout":1500,"binary_data_output":true,
    "explain":"true","sequence_id":7},"inputs":[{"name":"a","shape":[2,1],"datatype":"INT64","data":[1,2]},
    {"name":"b","shape":[2],"datatype":"FP64","data":[1,2],"parameters":{"content_type":"np"}}],
    "outputs":[{"name":"p","parameters":{"binary_data":false}},{"name":"q","parameters":{"classification":3}},
    {"name":"z"}],"more":[1]})";
  ASSERT_EQ(parser.parse(body, {}, {}, request).message, "");
  EXPECT_EQ(request.id, "r-\u00e9");
  EXPECT_EQ(request.priority, 2);
  EXPECT_EQ(request.timeout_us, 1500);
  EXPECT_TRUE(request.binary_output);
  EXPECT_TRUE(request.explain);
  ASSERT_EQ(request.inputs.size(), 2U);
  EXPECT_EQ(request.inputs[0].name, "a");
  EXPECT_EQ(request.inputs[0].datatype, "INT64");
  EXPECT_THAT(request.inputs[0].shape, ElementsAre(2, 1));
  EXPECT_THAT(request.inputs[1].shape, ElementsAre(2));
  ASSERT_EQ(request.outputs.size(), 3U);
  EXPECT_EQ(request.outputs[0].binary, false);
  EXPECT_EQ(request.outputs[1].classification, 3U);
  EXPECT_EQ(request.outputs[2].binary, std::nullopt);
  // Nothing of it is left for the next.
  ASSERT_EQ(parser.parse(good, {}, {}, request).message, "");
  EXPECT_EQ(request.id, "");
  EXPECT_FALSE(request.binary_output);
  EXPECT_TRUE(request.outputs.empty());
}

TEST(V2Request, BrokenBodies) {
  struct row {
    std::string body;
    error_code code;
    const char* says;
  };
  const auto input = [](const std::string& fields) { return "{\"inputs\":[{" + fields + "}]}"; };
  const row table[] = {
      {"", error_code::invalid_json, "is empty"},
      {"{", error_code::invalid_json, "not valid JSON"},
      {"[1]", error_code::invalid_json, "a request is a JSON object, found a list"},
      {"{\"inputs\":[{\"name\":\"\xff\"}]}", error_code::invalid_json, "not valid UTF-8"},
      {"{}", error_code::invalid_json, "no inputs"},
      {R"({"inputs":[]})", error_code::invalid_json, "no inputs"},
      {R"({"inputs":{}})", error_code::invalid_json, "inputs must be a list, found an object"},
      {R"({"inputs":[7]})", error_code::invalid_json, "inputs[0] must be an object"},
      {R"({"id":NaN,"inputs":[]})", error_code::invalid_json, "NaN or Infinity in 'id'"},
      {R"({"id":true,"inputs":[]})", error_code::invalid_json, "id must be a string"},
      {R"({"parameters":7,"inputs":[]})", error_code::invalid_json, "parameters must be an object"},
      {R"({"parameters":{"priority":-1},"inputs":[]})", error_code::invalid_json, "priority"},
      {R"({"parameters":{"priority":1.5},"inputs":[]})", error_code::invalid_json, "priority"},
      {R"({"parameters":{"timeout":"x"},"inputs":[]})", error_code::invalid_json, "timeout"},
      {R"({"parameters":{"timeout":-1},"inputs":[]})", error_code::invalid_json, "timeout"},
      {R"({"parameters":{"binary_data_output":7},"inputs":[]})", error_code::invalid_json, "true or false"},
      {input(""), error_code::invalid_json, "inputs[0] has no name"},
      {input(R"("name":7)"), error_code::invalid_json, "inputs[0].name must be a string"},
      {input(R"("name":"a")"), error_code::invalid_json, "input 'a' has no datatype"},
      {input(R"("name":"a","datatype":"FP31","shape":[1],"data":[1])"), error_code::invalid_features,
       "unknown datatype 'FP31'"},
      {input(R"("name":"a","datatype":"FP32")"), error_code::invalid_json, "has no shape"},
      {input(R"("name":"a","datatype":"FP32","shape":3,"data":[1])"), error_code::invalid_json,
       "must be a list of integers"},
      {input(R"("name":"a","datatype":"FP32","shape":[-1],"data":[1])"), error_code::invalid_features,
       "integers from 0"},
      {input(R"("name":"a","datatype":"FP32","shape":[1.5],"data":[1])"), error_code::invalid_features,
       "integers from 0"},
      {input(R"("name":"a","datatype":"FP32","shape":[18446744073709551615],"data":[1])"),
       error_code::invalid_features, "integers from 0"},
      {input(R"("name":"a","datatype":"FP32","shape":[4294967296,4294967296],"data":[1])"),
       error_code::too_large, "more than 100000 elements"},
      {input(R"("name":"a","datatype":"FP32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data":[1])"),
       error_code::invalid_features, "17 dimensions"},
      {input(R"("name":"a","datatype":"FP32","shape":[1])"), error_code::invalid_json, "has no data"},
      {input(R"("name":"a","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4})"),
       error_code::invalid_json, "no Inference-Header-Content-Length"},
      {input(R"("name":"a","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":4})"),
       error_code::invalid_features, "both data and binary_data_size"},
      {input(R"("name":"a","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":-4})"),
       error_code::invalid_json, "binary_data_size"},
      {input(
           R"("name":"a","datatype":"FP32","shape":[1],"data":[1]},{"name":"a","datatype":"FP32","shape":[1],"data":[1])"),
       error_code::invalid_json, "input 'a' is there twice"},
      {R"({"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[1]}],"outputs":7})",
       error_code::invalid_json, "outputs must be a list"},
      {R"({"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[1]}],"outputs":[{}]})",
       error_code::invalid_json, "outputs[0] has no name"},
      {R"({"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[1]}],"outputs":[{"name":"p"},{"name":"p"}]})",
       error_code::invalid_json, "output 'p' is there twice"},
      {R"({"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[1]}],"outputs":[{"name":"p","parameters":{"classification":-1}}]})",
       error_code::invalid_json, "classification"},
  };
  v2_request_parser parser;
  v2_request request;
  for (const row& one : table) {
    const auto fault = parser.parse(one.body, {}, {}, request);
    EXPECT_EQ(fault.code, one.code) << one.body << ": " << fault.message;
    EXPECT_THAT(fault.message, HasSubstr(one.says)) << one.body;
  }
  EXPECT_FALSE(parser.parse(good, {}, {}, request));
}

TEST(V2Request, BinaryParts) {
  v2_request_parser parser;
  v2_request request;
  const auto two = [](std::size_t first, std::size_t second) {
    return R"({"inputs":[{"name":"a","datatype":"INT16","shape":[2],"parameters":{"binary_data_size":)" +
           std::to_string(first) +
           R"(}},{"name":"j","datatype":"FP32","shape":[1],"data":[1]},{"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":)" +
           std::to_string(second) + "}}]}";
  };
  const std::string head = two(4, 6);
  ASSERT_EQ(parser.parse(head + "abcd123456", head.size(), {}, request).message, "");
  EXPECT_EQ(request.inputs[0].contents.raw, "abcd");
  EXPECT_EQ(request.inputs[1].contents.held, v2_contents::kind::json);
  EXPECT_EQ(request.inputs[2].contents.raw, "123456");

  struct row {
    std::string head, rest;
    std::size_t length;
    const char* says;
  };
  for (const row& one : {row{head, "abcd12345", head.size(), "only 5 bytes left"},
                         row{head, "abcd1234567", head.size(), "left over"},
                         row{two(5, 5), "abcd123456", two(5, 5).size(), "its shape and datatype need 4"},
                         row{head, "", head.size() + 1, "the body has"},
                         row{head, "abcd123456", head.size() - 1, "not valid JSON"}})
    EXPECT_THAT(parser.parse(one.head + one.rest, one.length, {}, request).message, HasSubstr(one.says))
        << one.says;

  std::optional<std::size_t> length;
  EXPECT_FALSE(read_header_length("12", 12, length));
  EXPECT_EQ(length, 12U);
  for (const char* bad : {"13", "-1", "", "1x", "99999999999999999999", " 1"})
    EXPECT_EQ(read_header_length(bad, 12, length).code, error_code::invalid_json) << bad;
}

TEST(V2Request, ElementsOfShapes) {
  using shape = std::vector<std::int64_t>;
  EXPECT_EQ(v2_elements(shape{}, 10), 1U);
  EXPECT_EQ(v2_elements(shape{2, 5}, 10), 10U);
  EXPECT_EQ(v2_elements(shape{2, 0, 5}, 10), 0U);
  EXPECT_EQ(v2_elements(shape{11}, 10), std::nullopt);
  EXPECT_EQ(v2_elements(shape{2, -5}, 10), std::nullopt);
  EXPECT_EQ(v2_elements(shape{INT64_MAX, INT64_MAX, 4}, SIZE_MAX), std::nullopt);
}

TEST(V2Request, LimitsAtAndOneBeyond) {
  const auto of = [](std::size_t rows) {
    std::string data = "[";
    for (std::size_t i = 0; i < rows * 3; ++i) data += i ? ",1" : "1";
    return json_request("input", "FP32", "[" + std::to_string(rows) + ",3]", data + "]");
  };
  infer_options o;
  o.max_elements = 30;
  EXPECT_EQ(read_v2_text(of(10), "trio", {}, o).r().error_message, "");
  EXPECT_EQ(read_v2_text(of(11), "trio", {}, o).r().error, error_code::too_large);
  o.max_elements = 100;
  o.max_rows = 10;
  EXPECT_EQ(read_v2_text(of(10), "trio", {}, o).r().rows, 10U);
  EXPECT_EQ(read_v2_text(of(11), "trio", {}, o).r().error, error_code::too_large);
  const std::string id(max_request_id_bytes, 'x');
  const auto with_id = [&](const std::string& text) {
    return json_request("input", "FP32", "[1,3]", "[1,2,3]", ",\"id\":\"" + text + "\"");
  };
  EXPECT_EQ(read_v2_text(with_id(id)).r().error_message, "");
  EXPECT_EQ(read_v2_text(with_id(id + "x")).r().error, error_code::invalid_json);
}

TEST(V2Request, HeadOfTheRecord) {
  infer_options o;
  o.class_targets = {100, 200, 300};
  o.default_class = 1;
  o.expiry = 1000;
  auto b = read_v2_text(json_request("input", "FP32", "[3]", "[1,2,3]"), "trio", {}, o);
  EXPECT_EQ(b.r().request_id, "\"made\"");
  EXPECT_FALSE(b.own_id);
  EXPECT_EQ(b.r().cls, 1);
  EXPECT_EQ(b.r().target, arrived + 200);
  EXPECT_EQ(b.r().expiry, arrived + 1000);
  EXPECT_EQ(b.r().model->version(), "3");
  EXPECT_TRUE(b.r().list && b.r().parsed);
  b = read_v2_text(json_request("input", "FP32", "[3]", "[1,2,3]",
                                R"(,"id":"q\"","parameters":{"priority":9,"timeout":2})"),
                   "trio", {}, o, "v1");
  EXPECT_EQ(b.r().request_id, R"("q\"")");
  EXPECT_TRUE(b.own_id);
  EXPECT_EQ(b.r().cls, 2);
  EXPECT_EQ(b.r().target, arrived + 300);
  EXPECT_EQ(b.r().expiry, arrived + 2000);
  EXPECT_EQ(b.r().model->version(), "1");
}

TEST(V2Request, NoOtherVersionStandsIn) {
  const auto b = read_v2_text(good, "trio", {}, {}, "7");
  EXPECT_EQ(b.r().error, error_code::model_not_found);
  EXPECT_THAT(std::string(b.r().error_message),
              HasSubstr("version '7' of model 'trio' is not loaded; loaded: 1, 3"));
  EXPECT_EQ(b.r().model, nullptr);
  // A model that is not there comes before what is wrong with the body.
  EXPECT_EQ(read_v2_text("{", "none").r().error, error_code::model_not_found);
}

}  // namespace
}  // namespace troupe::codec

// V2's answers: JSON, binary, output by output; and what metadata says of models.
#include "runtime/codec/v2_response.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/codec/v2_metadata.hpp"
#include "v2_support.hpp"

namespace troupe::codec {
namespace {

using namespace troupe::codec::testing;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct answered {
  std::string body;
  std::optional<std::size_t> header;
  bool ok = false;
};

answered answer(std::string_view model, std::size_t rows, const std::vector<double>& outputs,
                const std::string& more = {}, std::string_view explanation = {}) {
  std::string data = "[";
  for (std::size_t i = 0; i < rows * 2; ++i) data += i ? ",1" : "1";
  auto b = read_v2_text(json_request("input", "FP32", "[" + std::to_string(rows) + ",2]", data + "]", more),
                        model);
  EXPECT_EQ(b.r().error_message, "");
  answered a;
  a.ok = b.tools.writer.write(a.body, b.r(),
                              {outputs.data(), b.own_id ? b.r().request_id : std::string_view(), explanation},
                              b.plan, a.header);
  return a;
}

TEST(V2Response, Json) {
  EXPECT_EQ(
      answer("iris", 2, {0.1, 0.7, 0.2, 1.0000001, -0.0000001, 0}).body,
      R"({"model_name":"iris","model_version":"1","outputs":[{"name":"probabilities","datatype":"FP32","shape":[2,3],)"
      R"("data":[0.1,0.7,0.2,1,0,0]},{"name":"predicted_class","datatype":"BYTES","shape":[2],)"
      R"("data":["versi\"color","setosa"]}]})");
  EXPECT_EQ(
      answer("two", 1, {0.1, 1e22}, R"(,"id":"q\"")").body,
      R"({"model_name":"two","model_version":"1","id":"q\"","outputs":[{"name":"prediction","datatype":"FP64",)"
      R"("shape":[1,2],"data":[0.1,1e+22]}]})");
  EXPECT_EQ(json::parse(answer("parted", 1, {1, 2, 3}).body)["outputs"], json::parse(R"([
      {"name":"mean","datatype":"FP64","shape":[1],"data":[1.0]},
      {"name":"range","datatype":"FP64","shape":[1,2],"data":[2.0,3.0]}])"));
  EXPECT_EQ(json::parse(answer("ranked", 1, {0.25, 0.5, 0.25}).body)["outputs"], json::parse(R"([
      {"name":"top_k_probabilities","datatype":"FP32","shape":[1,2],"data":[0.5,0.25]},
      {"name":"top_k_classes","datatype":"BYTES","shape":[1,2],"data":["versi\"color","setosa"]},
      {"name":"predicted_class","datatype":"BYTES","shape":[1],"data":["versi\"color"]}])"));
}

TEST(V2Response, ExplanationGoesToTheParameters) {
  const auto a = json::parse(answer("two", 1, {1, 2}, {}, R"(,"explanation":[[{"base":1}]])").body);
  EXPECT_EQ(a["parameters"]["explanation"][0][0]["base"], 1);
}

TEST(V2Response, BinaryIsWhatJsonSays) {
  const std::vector<double> outputs = {0.1, 0.7, 0.2, 0.5, 0.25, 0.25};
  const auto plain = json::parse(answer("iris", 2, outputs).body);
  const auto a = answer("iris", 2, outputs, R"(,"parameters":{"binary_data_output":true})");
  ASSERT_TRUE(a.header);
  const auto head = json::parse(a.body.substr(0, *a.header));
  std::string rest = a.body.substr(*a.header);
  ASSERT_EQ(head["outputs"][0]["parameters"]["binary_data_size"], 24);
  std::vector<float> floats(6);
  std::memcpy(floats.data(), rest.data(), 24);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(floats[i], plain["outputs"][0]["data"][i].get<float>());
  rest.erase(0, 24);
  EXPECT_EQ(rest, bytes_of_texts({"versi\"color", "setosa"}));
  EXPECT_EQ(head["outputs"][1]["parameters"]["binary_data_size"], rest.size());
  EXPECT_FALSE(head["outputs"][0].contains("data"));
  // One binary, one not; in the order asked for.
  const auto mixed = answer("iris", 2, outputs, R"(,"outputs":[{"name":"predicted_class"},
      {"name":"probabilities","parameters":{"binary_data":true}}])");
  const auto j = json::parse(mixed.body.substr(0, *mixed.header));
  EXPECT_EQ(j["outputs"][0]["data"][1], "setosa");
  EXPECT_EQ(mixed.body.size() - *mixed.header, 24U);
  const auto wide = answer("parted", 1, {1, 2, 3}, R"(,"parameters":{"binary_data_output":true})");
  EXPECT_EQ(wide.body.substr(*wide.header), bytes_of<double>({1, 2, 3}));
}

TEST(V2Response, Classification) {
  const std::string wish = R"(,"outputs":[{"name":"probabilities","parameters":{"classification":2}}])";
  EXPECT_EQ(json::parse(answer("iris", 2, {0.1, 0.7, 0.2, 0.5, 0, 0.5}, wish).body)["outputs"],
            json::parse(R"([
      {"name":"probabilities","datatype":"BYTES","shape":[2,2],
       "data":["0.7:1:versi\"color","0.2:2:virginica","0.5:0:setosa","0.5:2:virginica"]}])"));
  EXPECT_EQ(json::parse(answer("two", 1, {1, 2},
                               R"(,"outputs":[{"name":"prediction","parameters":{"classification":9}}])")
                            .body)["outputs"][0]["data"],
            json::parse(R"(["2:1","1:0"])"));
  const auto refused = read_v2_text(
      json_request("input", "FP32", "[1,2]", "[1,2]",
                   R"(,"outputs":[{"name":"predicted_class","parameters":{"classification":2}}])"),
      "iris");
  EXPECT_EQ(refused.r().error, error_code::invalid_features);
}

TEST(V2Response, UnknownOutputs) {
  const auto b = read_v2_text(
      json_request("input", "FP32", "[1,2]", "[1,2]", R"(,"outputs":[{"name":"probabilitys"}])"), "iris");
  EXPECT_THAT(
      std::string(b.r().error_message),
      HasSubstr("'probabilitys' is not an output of model iris version 1; did you mean 'probabilities'?"));
}

TEST(V2Response, NotFiniteIsNoAnswer) {
  const auto a = answer("two", 1, {1, std::nan("")});
  EXPECT_FALSE(a.ok);
  EXPECT_EQ(a.body, "");
}

TEST(V2Response, OutputByOutput) {
  auto b = read_v2_text(json_request("input", "FP32", "[2,2]", "[1,2,3,4]"), "iris");
  const std::vector<double> outputs = {0.5, 0.25, 0.25, 0, 0, 1};
  ASSERT_EQ(b.plan.items.size(), 2U);
  const auto first = b.tools.writer.describe(b.r(), b.plan.items[0]);
  EXPECT_EQ(first.name, "probabilities");
  EXPECT_EQ(first.type, v2_type::fp32);
  EXPECT_THAT(first.shape, ElementsAre(2, 3));
  std::string raw;
  b.tools.writer.append_raw(raw, b.r(), outputs.data(), b.plan.items[0]);
  EXPECT_EQ(raw, bytes_of<float>({0.5, 0.25, 0.25, 0, 0, 1}));
  EXPECT_THAT(b.tools.writer.describe(b.r(), b.plan.items[1]).shape, ElementsAre(2));
  raw.clear();
  b.tools.writer.append_raw(raw, b.r(), outputs.data(), b.plan.items[1]);
  EXPECT_EQ(raw, bytes_of_texts({"setosa", "virginica"}));
}

TEST(V2Response, Errors) {
  EXPECT_EQ(v2_error("a \"b\"\n\xff"), "{\"error\":\"a \\\"b\\\"\\n\xef\xbf\xbd\"}");
}

TEST(V2Response, InputsAndOutputsOfModels) {
  const auto models = v2_models();
  const auto tensors = [&](const char* name) { return v2_inputs_of(*models->find(name, "").model); };
  EXPECT_EQ(tensors("trio")[0].name, "input");
  EXPECT_THAT(tensors("trio")[0].shape, ElementsAre(-1, 3));
  ASSERT_EQ(tensors("kinds").size(), 2U);
  EXPECT_EQ(tensors("kinds")[1].type, v2_type::bytes);
  EXPECT_THAT(tensors("grid")[0].shape, ElementsAre(-1, 2, 2));
  EXPECT_EQ(tensors("both")[1].type, v2_type::bytes);
}

TEST(V2Metadata, Bodies) {
  EXPECT_EQ(json::parse(v2_server_metadata({.version = "1.2"}))["version"], "1.2");
  const v2_model_stats stats[] = {{.name = "m", .version = "1", .inference_count = 7, .success = {3, 900}}};
  const auto s = json::parse(v2_statistics(stats));
  EXPECT_EQ(s["model_stats"][0]["inference_stats"]["success"]["ns"], 900);
  EXPECT_TRUE(s["model_stats"][0]["batch_stats"].is_array());
  const v2_index_entry index[] = {{"m", "1", "READY", ""}, {"n", "", "", ""}};
  EXPECT_EQ(
      json::parse(v2_repository_index(index)),
      json::parse(R"([{"name":"m","version":"1","state":"READY","reason":""},{"name":"n","reason":""}])"));
  EXPECT_EQ(v2_repository_index({}), "[]");
  EXPECT_EQ(v2_statistics({}), R"({"model_stats":[]})");
}

}  // namespace
}  // namespace troupe::codec

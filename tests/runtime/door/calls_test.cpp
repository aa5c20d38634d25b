// Calls over exchanges: requests as they come in, replies as they go out.
#include "runtime/door/calls.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "runtime/model/model.hpp"

namespace troupe::serving {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class fake_exchange final : public http::exchange {
 public:
  fake_exchange(std::string body, std::vector<http::field_view> headers)
      : body_(std::move(body)), headers_(std::move(headers)) {
    view_.method = "POST";
    view_.headers = headers_;
    view_.body = body_;
    view_.correlation_id = "corr-1";
    view_.arrived = 900;
  }
  const http::request_view& request() const override { return view_; }
  void reply(http::response&& what) override {
    ++replies;
    answer = std::move(what);
  }
  bool gone() const override { return closed; }

  http::response answer;
  int replies = 0;
  bool closed = false;

 private:
  std::string body_;
  std::vector<http::field_view> headers_;
  http::request_view view_;
};

std::shared_ptr<const model::model_table> models(bool split = false) {
  std::vector<std::shared_ptr<const model::loaded_model>> all;
  for (const std::string version : {"1", "2"}) {
    model::loaded_model::parts p;
    p.name = std::string("iris");
    p.version = version;
    p.schema = model::schema({{"petal", false}, {"sepal", true}}, true);
    p.output = {model::task::classification, 2, {"yes", "no"}};
    all.push_back(std::make_shared<const model::loaded_model>(std::move(p)));
  }
  model::loaded_model::parts p;
  p.name = std::string("file");
  p.version = std::string("1");
  p.schema = model::schema({{"x", model::tensor_input::kind::bytes, {}, 0, 1}});
  all.push_back(std::make_shared<const model::loaded_model>(std::move(p)));
  model::model_table::options o;
  o.default_model = split ? "file" : "iris";
  if (split) {
    o.default_model = "iris";
    o.production["iris"] = "1";
    o.splits["iris"] = {7, "2", policy::route(policy::rollout_strategy::header, 0, "iris"), "X-Beta=on"};
  }
  return std::make_shared<const model::model_table>(std::move(all), o);
}

struct made {
  std::shared_ptr<fake_exchange> exchange;
  std::unique_ptr<call> one;
  batch_ptr batch = batch_ptr::make();
  const record& r() const { return batch->records[0]; }
  const http::response& answer() const { return exchange->answer; }
  json body() const { return json::parse(exchange->answer.body); }

  void read(std::shared_ptr<const model::model_table> table = models()) {
    batch->models = std::move(table);
    batch->via = door::http;
    batch->arrived = 1000;
    batch->arrived_ms = 1'731'650'000'123;
    record& r = batch->records.emplace_back();
    r.batch = batch.get();
    one->read(r, *batch);
    if (r.error != error_code::none) one->fail(r, {r.error, r.error_message});
  }
};

door_options_ptr options() {
  auto o = std::make_shared<door_options>();
  o->deployment = "blue";
  o->infer.class_targets = {100, 200};
  return o;
}

made v2(std::string body, std::vector<http::field_view> headers = {}, std::string model = "iris",
        std::string version = {}) {
  made m;
  m.exchange = std::make_shared<fake_exchange>(std::move(body), std::move(headers));
  m.one = make_v2_call(m.exchange, options(), std::move(model), std::move(version));
  return m;
}

made v1(std::string body, std::string model) {
  made m;
  m.exchange = std::make_shared<fake_exchange>(std::move(body), std::vector<http::field_view>());
  m.one = make_invocations_call(m.exchange, options(), std::move(model));
  return m;
}

made plain(bool score, std::string body, std::vector<http::field_view> headers = {}) {
  made m;
  m.exchange = std::make_shared<fake_exchange>(std::move(body), std::move(headers));
  m.one = score ? make_score_call(m.exchange, options()) : make_invocations_call(m.exchange, options());
  return m;
}

const std::string one_row =
    R"({"id":"7","inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","data":[1,2]}]})";
const double probabilities[] = {0.25, 0.75};

TEST(Calls, V1IsWhatInvocationsAreByTheModelOfThePath) {
  auto m = v1(R"({"instances":[[1,2]]})", "iris");
  m.read();
  ASSERT_EQ(m.r().error, error_code::none) << m.r().error_message;
  EXPECT_EQ(m.r().model->name(), "iris");
  call_result result;
  result.outputs = probabilities;
  m.one->reply(m.r(), result);
  EXPECT_EQ(m.answer().status, 200);
  ASSERT_EQ(m.body()["predictions"].size(), 1U) << m.body();
  EXPECT_EQ(m.body().size(), 1U);

  auto lost = v1(R"({"instances":[[1,2]]})", "nobody");
  lost.read();
  EXPECT_EQ(lost.answer().status, 404);
  EXPECT_THAT(lost.body()["error"].get<std::string>(), HasSubstr("nobody"));
  auto wrong = v1(R"({"instances":[[1,2,3]]})", "iris");
  wrong.read();
  EXPECT_EQ(wrong.answer().status, 400);
}

TEST(Calls, ATextOfAnotherTypeIsToldWhereItBelongs) {
  struct row {
    bool score;
    const char *type, *body, *says;
  };
  for (const row& r :
       std::vector<row>{{true, "text/csv", "a,b\n1,2\n", "/score takes JSON: POST text/csv to /invocations"},
                        {false, "application/x-www-form-urlencoded", "a,b\n1,2\n",
                         "CSV is read with Content-Type: text/csv"}}) {
    auto m = plain(r.score, r.body, {{"Content-Type", r.type}});
    m.read();
    EXPECT_EQ(m.r().error, error_code::invalid_json);
    EXPECT_NE(m.r().error_message.find(r.says), std::string_view::npos) << m.r().error_message;
  }
}

TEST(Calls, V2Json) {
  auto m = v2(one_row);
  m.read();
  ASSERT_EQ(m.r().error_message, "");
  EXPECT_EQ(m.r().rows, 1U);
  EXPECT_EQ(m.r().target, 900 + 100);
  EXPECT_EQ(m.r().expiry, 900 + 30'000'000'000);
  m.one->reply(m.r(), {probabilities, 0, {}});
  EXPECT_EQ(m.answer().status, 200);
  EXPECT_EQ(m.answer().content_type, "application/json");
  EXPECT_EQ(m.body()["id"], "7");
  EXPECT_EQ(m.body()["model_version"], "2");
  EXPECT_EQ(m.body()["outputs"][1]["data"][0], "no");
  EXPECT_EQ(m.exchange->replies, 1);
}

TEST(Calls, V2BinaryBothWays) {
  const std::string head =
      R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]})";
  const std::string length = std::to_string(head.size());
  auto m = v2(head + std::string("\0\0\x80\x3f\0\0\0\x40", 8), {{"Inference-Header-Content-Length", length}});
  m.read();
  ASSERT_EQ(m.r().error_message, "");
  EXPECT_EQ(m.batch->values, (std::vector<double>{1, 2}));
  m.one->reply(m.r(), {probabilities, 0, {}});
  EXPECT_EQ(m.answer().content_type, "application/octet-stream");
  ASSERT_EQ(m.answer().headers.size(), 1U);
  EXPECT_EQ(m.answer().headers[0].first, "Inference-Header-Content-Length");
  const auto at = static_cast<std::size_t>(std::stoul(m.answer().headers[0].second));
  const auto j = json::parse(m.answer().body.substr(0, at));
  EXPECT_FALSE(j.contains("id"));
  EXPECT_EQ(m.answer().body.size() - at, 8U + 4U + 2U);

  auto bad = v2(one_row, {{"inference-header-content-length", "x"}});
  bad.read();
  EXPECT_EQ(bad.answer().status, 400);
}

TEST(Calls, V2JsonIsNeverTakenForRawData) {
  // As long as a row or two: any such text is also some numbers.
  const std::string text =
      R"({"inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","data":[1,2]}]}      )";
  ASSERT_EQ(text.size() % 8, 0U);
  auto m = v2(text, {{"Inference-Header-Content-Length", "0"}, {"Content-Type", "application/json"}});
  m.read();
  EXPECT_EQ(m.answer().status, 400);
  EXPECT_THAT(m.body()["error"].get<std::string>(), HasSubstr("says that the body is raw data"));
  auto raw = v2(std::string(8, '\0'), {{"Inference-Header-Content-Length", "0"}});
  raw.read();
  EXPECT_EQ(raw.r().error_message, "");
}

TEST(Calls, V2Errors) {
  struct row {
    std::string body, model, version;
    int status;
  };
  for (const row& one :
       {row{"{", "iris", "", 400}, row{one_row, "rose", "", 404}, row{one_row, "iris", "9", 404},
        row{R"({"inputs":[{"name":"input","shape":[50001,2],"datatype":"FP32","data":[]}]})", "iris", "",
            413},
        row{R"({"inputs":[{"name":"input","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]})", "iris", "",
            400}}) {
    auto m = v2(one.body, {}, one.model, one.version);
    m.read();
    EXPECT_EQ(m.answer().status, one.status) << one.body;
    EXPECT_TRUE(m.body()["error"].is_string());
    EXPECT_EQ(m.exchange->replies, 1);
  }
}

TEST(Calls, FailuresAndTheirStatus) {
  for (const auto& [code, status] : {std::pair{error_code::deadline_exceeded, 504},
                                     {error_code::model_failed, 500},
                                     {error_code::unavailable, 503}}) {
    auto m = v2(one_row);
    m.read();
    m.one->fail(m.r(), {code, "why", 1'500'000'000});
    EXPECT_EQ(m.answer().status, status);
    EXPECT_EQ(m.body()["error"], "why");
    const http::header_list wait = {{"Retry-After", "2"}};
    EXPECT_EQ(m.answer().headers, status == 503 ? wait : http::header_list());
  }
  auto m = v2(one_row);
  m.read();
  const double broken[] = {std::nan(""), 1};
  m.one->reply(m.r(), {broken, 0, {}});
  EXPECT_EQ(m.answer().status, 500);
  EXPECT_EQ(m.exchange->replies, 1);
}

TEST(Calls, GoneIsWhatTheExchangeSays) {
  auto m = v2(one_row);
  EXPECT_FALSE(m.one->gone());
  m.exchange->closed = true;
  EXPECT_TRUE(m.one->gone());
}

TEST(Calls, ARolloutByHeader) {
  const auto version = [](std::vector<http::field_view> headers) {
    auto m = v2(one_row, std::move(headers));
    m.read(models(true));
    return m.r().model == nullptr ? std::string() : m.r().model->version();
  };
  EXPECT_EQ(version({}), "1");
  EXPECT_EQ(version({{"x-beta", "on"}}), "2");
  EXPECT_EQ(version({{"x-beta", "off"}}), "1");
}

TEST(Calls, Score) {
  auto m = plain(true, R"({"data":[[1,2],[3,null]]})");
  m.read();
  ASSERT_EQ(m.r().error_message, "");
  const double outputs[] = {1, 0, 0, 1};
  m.one->reply(m.r(), {outputs, 2'000'000, {}});
  EXPECT_EQ(m.answer().status, 200);
  EXPECT_EQ(m.body(),
            json::parse(R"({"predictions":["yes","no"],"metadata":{"model_name":"iris","model_version":"2",
    "deployment":"blue","request_id":"corr-1","inference_time_ms":2,"timestamp":"2024-11-15T05:53:20.123Z",
    "num_predictions":2}})"));
  auto bad = plain(true, R"({"data":[[1]]})");
  bad.read();
  EXPECT_EQ(bad.answer().status, 400);
  EXPECT_EQ(bad.body()["trace"], "validate");
  EXPECT_EQ(bad.body()["metadata"]["request_id"], "corr-1");
}

TEST(Calls, ScoreTakesBytesWhereTheModelDoes) {
  auto table = [] {
    model::loaded_model::parts p;
    p.name = std::string("file");
    p.version = std::string("1");
    p.schema = model::schema({{"x", model::tensor_input::kind::bytes, {}, 0, 1}});
    p.output = {model::task::classification, 3, {"cat", "dog", "cow"}};
    p.output.top_k = 2;
    return std::make_shared<const model::model_table>(
        std::vector<std::shared_ptr<const model::loaded_model>>{
            std::make_shared<const model::loaded_model>(std::move(p))},
        model::model_table::options{});
  }();
  auto m = plain(true, "\x89PNG", {{"Content-Type", "image/png"}});
  m.read(table);
  EXPECT_EQ(m.r().error_message, "");
  EXPECT_EQ(m.r().rows, 1U);
  const double scores[] = {0.25, 0.5, 0.125};
  m.one->reply(m.r(), {scores, 0, {}});
  EXPECT_EQ(m.body()["predictions"], json({"dog"}));
  EXPECT_EQ(m.body()["top_k"],
            json::parse(R"([[{"class":"dog","probability":0.5},{"class":"cat","probability":0.25}]])"));

  const std::string form =
      "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"x\"\r\n\r\n\x89PNG\r\n--b--\r\n";
  auto uploaded = plain(true, form, {{"Content-Type", "multipart/form-data; boundary=b"}});
  uploaded.read(table);
  EXPECT_EQ(uploaded.r().error_message, "");
  EXPECT_EQ(uploaded.r().value, "\x89PNG");
  auto broken = plain(true, form, {{"Content-Type", "multipart/form-data; boundary=c"}});
  broken.read(table);
  EXPECT_EQ(broken.answer().status, 400);
  EXPECT_EQ(broken.body()["trace"], "parse");

  for (const char* type : {"image/jpeg", "multipart/form-data; boundary=b"}) {
    auto wrong = plain(true, form, {{"Content-Type", type}});
    wrong.read();
    EXPECT_EQ(wrong.answer().status, 400);
    EXPECT_THAT(wrong.body()["error"].get<std::string>(), HasSubstr("models that take bytes"));
  }
  // Many a client says so of its JSON.
  auto json_after_all = plain(true, R"({"data":[[1,2]]})", {{"Content-Type", "application/octet-stream"}});
  json_after_all.read();
  EXPECT_EQ(json_after_all.r().error_message, "");
}

TEST(Calls, Invocations) {
  auto m = plain(false, "sepal,petal\n2,1\n", {{"content-type", "Text/CSV; charset=utf-8"}});
  m.read();
  ASSERT_EQ(m.r().error_message, "");
  EXPECT_EQ(m.batch->values, (std::vector<double>{1, 2}));
  m.one->reply(m.r(), {probabilities, 0, {}});
  EXPECT_EQ(m.answer().body, R"({"predictions":["no"]})");
  auto j = plain(false, R"({"instances":[[1,2]]})");
  j.read();
  EXPECT_EQ(j.r().error_message, "");
  auto bad = plain(false, "{}");
  bad.read();
  EXPECT_EQ(bad.answer().status, 400);
}

}  // namespace
}  // namespace troupe::serving

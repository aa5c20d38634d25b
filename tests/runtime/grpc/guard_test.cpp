// What the guard refuses, over a real gRPC connection: unary calls, streams, pages.
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "inference.grpc.pb.h"
#include "runtime/grpc/server.hpp"
#include "runtime/guard/guard.hpp"
#include "runtime/model/model.hpp"

namespace troupe::rpc {
namespace {

using api = inference::GRPCInferenceService;
using metadata = std::vector<std::pair<std::string, std::string>>;

std::shared_ptr<const model::model_table> two_models() {
  std::vector<std::shared_ptr<const model::loaded_model>> all;
  for (const char* name : {"iris", "churn"}) {
    model::loaded_model::parts p;
    p.name = std::string(name);
    p.version = std::string("1");
    p.schema = model::schema({{"petal", false}, {"sepal", false}}, true);
    p.output = {model::task::classification, 2, {"yes", "no"}};
    all.push_back(std::make_shared<const model::loaded_model>(std::move(p)));
  }
  model::model_table::options o;
  o.default_model = "iris";
  return std::make_shared<const model::model_table>(std::move(all), o);
}

class two_model_backend final : public serving::backend {
 public:
  bool live() const override { return true; }
  bool ready() const override { return true; }
  std::shared_ptr<const model::model_table> models() const override { return table_; }
  serving::model_state state_of(const model::loaded_model&) const override { return {}; }
  std::vector<codec::v2_model_stats> statistics(std::string_view name, std::string_view) const override {
    std::vector<codec::v2_model_stats> all;
    for (const char* one : {"iris", "churn"}) {
      if (!name.empty() && name != one) continue;
      all.emplace_back();
      all.back().name = std::string(one);
      all.back().version = std::string("1");
    }
    return all;
  }
  std::vector<codec::v2_index_entry> index(bool) const override {
    return {{"iris", "1", "READY", ""}, {"churn", "1", "READY", ""}};
  }
  command_result load(std::string_view, std::string_view) override { return {}; }
  command_result unload(std::string_view, std::string_view) override { return {}; }

 private:
  std::shared_ptr<const model::model_table> table_ = two_models();
};

guard::client_entry entry(const char* name, const char* key) {
  guard::client_entry c;
  c.name = name;
  c.keys.push_back(guard::sha256(key));
  return c;
}

/// A server that gives every row the same answer.
class guarded : public ::testing::Test {
 protected:
  void begin(guard::guard_options o) {
    auto rules = std::make_shared<serving::caller_rules>();
    guard::guard_ports ports;
    ports.refused = [this](door via, guard::refusal why) {
      EXPECT_EQ(via, door::grpc);
      ++refused_[why];
    };
    keeper_ = std::make_shared<guard::gatekeeper>(std::move(o), std::move(ports));
    rules->keeper = keeper_;
    rules->class_names = {"interactive", "bulk"};
    rules->via = door::grpc;
    server_options options;
    options.bind = "127.0.0.1";
    options.infer.class_targets = {1'000'000'000, 2'000'000'000};
    options.guard = rules;
    server_ = std::make_unique<server>(options, backend_);
    server_->start([this](std::size_t, std::vector<std::unique_ptr<call>> calls) {
      for (auto& one : calls) answer(*one);
    });
    stub_ = api::NewStub(::grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                                               ::grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    stub_.reset();
    if (server_) server_->stop(std::chrono::milliseconds(100));
  }

  void answer(call& one) {
    auto batch = batch_ptr::make();
    batch->models = backend_->models();
    batch->via = door::grpc;
    batch->arrived = 1'000;
    record& r = batch->records.emplace_back();
    r.batch = batch.get();
    one.read(r, *batch);
    if (r.error != error_code::none) return one.fail(r, {r.error, r.error_message});
    const std::vector<double> outputs(r.rows * 2, 0.5);
    call_result result;
    result.outputs = outputs.data();
    one.reply(r, result);
  }

  static inference::ModelInferRequest request(const std::string& model, int priority = 0) {
    inference::ModelInferRequest r;
    r.set_model_name(model);
    auto& in = *r.add_inputs();
    in.set_name("input");
    in.set_datatype("FP64");
    in.add_shape(1);
    in.add_shape(2);
    in.mutable_contents()->add_fp64_contents(1);
    in.mutable_contents()->add_fp64_contents(2);
    if (priority) (*r.mutable_parameters())["priority"].set_int64_param(priority);
    return r;
  }
  static std::unique_ptr<::grpc::ClientContext> with(const metadata& fields) {
    auto c = std::make_unique<::grpc::ClientContext>();
    for (const auto& [name, value] : fields) c->AddMetadata(name, value);
    return c;
  }
  ::grpc::Status infer(const metadata& fields, const std::string& model = "iris", int priority = 0) {
    last_ = with(fields);
    inference::ModelInferResponse response;
    return stub_->ModelInfer(last_.get(), request(model, priority), &response);
  }

  std::shared_ptr<two_model_backend> backend_ = std::make_shared<two_model_backend>();
  std::shared_ptr<guard::gatekeeper> keeper_;
  std::unique_ptr<server> server_;
  std::unique_ptr<api::Stub> stub_;
  std::unique_ptr<::grpc::ClientContext> last_;
  std::map<guard::refusal, int> refused_;
};

const metadata one = {{"x-api-key", "tk_one"}}, two = {{"authorization", "Bearer tk_two"}};

guard::guard_options required() {
  guard::guard_options o;
  o.required = true;
  o.clients = {entry("one", "tk_one"), entry("two", "tk_two")};
  o.clients[1].models = {"churn"};
  o.clients[1].classes = {"interactive"};
  return o;
}

TEST_F(guarded, calls_need_a_key) {
  begin(required());
  EXPECT_EQ(infer({}).error_code(), ::grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(infer({{"x-api-key", "tk_none"}}).error_code(), ::grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(infer(one).ok());
  EXPECT_TRUE(infer({{"authorization", "Bearer tk_one"}}).ok());
  EXPECT_EQ(refused_[guard::refusal::no_credentials], 1);
  EXPECT_EQ(refused_[guard::refusal::bad_key], 1);
}

TEST_F(guarded, clients_use_what_they_may) {
  begin(required());
  EXPECT_TRUE(infer(two, "churn").ok());
  for (const char* model : {"iris", "", "no-such-model"})
    EXPECT_EQ(infer(two, model).error_code(), ::grpc::StatusCode::PERMISSION_DENIED) << model;
  EXPECT_EQ(infer(two, "churn", 2).error_code(), ::grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(refused_[guard::refusal::client_class], 1);
  inference::ModelReadyRequest page;
  inference::ModelReadyResponse said;
  page.set_name("churn");
  EXPECT_TRUE(stub_->ModelReady(with(two).get(), page, &said).ok());
  page.set_name("iris");
  EXPECT_EQ(stub_->ModelReady(with(two).get(), page, &said).error_code(),
            ::grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(stub_->ModelReady(with({}).get(), page, &said).error_code(), ::grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(guarded, lists_have_what_the_client_may_use) {
  begin(required());
  const auto names = [&](const metadata& who) {
    std::vector<std::string> all;
    inference::RepositoryIndexResponse index;
    EXPECT_TRUE(stub_->RepositoryIndex(with(who).get(), {}, &index).ok());
    for (const auto& m : index.models()) all.push_back(m.name());
    inference::ModelStatisticsResponse stats;
    EXPECT_TRUE(stub_->ModelStatistics(with(who).get(), {}, &stats).ok());
    for (const auto& m : stats.model_stats()) all.push_back(m.name());
    return all;
  };
  EXPECT_EQ(names(one), (std::vector<std::string>{"iris", "churn", "iris", "churn"}));
  EXPECT_EQ(names(two), (std::vector<std::string>{"churn", "churn"}));
}

TEST_F(guarded, administrators_load_what_they_may_use) {
  auto o = required();
  o.clients[1].admin = true;
  begin(o);
  inference::RepositoryModelLoadRequest load;
  inference::RepositoryModelLoadResponse loaded;
  inference::RepositoryModelUnloadRequest unload;
  inference::RepositoryModelUnloadResponse unloaded;
  for (const auto& [model, expected] : {std::pair{"churn", ::grpc::StatusCode::OK},
                                        std::pair{"iris", ::grpc::StatusCode::PERMISSION_DENIED}}) {
    load.set_model_name(model);
    unload.set_model_name(model);
    EXPECT_EQ(stub_->RepositoryModelLoad(with(two).get(), load, &loaded).error_code(), expected) << model;
    EXPECT_EQ(stub_->RepositoryModelUnload(with(two).get(), unload, &unloaded).error_code(), expected)
        << model;
  }
}

TEST_F(guarded, health_is_exempt_and_loading_is_for_administrators) {
  auto o = required();
  o.clients[0].admin = true;
  begin(o);
  inference::ServerLiveResponse live;
  EXPECT_TRUE(stub_->ServerLive(with({}).get(), {}, &live).ok());
  inference::RepositoryModelLoadRequest load;
  inference::RepositoryModelLoadResponse loaded;
  EXPECT_TRUE(stub_->RepositoryModelLoad(with(one).get(), load, &loaded).ok());
  EXPECT_EQ(stub_->RepositoryModelLoad(with(two).get(), load, &loaded).error_code(),
            ::grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(guarded, rates_are_told_with_the_time_to_wait) {
  guard::guard_options o;
  o.limited = true;
  o.per_minute = 1;
  o.burst = 2;
  begin(o);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_TRUE(infer({}).ok());
  EXPECT_TRUE(infer({}).ok());
  const auto s = infer({});
  const auto gone = std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
  EXPECT_EQ(s.error_code(), ::grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto& trailing = last_->GetServerTrailingMetadata();
  const auto found = trailing.find("retry-after");
  ASSERT_NE(found, trailing.end());
  EXPECT_GT(std::stoi(std::string(found->second.data(), found->second.size())), 59 - gone);
  EXPECT_NE(s.error_details().find("RetryInfo"), std::string::npos);
}

TEST_F(guarded, requests_of_a_stream_are_asked_about_one_by_one) {
  auto o = required();
  o.limited = true;
  o.clients[0].per_minute = 1;
  o.clients[0].burst = 3;  // the stream's beginning is one
  begin(o);
  auto context = with(one);
  auto stream = stub_->ModelStreamInfer(context.get());
  std::vector<bool> good;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(stream->Write(request("iris")));
    inference::ModelStreamInferResponse said;
    ASSERT_TRUE(stream->Read(&said));
    good.push_back(said.error_message().empty());
  }
  EXPECT_EQ(good, (std::vector<bool>{true, true, false, false}));
  auto gone = o;
  gone.clients.erase(gone.clients.begin());
  keeper_->reload(gone);
  ASSERT_TRUE(stream->Write(request("iris")));
  inference::ModelStreamInferResponse said;
  EXPECT_FALSE(stream->Read(&said)) << "a client that is not known any more";
  EXPECT_EQ(stream->Finish().error_code(), ::grpc::StatusCode::UNAUTHENTICATED);
  auto nobody = with({});
  auto refused = stub_->ModelStreamInfer(nobody.get());
  EXPECT_EQ(refused->Finish().error_code(), ::grpc::StatusCode::UNAUTHENTICATED);
}

}  // namespace
}  // namespace troupe::rpc

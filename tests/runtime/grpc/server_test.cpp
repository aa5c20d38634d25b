#include "runtime/grpc/server.hpp"

#include <grpcpp/create_channel.h>
#include <grpcpp/impl/client_unary_call.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "health.grpc.pb.h"
#include "inference.grpc.pb.h"
#include "messages/batch.hpp"
#include "messages/reply_turn.hpp"
#include "reflection.grpc.pb.h"
#include "runtime/model/model.hpp"
#include "runtime/observe/trace.hpp"

namespace troupe::rpc {
namespace {

using ::grpc::StatusCode;
using inference::GRPCInferenceService;
using inference::ModelInferRequest;
using inference::ModelInferResponse;

class sum_engine final : public model::engine {
 public:
  void score(std::span<const double* const>, double*) const override {}
  std::string_view kind() const override { return "sum"; }
};

std::shared_ptr<const model::loaded_model> make(const std::string& name, const std::string& version,
                                                model::output_spec output) {
  model::loaded_model::parts p;
  p.name = name;
  p.version = version;
  p.schema = model::schema({{"a", false}, {"b", false}}, true);
  p.output = std::move(output);
  p.engine = std::make_unique<sum_engine>();
  return std::make_shared<const model::loaded_model>(std::move(p));
}

std::shared_ptr<const model::model_table> two_models() {
  model::output_spec iris{model::task::classification, 3, {"setosa", "versicolor", "virginica"}};
  return std::make_shared<const model::model_table>(
      std::vector{make("sum", "1", {}), make("sum", "2", {}), make("iris", "3", iris)},
      model::model_table::options{});
}

class fake_backend final : public serving::backend {
 public:
  bool live() const override { return true; }
  bool ready() const override { return is_ready; }
  std::shared_ptr<const model::model_table> models() const override { return table; }
  serving::model_state state_of(const model::loaded_model&) const override { return state; }
  std::vector<codec::v2_model_stats> statistics(std::string_view name, std::string_view) const override {
    codec::v2_model_stats s;
    s.name = name;
    s.version = "2";
    s.inference_count = 7;
    s.success = {5, 1000};
    s.batches.push_back({4, {1, 2}, {3, 4}, {5, 6}});
    return {s};
  }
  std::vector<codec::v2_index_entry> index(bool ready_only) const override {
    std::vector<codec::v2_index_entry> all = {{"sum", "2", "READY", ""}};
    if (!ready_only) all.push_back({"broken", "1", "UNAVAILABLE", "no file"});
    return all;
  }
  command_result load(std::string_view name, std::string_view version) override {
    if (name != "sum") return {404, "there is no such model"};
    loaded = version;
    return {};
  }
  command_result unload(std::string_view, std::string_view) override { return {409, "it is in use"}; }

  std::atomic<bool> is_ready{true};
  serving::model_state state;
  std::shared_ptr<const model::model_table> table = two_models();
  std::string loaded;
};

/// Reads and answers calls on a thread of its own: the sum of a row's features, or for a classifier a certain
/// first class. Can be told to keep what it has.
class fake_gateway {
 public:
  explicit fake_gateway(std::shared_ptr<fake_backend> backend) : backend_(std::move(backend)) {}
  ~fake_gateway() { end(); }

  void take(std::vector<std::unique_ptr<call>> calls) {
    const std::lock_guard lock(mutex_);
    for (auto& one : calls) desk_.push_back(std::move(one));
    arrived_ += calls.size();
    wake_.notify_all();
  }
  void hold(bool on) {
    const std::lock_guard lock(mutex_);
    held_ = on;
    wake_.notify_all();
  }
  void fail_with(call_failure why) {
    const std::lock_guard lock(mutex_);
    failure_ = why;
  }
  void wait_for(std::size_t calls) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return arrived_ >= calls; });
  }
  [[nodiscard]] bool first_gone() {
    const std::lock_guard lock(mutex_);
    return !desk_.empty() && desk_.front()->gone();
  }
  [[nodiscard]] bool empty() {
    const std::lock_guard lock(mutex_);
    return desk_.empty();
  }
  void drop() {
    std::deque<std::unique_ptr<call>> dropped;
    const std::lock_guard lock(mutex_);
    dropped.swap(desk_);
  }
  nanos last_expiry() {
    const std::lock_guard lock(mutex_);
    return last_expiry_;
  }
  std::string last_request_id() {
    const std::lock_guard lock(mutex_);
    return last_request_id_;
  }
  void end() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      wake_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return ended_ || (!held_ && !desk_.empty()); });
      if (ended_) return;
      auto one = std::move(desk_.front());
      desk_.pop_front();
      const call_failure failure = failure_;
      lock.unlock();
      auto batch = batch_ptr::make();
      batch->via = door::grpc;
      batch->models = backend_->models();
      batch->arrived = std::chrono::steady_clock::now().time_since_epoch().count();
      batch->arrived_ms = 1;
      record& r = batch->records.emplace_back();
      r.batch = batch.get();
      one->read(r, *batch);
      lock.lock();
      last_expiry_ = r.expiry;
      last_request_id_ = r.request_id;
      lock.unlock();
      if (r.error != error_code::none)
        one->fail(r, {r.error, r.error_message, 0});
      else if (failure.message.data() != nullptr)
        one->fail(r, failure);
      else
        answer(*one, r, *batch);
      one.reset();
      lock.lock();
    }
  }
  static void answer(call& one, const record& r, const record_batch& batch) {
    std::vector<double> out;
    for (std::size_t i = 0; i < r.rows; ++i) {
      const double* row = batch.row(r, i, 2);
      if (r.model->output().kind == model::task::regression)
        out.push_back(row[0] + row[1]);
      else
        out.insert(out.end(), {0.75, 0.25, 0});
    }
    one.reply(r, {out.data(), 0, {}});
  }

  std::shared_ptr<fake_backend> backend_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<call>> desk_;
  std::size_t arrived_ = 0;
  bool held_ = false;
  bool ended_ = false;
  call_failure failure_;
  nanos last_expiry_ = 0;
  std::string last_request_id_;
  std::thread thread_{[this] { run(); }};
};

struct Server : ::testing::Test {
  void start(server_options options = {}) {
    options.bind = "127.0.0.1";
    node = std::make_unique<server>(options, backend);
    node->start(
        [this](std::size_t, std::vector<std::unique_ptr<call>> calls) { desk.take(std::move(calls)); });
    ::grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    channel = ::grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(node->port()),
                                          ::grpc::InsecureChannelCredentials(), arguments);
    stub = GRPCInferenceService::NewStub(channel);
  }
  ::grpc::Status infer(const ModelInferRequest& request) {
    ::grpc::ClientContext context;
    response.Clear();
    return stub->ModelInfer(&context, request, &response);
  }

  std::shared_ptr<fake_backend> backend = std::make_shared<fake_backend>();
  fake_gateway desk{backend};
  std::unique_ptr<server> node;
  std::shared_ptr<::grpc::Channel> channel;
  std::unique_ptr<GRPCInferenceService::Stub> stub;
  ModelInferResponse response;
};

ModelInferRequest typed(const std::string& model, std::vector<float> values, std::int64_t width = 2) {
  ModelInferRequest r;
  r.set_model_name(model);
  r.set_id("id-1");
  auto& in = *r.add_inputs();
  in.set_name("input");
  in.set_datatype("FP32");
  in.add_shape(static_cast<std::int64_t>(values.size()) / width);
  in.add_shape(width);
  for (const float v : values) in.mutable_contents()->add_fp32_contents(v);
  return r;
}

ModelInferRequest raw(const std::string& model, std::vector<float> values, std::int64_t width = 2) {
  ModelInferRequest r = typed(model, values, width);
  r.mutable_inputs(0)->clear_contents();
  r.add_raw_input_contents(values.data(), values.size() * sizeof(float));
  return r;
}

TEST_F(Server, AnswersInTheFormThatWasAsked) {
  start();
  ASSERT_TRUE(infer(typed("sum", {1, 2, 3, 4})).ok());
  EXPECT_EQ(response.model_name(), "sum");
  EXPECT_EQ(response.model_version(), "2");
  EXPECT_EQ(response.id(), "id-1");
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_EQ(response.outputs(0).name(), "prediction");
  EXPECT_EQ(response.outputs(0).datatype(), "FP64");
  EXPECT_EQ(response.outputs(0).shape(0), 2);
  ASSERT_EQ(response.outputs(0).contents().fp64_contents_size(), 2);
  EXPECT_EQ(response.outputs(0).contents().fp64_contents(1), 7);
  EXPECT_EQ(response.raw_output_contents_size(), 0);

  ASSERT_TRUE(infer(raw("iris", {1, 2, 3, 4})).ok());
  ASSERT_EQ(response.raw_output_contents_size(), 2);
  EXPECT_EQ(response.outputs(0).name(), "probabilities");
  float p[6];
  ASSERT_EQ(response.raw_output_contents(0).size(), sizeof p);
  std::memcpy(p, response.raw_output_contents(0).data(), sizeof p);
  EXPECT_EQ(p[3], 0.75F);
  EXPECT_EQ(response.raw_output_contents(1), std::string("\6\0\0\0setosa\6\0\0\0setosa", 20));
  EXPECT_FALSE(response.outputs(0).has_contents());

  auto other = typed("iris", {1, 2});
  other.add_outputs()->set_name("predicted_class");
  ASSERT_TRUE(infer(other).ok());
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_EQ(response.outputs(0).contents().bytes_contents(0), "setosa");
  (*other.mutable_parameters())["binary_data_output"].set_bool_param(true);
  ASSERT_TRUE(infer(other).ok());
  EXPECT_EQ(response.raw_output_contents_size(), 1);
}

TEST_F(Server, Errors) {
  start();
  struct wrong {
    ModelInferRequest request;
    StatusCode code;
    const char* text;
  };
  std::vector<wrong> all = {
      {typed("nobody", {1, 2}), StatusCode::NOT_FOUND, "nobody"},
      {typed("sum", {1, 2, 3}, 3), StatusCode::INVALID_ARGUMENT, "shape"},
      {raw("sum", {1, 2, 3, 4}), StatusCode::INVALID_ARGUMENT, ""},
      {typed("sum", {1, 2}), StatusCode::INVALID_ARGUMENT, "datatype"},
      {typed("sum", {1, 2}), StatusCode::INVALID_ARGUMENT, "priority"},
      {typed("sum", {1, 2}), StatusCode::INVALID_ARGUMENT, "output"},
      {typed("sum", {1, 2}), StatusCode::INVALID_ARGUMENT, "raw_input_contents"},
      {typed("sum", {1, 2}), StatusCode::NOT_FOUND, "9"},
      {typed("sum", std::vector<float>(20'002)), StatusCode::RESOURCE_EXHAUSTED, "rows"},
      {typed("sum", std::vector<float>(100'002)), StatusCode::RESOURCE_EXHAUSTED, "elements"},
      {typed("sum", {1, 2}), StatusCode::INVALID_ARGUMENT, "dimensions"},
  };
  all[2].request.set_raw_input_contents(0, "12345");
  all[3].request.mutable_inputs(0)->set_datatype("FP31");
  (*all[4].request.mutable_parameters())["priority"].set_string_param("high");
  all[5].request.add_outputs()->set_name("nothing");
  all[6].request.add_raw_input_contents("12345678");
  all[7].request.set_model_version("9");
  for (int i = 0; i < 20; ++i) all[10].request.mutable_inputs(0)->add_shape(1);
  for (const auto& one : all) {
    const auto how = infer(one.request);
    EXPECT_EQ(how.error_code(), one.code) << how.error_message();
    EXPECT_NE(how.error_message().find(one.text), std::string::npos) << how.error_message();
  }
}

TEST_F(Server, FailuresOfTheNode) {
  start();
  desk.fail_with({error_code::unavailable, "the breaker is open", 1'500'000'000});
  ::grpc::ClientContext context;
  const auto how = stub->ModelInfer(&context, typed("sum", {1, 2}), &response);
  EXPECT_EQ(how.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(how.error_message(), "the breaker is open");
  const auto& trailing = context.GetServerTrailingMetadata();
  const auto found = trailing.find("retry-after");
  ASSERT_NE(found, trailing.end());
  EXPECT_EQ(found->second, "2");
  EXPECT_NE(how.error_details().find("google.rpc.RetryInfo"), std::string::npos);
  desk.fail_with({error_code::model_failed, "boom", 0});
  EXPECT_EQ(infer(typed("sum", {1, 2})).error_code(), StatusCode::INTERNAL);
  desk.fail_with({error_code::deadline_exceeded, "late", 0});
  EXPECT_EQ(infer(typed("sum", {1, 2})).error_code(), StatusCode::DEADLINE_EXCEEDED);
  while (node->open() != 0) std::this_thread::yield();  // the last of it ends after its reply
}

class collected_spans final : public observe::span_sink {
 public:
  void put(observe::span&& one) override {
    const std::lock_guard lock(mutex_);
    all_.push_back(std::move(one));
    came_.notify_all();
  }
  std::vector<observe::span> wait(std::size_t n) {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, std::chrono::seconds(20), [&] { return all_.size() >= n; });
    return all_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<observe::span> all_;
};

TEST_F(Server, TracesOfRequests) {
  const auto spans = std::make_shared<collected_spans>();
  server_options options;
  options.tracer = observe::tracer::make({}, spans);
  start(std::move(options));
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736", parent = "00f067aa0ba902b7";
  const auto ask = [&](const std::string& flags, const ModelInferRequest& request) {
    ::grpc::ClientContext context;
    context.AddMetadata("traceparent", "00-" + trace + "-" + parent + "-" + flags);
    context.AddMetadata("tracestate", "a=1");
    (void)stub->ModelInfer(&context, request, &response);
    const auto& initial = context.GetServerInitialMetadata();
    const auto found = initial.find("traceresponse");
    return found == initial.end() ? std::string() : std::string(found->second.data(), found->second.size());
  };
  const auto number = [](const observe::span& s) {
    for (const auto& a : s.attributes)
      if (a.name == "rpc.grpc.status_code") return std::get<std::int64_t>(a.value);
    return std::int64_t{-1};
  };
  EXPECT_EQ(ask("00", typed("sum", {1, 2})), "") << "not sampled";
  ASSERT_TRUE(infer(typed("sum", {1, 2})).ok()) << "no parent, and the ratio is 0";
  const std::string said = ask("01", typed("sum", {1, 2}));
  ASSERT_EQ(spans->wait(1).size(), 1U);
  EXPECT_EQ(ask("01", typed("nobody", {1, 2})).size(), said.size());
  desk.fail_with({error_code::unavailable, "the breaker is open", 0});
  (void)ask("01", typed("sum", {1, 2}));
  const auto all = spans->wait(3);
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(said, "00-" + trace + "-" + policy::hex(all[0].id) + "-01");
  for (const auto& one : all) {
    EXPECT_EQ(one.name, "inference.GRPCInferenceService/ModelInfer");
    EXPECT_EQ(one.kind, observe::span_kind::server);
    EXPECT_EQ(policy::hex(one.trace), trace);
    EXPECT_EQ(policy::hex(one.parent), parent);
    EXPECT_EQ(one.state, "a=1");
  }
  EXPECT_EQ(number(all[0]), 0);
  EXPECT_EQ(number(all[1]), 5);
  EXPECT_FALSE(all[1].failed) << "the caller's fault";
  EXPECT_EQ(number(all[2]), 14);
  EXPECT_TRUE(all[2].failed);

  // A span a request of a stream.
  desk.fail_with({});
  ::grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-" + trace + "-" + parent + "-01");
  const auto stream = stub->ModelStreamInfer(&context);
  inference::ModelStreamInferResponse reply;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(stream->Write(typed("sum", {1, 2})));
    ASSERT_TRUE(stream->Read(&reply));
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  const auto more = spans->wait(6);
  ASSERT_EQ(more.size(), 6U);
  EXPECT_EQ(more[5].name, "inference.GRPCInferenceService/ModelStreamInfer");
}

TEST_F(Server, RequestIds) {
  start();
  const auto asked = [&](const char* given, const std::string& id) {
    ::grpc::ClientContext context;
    if (given != nullptr) context.AddMetadata("x-request-id", given);
    auto request = typed("sum", {1, 2});
    request.set_id(id);
    EXPECT_TRUE(stub->ModelInfer(&context, request, &response).ok());
    EXPECT_EQ(response.id(), id);
    const auto& initial = context.GetServerInitialMetadata();
    const auto found = initial.find("x-request-id");
    return found == initial.end() ? std::string() : std::string(found->second.data(), found->second.size());
  };
  EXPECT_EQ(asked("trace-7", "x"), "trace-7");
  EXPECT_EQ(desk.last_request_id(), "\"x\"");
  EXPECT_EQ(asked(nullptr, "x"), "x");
  const std::string made = asked(nullptr, "");
  EXPECT_EQ(made.size(), 32U);
  EXPECT_EQ(desk.last_request_id(), "\"" + made + "\"");
  EXPECT_EQ(asked(nullptr, "\xc3\xa4\n"), "");  // can't be metadata
}

TEST_F(Server, DeadlinesAndCancels) {
  start();
  ::grpc::ClientContext timed;
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  timed.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(1));
  ASSERT_TRUE(stub->ModelInfer(&timed, typed("sum", {1, 2}), &response).ok());
  EXPECT_NEAR(static_cast<double>(desk.last_expiry() - now) * 1e-9, 3600, 60);

  desk.hold(true);
  ::grpc::ClientContext cancelled;
  std::thread client([&] {
    EXPECT_EQ(stub->ModelInfer(&cancelled, typed("sum", {1, 2}), &response).error_code(),
              StatusCode::CANCELLED);
  });
  desk.wait_for(2);
  cancelled.TryCancel();
  client.join();
  while (!desk.first_gone()) std::this_thread::yield();
  desk.hold(false);
  EXPECT_TRUE(infer(typed("sum", {1, 2})).ok());  // the answer to nobody did no harm

  desk.hold(true);
  for (int wait = 50; desk.empty(); wait *= 2) {  // one whose time is over before it got there is tried again
    ::grpc::ClientContext late;
    late.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(wait));
    EXPECT_EQ(stub->ModelInfer(&late, typed("sum", {1, 2}), &response).error_code(),
              StatusCode::DEADLINE_EXCEEDED);
  }
  while (!desk.first_gone()) std::this_thread::yield();
  desk.drop();
  desk.hold(false);
}

TEST_F(Server, ADroppedCallIsUnavailable) {
  start();
  desk.hold(true);
  std::thread client([&] { EXPECT_EQ(infer(typed("sum", {1, 2})).error_code(), StatusCode::UNAVAILABLE); });
  desk.wait_for(1);
  desk.drop();
  client.join();
}

// What is answered within a turn goes out at its end, whether or not others answer meanwhile.
TEST_F(Server, RepliesOfATurn) {
  start();
  constexpr std::size_t clients = 8;
  for (int round = 0; round < 20; ++round) {
    desk.hold(true);
    std::vector<std::thread> all;
    for (std::size_t i = 0; i < clients; ++i)
      all.emplace_back([&] {
        ::grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
        ModelInferResponse mine;
        EXPECT_EQ(stub->ModelInfer(&context, typed("sum", {1, 2}), &mine).error_code(),
                  StatusCode::UNAVAILABLE);
      });
    desk.wait_for(static_cast<std::size_t>(round) * (clients + 1) + clients);
    {
      const reply_turn outer;
      {
        const reply_turn inner;
        desk.drop();
      }
      desk.hold(false);
      std::thread other([&] {
        EXPECT_TRUE(infer(typed("sum", {1, 2})).ok());
      });  // answered by another thread
      other.join();
    }
    for (auto& one : all) one.join();
  }
}

TEST_F(Server, SizeLimits) {
  server_options options;
  options.max_message = 4096;
  start(options);
  auto request = typed("sum", {1, 2});
  std::size_t filler = 4096 - request.ByteSizeLong() - 64;
  request.mutable_inputs(0)->mutable_parameters()->operator[]("x").set_string_param(std::string(filler, 'x'));
  while (request.ByteSizeLong() < 4096)
    (*request.mutable_inputs(0)->mutable_parameters())["x"].mutable_string_param()->push_back('x');
  ASSERT_EQ(request.ByteSizeLong(), 4096U);
  EXPECT_TRUE(infer(request).ok());
  (*request.mutable_inputs(0)->mutable_parameters())["x"].mutable_string_param()->push_back('x');
  EXPECT_EQ(infer(request).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(infer(typed("sum", {1, 2})).ok());
}

TEST_F(Server, CompressedMessages) {
  server_options options;
  options.max_message = 4096;
  start(options);
  const auto send = [&](std::size_t filler) {
    ::grpc::ClientContext context;
    context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    auto request = typed("sum", {1, 2});
    (*request.mutable_inputs(0)->mutable_parameters())["x"].set_string_param(std::string(filler, 'x'));
    return stub->ModelInfer(&context, request, &response).error_code();
  };
  EXPECT_EQ(send(3000), StatusCode::OK);
  EXPECT_EQ(send(1 << 20), StatusCode::RESOURCE_EXHAUSTED);  // a kilobyte as sent
}

TEST_F(Server, CountsWhatIsOpen) {
  start();
  desk.hold(true);
  std::thread client([&] {
    ::grpc::ClientContext context;
    ModelInferResponse mine;
    EXPECT_TRUE(stub->ModelInfer(&context, typed("sum", {1, 2}), &mine).ok());
  });
  desk.wait_for(1);
  EXPECT_EQ(node->open(), 1U);
  desk.hold(false);
  client.join();
  while (node->open() != 0) std::this_thread::yield();  // let go of a moment after the reply
}

TEST_F(Server, Streams) {
  server_options options;
  options.max_stream_open = 3;
  start(options);
  ::grpc::ClientContext context;
  auto stream = stub->ModelStreamInfer(&context);
  constexpr int count = 200;
  std::thread writer([&] {
    for (int i = 0; i < count; ++i) {
      auto request = typed(i % 10 == 9 ? "nobody" : "sum", {static_cast<float>(i), 0});
      request.set_id(std::to_string(i));
      EXPECT_TRUE(stream->Write(request));
    }
    stream->WritesDone();
  });
  inference::ModelStreamInferResponse got;
  int answers = 0, errors = 0;
  while (stream->Read(&got)) {
    const int i = std::stoi(got.infer_response().id());
    if (i % 10 == 9) {
      ++errors;
      EXPECT_NE(got.error_message(), "");
    } else {
      ++answers;
      EXPECT_EQ(got.error_message(), "");
      EXPECT_EQ(got.infer_response().outputs(0).contents().fp64_contents(0), i);
    }
  }
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(answers, count * 9 / 10);
  EXPECT_EQ(errors, count / 10);
}

TEST_F(Server, StreamsAreBounded) {
  server_options options;
  options.max_stream_open = 3;
  start(options);
  desk.hold(true);
  ::grpc::ClientContext context;
  auto stream = stub->ModelStreamInfer(&context);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(stream->Write(typed("sum", {1, 2})));
  desk.wait_for(3);
  // A call that comes after the stream's is answered by the same thread: what it would read is read.
  ::grpc::ClientContext asking;
  inference::ServerLiveResponse live;
  EXPECT_TRUE(stub->ServerLive(&asking, {}, &live).ok());
  EXPECT_EQ(node->open(), 3U);
  desk.hold(false);
  stream->WritesDone();
  inference::ModelStreamInferResponse got;
  int answers = 0;
  while (stream->Read(&got)) ++answers;
  EXPECT_EQ(answers, 10);
  EXPECT_TRUE(stream->Finish().ok());

  // A stream that is cancelled with requests open ends, too.
  desk.hold(true);
  {
    ::grpc::ClientContext other;
    auto left = stub->ModelStreamInfer(&other);
    ASSERT_TRUE(left->Write(typed("sum", {1, 2})));
    desk.wait_for(11);
    other.TryCancel();
    EXPECT_EQ(left->Finish().error_code(), StatusCode::CANCELLED);
  }
  while (!desk.first_gone()) std::this_thread::yield();
  desk.hold(false);
}

TEST_F(Server, StateOfServerAndModels) {
  server_options options;
  options.server_version = "1.2";
  start(options);
  const auto ask = [&](auto method, const auto& request, auto& to) {
    ::grpc::ClientContext context;
    return (stub.get()->*method)(&context, request, &to);
  };
  inference::ServerLiveResponse live;
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::ServerLive, inference::ServerLiveRequest(), live).ok());
  EXPECT_TRUE(live.live());
  inference::ServerReadyResponse ready;
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::ServerReady, inference::ServerReadyRequest(), ready).ok());
  EXPECT_TRUE(ready.ready());
  inference::ServerMetadataResponse server_metadata;
  ASSERT_TRUE(
      ask(&GRPCInferenceService::Stub::ServerMetadata, inference::ServerMetadataRequest(), server_metadata)
          .ok());
  EXPECT_EQ(server_metadata.name(), "troupe");
  EXPECT_EQ(server_metadata.version(), "1.2");

  inference::ModelReadyRequest which;
  inference::ModelReadyResponse model_ready;
  which.set_name("sum");
  which.set_version("v2");
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::ModelReady, which, model_ready).ok());
  EXPECT_TRUE(model_ready.ready());
  backend->state = {false, "its breaker is open", 0};
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::ModelReady, which, model_ready).ok());
  EXPECT_FALSE(model_ready.ready());
  backend->state = {};
  which.set_version("9");
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::ModelReady, which, model_ready).ok());
  EXPECT_FALSE(model_ready.ready());
  which.set_name("nobody");
  EXPECT_EQ(ask(&GRPCInferenceService::Stub::ModelReady, which, model_ready).error_code(),
            StatusCode::NOT_FOUND);

  inference::ModelMetadataRequest name;
  inference::ModelMetadataResponse metadata;
  name.set_name("iris");
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::ModelMetadata, name, metadata).ok());
  EXPECT_EQ(metadata.versions(0), "3");
  EXPECT_EQ(metadata.inputs(0).name(), "input");
  EXPECT_EQ(metadata.inputs(0).shape(0), -1);
  EXPECT_EQ(metadata.inputs(0).shape(1), 2);
  EXPECT_EQ(metadata.outputs(0).datatype(), "FP32");
  EXPECT_EQ(metadata.outputs(1).datatype(), "BYTES");

  inference::ModelConfigRequest config_of;
  inference::ModelConfigResponse config;
  config_of.set_name("iris");
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::ModelConfig, config_of, config).ok());
  EXPECT_EQ(config.config().input(0).data_type(), inference::TYPE_FP32);
  EXPECT_EQ(config.config().input(0).dims(0), 2);
  EXPECT_EQ(config.config().output(1).data_type(), inference::TYPE_STRING);
  EXPECT_GT(config.config().max_batch_size(), 0);

  inference::ModelStatisticsRequest of;
  inference::ModelStatisticsResponse statistics;
  of.set_name("sum");
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::ModelStatistics, of, statistics).ok());
  EXPECT_EQ(statistics.model_stats(0).inference_count(), 7U);
  EXPECT_EQ(statistics.model_stats(0).inference_stats().success().ns(), 1000U);
  EXPECT_EQ(statistics.model_stats(0).batch_stats(0).batch_size(), 4U);

  inference::RepositoryIndexRequest index_of;
  inference::RepositoryIndexResponse index;
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::RepositoryIndex, index_of, index).ok());
  EXPECT_EQ(index.models_size(), 2);
  inference::RepositoryModelLoadRequest load;
  inference::RepositoryModelLoadResponse loaded;
  load.set_model_name("sum");
  (*load.mutable_parameters())["version"].set_string_param("v4");
  ASSERT_TRUE(ask(&GRPCInferenceService::Stub::RepositoryModelLoad, load, loaded).ok());
  EXPECT_EQ(backend->loaded, "4");
  load.set_model_name("nobody");
  EXPECT_EQ(ask(&GRPCInferenceService::Stub::RepositoryModelLoad, load, loaded).error_code(),
            StatusCode::NOT_FOUND);
  inference::RepositoryModelUnloadRequest unload;
  inference::RepositoryModelUnloadResponse unloaded;
  EXPECT_EQ(ask(&GRPCInferenceService::Stub::RepositoryModelUnload, unload, unloaded).error_code(),
            StatusCode::FAILED_PRECONDITION);
}

TEST_F(Server, Health) {
  start();
  auto stub_of_health = ::grpc::health::v1::Health::NewStub(channel);
  ::grpc::health::v1::HealthCheckRequest request;
  ::grpc::health::v1::HealthCheckResponse state;
  const auto check = [&](const char* service) {
    ::grpc::ClientContext context;
    request.set_service(service);
    const auto how = stub_of_health->Check(&context, request, &state);
    return how.ok() ? static_cast<int>(state.status()) : -static_cast<int>(how.error_code());
  };
  EXPECT_EQ(check(""), 1);
  EXPECT_EQ(check("inference.GRPCInferenceService"), 1);
  EXPECT_EQ(check("sum"), 1);
  EXPECT_EQ(check("sum/2"), 1);
  EXPECT_EQ(check("sum/7"), -static_cast<int>(StatusCode::NOT_FOUND));
  backend->state = {false, "its breaker is open", 0};
  EXPECT_EQ(check("sum"), 2) << "of the model";
  EXPECT_EQ(check(""), 1) << "of the node";
  backend->state = {};
  ::grpc::ClientContext context;
  request.set_service("");
  auto watched = stub_of_health->Watch(&context, request);
  ASSERT_TRUE(watched->Read(&state));
  EXPECT_EQ(state.status(), ::grpc::health::v1::HealthCheckResponse::SERVING);
  backend->is_ready = false;
  node->refresh_health();
  ASSERT_TRUE(watched->Read(&state));
  EXPECT_EQ(state.status(), ::grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  backend->is_ready = true;
  ASSERT_TRUE(watched->Read(&state));  // within a second, without being asked
  EXPECT_EQ(state.status(), ::grpc::health::v1::HealthCheckResponse::SERVING);
  node->drain();
  ASSERT_TRUE(watched->Read(&state));
  EXPECT_EQ(state.status(), ::grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  EXPECT_TRUE(infer(typed("sum", {1, 2})).ok());
  context.TryCancel();
  EXPECT_EQ(watched->Finish().error_code(), StatusCode::CANCELLED);
}

TEST_F(Server, Reflection) {
  start();
  auto reflection = ::grpc::reflection::v1::ServerReflection::NewStub(channel);
  ::grpc::ClientContext context;
  auto stream = reflection->ServerReflectionInfo(&context);
  ::grpc::reflection::v1::ServerReflectionRequest request;
  ::grpc::reflection::v1::ServerReflectionResponse answer;
  request.set_list_services("");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&answer));
  ASSERT_EQ(answer.list_services_response().service_size(), 3);
  EXPECT_EQ(answer.list_services_response().service(0).name(), "inference.GRPCInferenceService");
  request.set_file_containing_symbol("inference.GRPCInferenceService");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&answer));
  EXPECT_EQ(answer.file_descriptor_response().file_descriptor_proto_size(), 1);
  request.set_file_by_filename("none.proto");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&answer));
  EXPECT_EQ(answer.error_response().error_code(), 5);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(Server, Stops) {
  start();
  desk.hold(true);
  std::thread client([&] {
    const auto code = infer(typed("sum", {1, 2})).error_code();
    EXPECT_TRUE(code == StatusCode::UNAVAILABLE || code == StatusCode::CANCELLED) << code;
  });
  desk.wait_for(1);
  ::grpc::ClientContext context;
  auto stream = stub->ModelStreamInfer(&context);
  ASSERT_TRUE(stream->Write(typed("sum", {1, 2})));
  desk.wait_for(2);
  node->stop(std::chrono::milliseconds(50));
  client.join();
  EXPECT_FALSE(stream->Finish().ok());
  node.reset();
  desk.hold(false);  // calls may outlive their server
}

TEST_F(Server, StopsOnceTheOpenOnesAreAnswered) {
  start();
  desk.hold(true);
  std::thread client([&] { EXPECT_TRUE(infer(typed("sum", {1, 2})).ok()); });
  desk.wait_for(1);
  std::thread stopper([&] { node->stop(std::chrono::minutes(5)); });
  desk.hold(false);
  client.join();
  stopper.join();
}

TEST_F(Server, PortsThatCantBeHad) {
  start();
  server_options options;
  options.name = "grpc.port";
  options.bind = "127.0.0.1";
  options.port = node->port();
  try {
    server second(options, backend);
    FAIL();
  } catch (const bind_error& e) {
    EXPECT_NE(std::string(e.what()).find("grpc.port: port " + std::to_string(options.port) + " is in use"),
              std::string::npos)
        << e.what();
  }
  options.bind = "localhost";
  EXPECT_THROW(server(options, backend), bind_error);
}

TEST_F(Server, UnknownMethods) {
  start();
  ::grpc::ClientContext context;
  const ::grpc::internal::RpcMethod method("/inference.GRPCInferenceService/TraceSetting",
                                           ::grpc::internal::RpcMethod::NORMAL_RPC, channel);
  inference::ServerLiveRequest request;
  inference::ServerLiveResponse live;
  const auto how =
      ::grpc::internal::BlockingUnaryCall<inference::ServerLiveRequest, inference::ServerLiveResponse>(
          channel.get(), method, &context, request, &live);
  EXPECT_EQ(how.error_code(), StatusCode::UNIMPLEMENTED);
}

}  // namespace
}  // namespace troupe::rpc

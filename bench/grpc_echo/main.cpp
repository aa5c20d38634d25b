// What a ModelInfer costs the server beside the least that gRPC can do: an echo of bytes by the same library
// in the same mode (one completion queue, one thread). README.md says how to read it.
//   bench_grpc_echo [--smoke] [--json] [--rounds N] [--requests N]
//   bench_grpc_echo --serve echo|server     what it starts of itself: prints its port, ends with its input

#include <fcntl.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/async_unary_call.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "inference.pb.h"
#include "messages/batch.hpp"
#include "messages/reply_turn.hpp"
#include "runtime/door/backend.hpp"
#include "runtime/grpc/server.hpp"
#include "runtime/model/model.hpp"

namespace {

using namespace troupe;

constexpr std::size_t features = 10;
constexpr const char* path = "/inference.GRPCInferenceService/ModelInfer";

// --- the echo

class echo_service final : public ::grpc::Service {
 public:
  echo_service() {
    AddMethod(new ::grpc::internal::RpcServiceMethod(path, ::grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
    MarkMethodRaw(0);
  }
  using ::grpc::Service::RequestAsyncUnary;
};

struct echo_call {
  echo_call(echo_service& from, ::grpc::ServerCompletionQueue& on) : service(from), queue(on) {
    service.RequestAsyncUnary(0, &context, &message, &writer, &queue, &queue, this);
  }
  echo_service& service;
  ::grpc::ServerCompletionQueue& queue;
  ::grpc::ServerContext context;
  ::grpc::ByteBuffer message;
  ::grpc::ServerAsyncResponseWriter<::grpc::ByteBuffer> writer{&context};
  bool answered = false;
};

void wait_for_end_of_input() {
  char c = 0;
  while (::read(STDIN_FILENO, &c, 1) > 0) continue;
}

void serve_echo() {
  echo_service service;
  int port = 0;
  ::grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", ::grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  auto queue = builder.AddCompletionQueue();
  auto server = builder.BuildAndStart();
  std::uint64_t count = 0;
  std::thread loop([&] {
    for (int i = 0; i < 64; ++i) new echo_call(service, *queue);
    void* what = nullptr;
    bool ok = false;
    while (queue->Next(&what, &ok)) {
      auto* call = static_cast<echo_call*>(what);
      if (!ok || call->answered) {
        delete call;
        continue;
      }
      new echo_call(service, *queue);
      ++count;
      call->answered = true;
      call->writer.Finish(call->message, ::grpc::Status::OK, call);
    }
  });
  std::printf("%d\n", port);
  std::fflush(stdout);
  wait_for_end_of_input();
  server->Shutdown(std::chrono::system_clock::now());
  queue->Shutdown();
  loop.join();
  std::printf("%llu\n", static_cast<unsigned long long>(count));
}

// --- ours, with a gateway that knows the answer

std::shared_ptr<const model::model_table> one_model() {
  model::loaded_model::parts p;
  p.name = "diabetes-rf-model";
  p.version = "3";
  std::vector<model::feature> columns;
  for (const char* name : {"age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"})
    columns.push_back({name, false});
  p.schema = model::schema(std::move(columns), true);
  return std::make_shared<const model::model_table>(
      std::vector<std::shared_ptr<const model::loaded_model>>{
          std::make_shared<const model::loaded_model>(std::move(p))},
      model::model_table::options{});
}

class one_model_backend final : public serving::backend {
 public:
  bool live() const override { return true; }
  bool ready() const override { return true; }
  std::shared_ptr<const model::model_table> models() const override { return table_; }
  serving::model_state state_of(const model::loaded_model&) const override { return {}; }
  std::vector<codec::v2_model_stats> statistics(std::string_view, std::string_view) const override {
    return {};
  }
  std::vector<codec::v2_index_entry> index(bool) const override { return {}; }
  command_result load(std::string_view, std::string_view) override { return {}; }
  command_result unload(std::string_view, std::string_view) override { return {}; }

 private:
  std::shared_ptr<const model::model_table> table_ = one_model();
};

class gateway {
 public:
  explicit gateway(std::shared_ptr<const model::model_table> models)
      : models_(std::move(models)), thread_([this] { run(); }) {}
  ~gateway() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  void take(std::vector<std::unique_ptr<call>> calls) {
    bool first = false;
    {
      const std::lock_guard lock(mutex_);
      first = desk_.empty();
      for (auto& one : calls) desk_.push_back(std::move(one));
    }
    if (first) wake_.notify_one();
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }

 private:
  void run() {
    const double prediction[1] = {152.25};
    std::vector<std::unique_ptr<call>> calls;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return ended_ || !desk_.empty(); });
        if (desk_.empty()) return;
        calls.swap(desk_);
      }
      auto batch = batch_ptr::make();
      batch->via = door::grpc;
      batch->models = models_;
      batch->arrived = std::chrono::steady_clock::now().time_since_epoch().count();
      batch->arrived_ms = 1'700'000'000'000;
      batch->records.reserve(calls.size());
      for (auto& one : calls) {
        record& r = batch->records.emplace_back();
        r.batch = batch.get();
        one->read(r, *batch);
      }
      const reply_turn turn;
      for (std::size_t i = 0; i < calls.size(); ++i) {
        const record& r = batch->records[i];
        if (r.error == error_code::none) {
          calls[i]->reply(r, {prediction, 0, {}});
          ++count_;
        } else {
          calls[i]->fail(r, {r.error, r.error_message, 0});
        }
      }
      calls.clear();
    }
  }

  std::shared_ptr<const model::model_table> models_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::unique_ptr<call>> desk_;
  bool ended_ = false;
  std::atomic<std::uint64_t> count_{0};
  std::thread thread_;
};

void serve_ours() {
  auto backend = std::make_shared<one_model_backend>();
  gateway desk(backend->models());
  rpc::server_options options;
  options.bind = "127.0.0.1";
  rpc::server server(options, backend);
  server.start([&](std::size_t, std::vector<std::unique_ptr<call>> calls) { desk.take(std::move(calls)); });
  std::printf("%d\n", server.port());
  std::fflush(stdout);
  wait_for_end_of_input();
  server.stop(std::chrono::milliseconds(0));
  std::printf("%llu\n", static_cast<unsigned long long>(desk.count()));
}

// --- the measurement

/// A server in a process of its own.
class served {
 public:
  explicit served(const char* what) {
    int to[2], from[2];
    if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(to[0], STDIN_FILENO);
      ::dup2(from[1], STDOUT_FILENO);
      ::execl("/proc/self/exe", "bench_grpc_echo", "--serve", what, nullptr);
      ::_exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    input_ = to[1];
    output_ = ::fdopen(from[0], "r");
    port = static_cast<int>(number());
    if (port == 0) throw std::runtime_error(std::string("the ") + what + " did not start");
  }
  ~served() { end(); }
  served(const served&) = delete;
  served& operator=(const served&) = delete;

  [[nodiscard]] double cpu_seconds() const {
    clockid_t clock{};
    timespec t{};
    ::clock_getcpuclockid(pid_, &clock);
    ::clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  }
  /// Requests that were answered.
  std::uint64_t end() {
    if (input_ < 0) return 0;
    ::close(input_);
    input_ = -1;
    const std::uint64_t count = number();
    std::fclose(output_);
    ::waitpid(pid_, nullptr, 0);
    return count;
  }

  int port = 0;

 private:
  std::uint64_t number() {
    char line[64] = {};
    return std::fgets(line, sizeof line, output_) != nullptr ? std::strtoull(line, nullptr, 10) : 0;
  }

  pid_t pid_ = 0;
  int input_ = -1;
  FILE* output_ = nullptr;
};

std::string request_file() {
  inference::ModelInferRequest request;
  request.set_model_name("diabetes-rf-model");
  request.set_id("7");
  auto& input = *request.add_inputs();
  input.set_name("input");
  input.set_datatype("FP32");
  input.add_shape(1);
  input.add_shape(features);
  std::vector<float> row(features, 0.0456F);
  request.add_raw_input_contents(row.data(), row.size() * sizeof(float));
  const std::string message = request.SerializeAsString();
  std::string name = "/tmp/troupe-grpc-XXXXXX";
  const int file = ::mkstemp(name.data());
  std::string body(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) body += static_cast<char>(message.size() >> shift);
  body += message;
  if (file < 0 || ::write(file, body.data(), body.size()) != static_cast<ssize_t>(body.size()))
    throw std::runtime_error("can't write " + name);
  ::close(file);
  return name;
}

struct load {
  int connections = 16;
  int streams = 4;
};

void ask(int port, const std::string& body, const load& how, std::uint64_t requests) {
  const std::string command =
      "h2load -t 1 -c " + std::to_string(how.connections) + " -m " + std::to_string(how.streams) + " -n " +
      std::to_string(requests) + " -d " + body +
      " -H 'content-type: application/grpc' -H 'te: trailers' http://127.0.0.1:" + std::to_string(port) +
      path + " > /dev/null";
  if (std::system(command.c_str()) != 0) throw std::runtime_error("h2load failed: " + command);
}

struct figures {
  double echo_us = 0;
  double server_us = 0;
  double ratio = 0;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

figures measure(const load& how, int rounds, std::uint64_t requests, const std::string& body) {
  served echo("echo"), ours("server");
  const auto one = [&](const served& what) {
    const double begin = what.cpu_seconds();
    ask(what.port, body, how, requests);
    return (what.cpu_seconds() - begin) * 1e6 / static_cast<double>(requests);
  };
  one(echo);
  one(ours);
  std::vector<double> a, b, ratios;
  for (int i = 0; i < rounds; ++i) {
    const bool echo_first = i % 2 == 0;
    const double first = one(echo_first ? echo : ours), second = one(echo_first ? ours : echo);
    a.push_back(echo_first ? first : second);
    b.push_back(echo_first ? second : first);
    ratios.push_back(b.back() / a.back());
  }
  const std::uint64_t expected = requests * static_cast<std::uint64_t>(rounds + 1);
  if (echo.end() != expected || ours.end() != expected)
    throw std::runtime_error("not every request was answered");
  return {median(a), median(b), median(ratios)};
}

int run(int argc, char** argv) {
  bool smoke = false, json = false;
  int rounds = 7;
  std::uint64_t requests = 60'000;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : ""; };
    if (word == "--serve") {
      const std::string_view what = value();
      what == "echo" ? serve_echo() : serve_ours();
      return 0;
    }
    if (word == "--smoke")
      smoke = true;
    else if (word == "--json")
      json = true;
    else if (word == "--rounds")
      rounds = std::max(1, std::atoi(value()));
    else if (word == "--requests")
      requests = std::strtoull(value(), nullptr, 10);
    else
      throw std::runtime_error("unknown option " + std::string(word));
  }
  if (smoke) rounds = 1, requests = 500;
  if (std::system("h2load --version > /dev/null 2>&1") != 0) {
    std::puts("skipped: there is no h2load (Debian: nghttp2-client)");
    return 77;
  }
  const std::string body = request_file();
  std::string out;
  for (const load how : {load{16, 4}, load{16, 1}, load{1, 1}}) {
    const std::uint64_t n = how.connections == 1 ? std::max<std::uint64_t>(requests / 4, 1) : requests;
    const figures f = measure(how, rounds, n, body);
    char line[256];
    std::snprintf(line, sizeof line,
                  json
                      ? "%s{\"connections\":%d,\"streams\":%d,\"echo_us\":%.2f,\"server_us\":%.2f,"
                        "\"ratio\":%.3f}"
                      : "%s%2d connections x %d: echo %6.2f us, server %6.2f us of CPU a request, %.2f times",
                  out.empty() ? "" : (json ? "," : "\n"), how.connections, how.streams, f.echo_us,
                  f.server_us, f.ratio);
    out += line;
  }
  ::unlink(body.c_str());
  std::puts(json ? ("[" + out + "]").c_str() : out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::cerr << "bench_grpc_echo: " << e.what() << "\n";
    return 1;
  }
}

#pragma once
// The gRPC server of the inference door: the Open Inference Protocol, gRPC's health checking and reflection.
//
// A few threads, each with its own completion queue. Inference requests that one drain of a queue gave are
// handed over together and answered later, from any thread. Everything else is answered by the threads
// themselves, but loading and unloading, which may block and have a thread of their own.
//
// What it answers by itself: RESOURCE_EXHAUSTED for a message that is too large (also once decompressed),
// UNIMPLEMENTED for unknown methods, UNAVAILABLE (with retry-after and google.rpc.RetryInfo) when too many
// requests are open or it is stopping, and what the guard refuses: UNAUTHENTICATED, PERMISSION_DENIED,
// RESOURCE_EXHAUSTED (with retry-after and google.rpc.RetryInfo).

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "messages/call.hpp"
#include "runtime/codec/infer_terms.hpp"
#include "runtime/door/backend.hpp"
#include "runtime/door/caller.hpp"

namespace troupe::observe {
class request_log;
class tracer;
}  // namespace troupe::observe

namespace troupe::rpc {

/// The port can't be had. One line with the reason and the remedy.
struct bind_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// PEM files. They are read again when they change.
struct tls_files {
  std::string certificate;  ///< with its chain; empty: no TLS
  std::string key;
  std::string client_ca;  ///< empty: clients need no certificate
  bool client_required = false;
  std::chrono::seconds refresh{10};  ///< so often is looked whether they have changed
};

struct server_options {
  std::string bind = "0.0.0.0";  ///< an IPv4 or IPv6 address
  int port = 0;                  ///< 0: any free one
  std::string name = "port";     ///< the option that set it, for errors: grpc.port
  std::size_t threads = 1;
  std::size_t max_message = std::size_t{10} << 20;  ///< as sent, and decompressed
  std::size_t max_streams = 1000;                   ///< calls at once on one connection
  std::size_t max_stream_open = 64;                 ///< requests of one ModelStreamInfer at once
  std::chrono::milliseconds keepalive{60'000};  ///< a silent connection is asked for life so often; 0: never
  std::chrono::milliseconds keepalive_timeout{20'000};  ///< and closed when it does not answer
  std::chrono::milliseconds min_ping_interval{10'000};  ///< clients that ask more often are sent away
  std::chrono::milliseconds idle_timeout{0};            ///< of a connection without calls; 0: none
  std::chrono::milliseconds max_age{0};                 ///< of a connection; 0: any
  std::chrono::milliseconds last_words{1'000};   ///< the longest that clients are waited for in a drain
  std::chrono::milliseconds retry_after{1'000};  ///< said with UNAVAILABLE
  std::string server_name = "troupe";
  std::string server_version;
  codec::infer_options infer;
  tls_files tls;
  /// Asked about every call, and about every request of a stream; null: nobody is.
  std::shared_ptr<const serving::caller_rules> guard;
  std::shared_ptr<const observe::tracer> tracer;    ///< of inference requests; null: nothing is traced
  std::shared_ptr<const observe::request_log> log;  ///< null: no request has a line of its own
  /// Told, once for each change, why files of `tls` that have changed can't be used; from a thread of the
  /// server.
  std::function<void(const std::string& why)> tls_refused = {};
};

struct server_parts;

class server {
 public:
  /// Runs on the server's threads, 0 to threads - 1, and must be short.
  using taker = std::function<void(std::size_t thread, std::vector<std::unique_ptr<call>>)>;

  /// Listens, and serves once start() was called. Throws bind_error; std::runtime_error for TLS files that
  /// can't be used (one line: the option, the file, the remedy).
  server(const server_options& options, std::shared_ptr<serving::backend> backend);
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  void start(taker take);

  [[nodiscard]] int port() const;
  /// Takes the files of keys and certificates again, which is otherwise done every `refresh`. Empty: they are
  /// in force; else what is wrong with them (those in force stay). Once the server listens.
  [[nodiscard]] std::string reload_tls();
  /// Inference requests that are not answered yet.
  [[nodiscard]] std::size_t open() const;
  /// Tells those who watch its health; done once a second without being asked.
  void refresh_health();
  /// Health checks and ServerReady say that it does not serve any more, and clients are asked to take their
  /// next calls elsewhere; those that come are still answered.
  void drain();
  /// After drain(): waits until all requests are answered and no more have come for some 0.2 s, or for
  /// last_words, where somebody goes on; to the deadline (steady clock). True: all are answered.
  [[nodiscard]] bool wait_drained(nanos deadline);
  /// No new requests: what arrives now ends as CANCELLED, which is the library's doing. Those that are open
  /// have `grace` to end, then they end as UNAVAILABLE. Calls may
  /// outlive the server. Not from `take`. Idempotent.
  void stop(std::chrono::milliseconds grace);

 private:
  std::unique_ptr<server_parts> parts_;
};

/// Where the gRPC library's own messages go, those of errors; without it nowhere. For the whole process.
void set_library_log(void (*log)(std::string_view text));

}  // namespace troupe::rpc

#pragma once
// Lines of the log about single requests of a door, one as each is answered (`log.requests`). A door that has
// no request_log pays for a look at a null pointer.
//
//   {"ts":"...","level":"info","component":"http","event":"request","msg":"completed in 1.42
//   ms","method":"POST","route":"/score",
//    "status":"200","ms":"1.420","client":"192.0.2.1","request_id":"r-1"}

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "messages/batch.hpp"

namespace troupe::observe {

struct request_log_options {
  bool all = false;            ///< else: failed ones, slow ones, and a share of the rest
  double ratio = 0.01;         ///< that share, 0 to 1
  nanos slow = 1'000'000'000;  ///< since the arrival; 0: none is slow
};

/// Empty members are left out. No value of a feature, and no query of a URL, may be among them.
struct answered_request {
  std::string_view door;    ///< component of the line
  std::string_view method;  ///< of HTTP
  std::string_view route;   ///< the path with the names of its places
  std::string_view path;    ///< as sent, where that says more
  std::string_view status;
  bool failed = false;      ///< by the server's fault
  bool refused = false;     ///< by the client's
  bool gone = false;        ///< nobody waited for the answer any more
  nanos took = 0;           ///< from arrival to answer
  std::string_view client;  ///< address of the peer
  std::string_view key;     ///< name of the client that the guard knows
  std::string_view request_id;
  std::string trace_id;  ///< of one that is traced
};

/// Any thread.
class request_log {
 public:
  explicit request_log(const request_log_options& options) : options_(options) {}

  /// Whether a request that ended so is to be told. Asked once for each: of the rest every 1/ratio-th is.
  [[nodiscard]] bool wants(bool failed, nanos took) const;
  /// Level info, warn for what failed.
  void tell(const answered_request& one) const;

 private:
  const request_log_options options_;
  mutable std::atomic<std::uint64_t> rest_{0};
};

}  // namespace troupe::observe

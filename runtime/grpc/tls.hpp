#pragma once
// Files of keys and certificates for gRPC, which takes whatever it reads and serves nobody while it is wrong.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace troupe::rpc {

struct tls_files;

/// Empty: they can. Else one line: the option (grpc.tls_cert, ...), the file, the remedy.
[[nodiscard]] std::string tls_fault(const tls_files& files, const std::string& name);

/// What the files held when they last could be used, in memory under paths of this process. Looks every
/// `refresh` whether they have changed; a change that can't be used changes nothing and is told to `refused`
/// (from a thread of its own), once.
class tls_copies {
 public:
  using refused_function = std::function<void(const std::string& why)>;
  /// Throws std::runtime_error with tls_fault().
  tls_copies(const tls_files& files, std::string name, refused_function refused);
  ~tls_copies();
  tls_copies(const tls_copies&) = delete;
  tls_copies& operator=(const tls_copies&) = delete;

  [[nodiscard]] std::string identity() const { return path(identity_); }  ///< key and chain, PEM
  [[nodiscard]] std::string client_ca() const { return path(client_ca_); }
  /// Looks now. What is wrong with the files, empty: nothing, and they are in force.
  std::string look();

 private:
  [[nodiscard]] static std::string path(int file) { return "/proc/self/fd/" + std::to_string(file); }

  std::unique_ptr<const tls_files> files_;
  std::string name_;
  refused_function refused_;
  int identity_ = -1;
  int client_ca_ = -1;
  std::string kept_identity_, kept_ca_;
  std::string refused_text_;  // that was told
  std::mutex mutex_;          // of look()
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace troupe::rpc

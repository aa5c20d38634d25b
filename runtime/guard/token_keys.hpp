#pragma once
// Where the keys that tokens are checked with come from: a file, or an address that is asked again from time
// to time. What was had is kept while nothing better can be had.

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "runtime/guard/jwt.hpp"

namespace troupe::guard {

struct token_keys_options {
  std::string file;    ///< or
  std::string url;     ///< http:// or https://
  std::string tls_ca;  ///< PEM file of the authorities to trust; empty: the system's
  std::chrono::milliseconds refresh{300'000};
  std::chrono::milliseconds least_pause{10'000};  ///< between two looks, when an unknown key asks for one
  std::chrono::milliseconds timeout{10'000};      ///< of one look
  /// A new set of keys. On the thread of start() or the own one.
  std::function<void(std::shared_ptr<const key_set>)> found;
  /// One line; told when it is another than before, empty when all is well again.
  std::function<void(const std::string&)> problem;
};

/// One look. Throws key_set_error.
[[nodiscard]] std::shared_ptr<const key_set> look_once(const token_keys_options& options);

/// Has a thread of its own. The look may block, so nobody else does it.
class token_keys {
 public:
  /// The file is read before this returns: throws key_set_error when it can't be used, for then the file is
  /// to be mended. An address is asked by the thread, at once: a node starts without it.
  explicit token_keys(token_keys_options options);
  ~token_keys();
  token_keys(const token_keys&) = delete;
  token_keys& operator=(const token_keys&) = delete;

  /// A key was asked for that is not known: looks again soon, but not more often than least_pause. Any
  /// thread, never blocks for long.
  void look_soon();
  /// Looks again now: the configuration was read again.
  void look_now();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::guard

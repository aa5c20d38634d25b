#pragma once
// The file of API keys and clients: who they are, what they may use and how much of it. It holds the SHA-256
// of the keys, never a key.
//
//   - name: billing
//     sha256: 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8
//     models: [churn, fraud]
//     classes: [standard, bulk]
//     per_minute: 6000
//     burst: 200
//     per_month: 10000000
//     admin: true
//
// A YAML list as above (a JSON array is one, too), or JSON lines: an object a line. Several entries of one
// name are several keys of one client (to change keys without a gap); what it may is said by the first, and
// the others hold nothing else. An entry without sha256 describes a client that comes with a token of that
// name.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/guard/sha256.hpp"

namespace troupe::guard {

struct client_entry {
  std::string name;  ///< 1 to 128 printable ASCII characters
  std::vector<digest> keys;
  std::vector<std::string> models;         ///< that it may use; empty: all
  std::vector<std::string> classes;        ///< that its requests may be in; empty: all
  std::optional<double> per_minute;        ///< a rate of its own instead of the limit of its address; 0: none
  std::optional<double> burst;             ///< >= 1; without it per_minute
  std::optional<std::uint64_t> per_month;  ///< 0: no quota
  bool admin = false;                      ///< may load and unload models
};

/// One line: the file, where in it, what is wrong, the remedy.
struct key_file_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline constexpr std::size_t most_key_file = std::size_t{16} << 20;  ///< bytes
inline constexpr std::size_t most_clients = 100'000;

/// `file`: for errors. Throws key_file_error.
[[nodiscard]] std::vector<client_entry> parse_key_file(std::string_view text, const std::string& file);
[[nodiscard]] std::vector<client_entry> read_key_file(const std::string& path);

/// A name that may stand in the file, in logs and in the store of counts.
[[nodiscard]] bool is_client_name(std::string_view name);

}  // namespace troupe::guard

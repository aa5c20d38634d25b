#pragma once
// What a fault is: its name, where it strikes, and how it is asked for.
//
//   {"fault": "shard_delay", "model": "churn", "probability": 0.1, "delay": "200ms", "duration": "30s"}

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"

namespace troupe::faults {

enum class kind : std::uint8_t {
  none,
  actor_crash,
  shard_delay,
  shard_fail,
  shard_hang,
  redis_cut,
  redis_slow,
  redis_corrupt,
  kafka_cut,
  kafka_slow,
  kafka_corrupt,
  registry_cut,
  registry_slow,
  registry_corrupt,
  report_drop,
  report_duplicate,
  rebalance_storm,
  clock_jump,
  memory_pressure,
  freeze
};

/// Where in the program a fault strikes.
enum class point : std::uint8_t { actor, score, cache, link, registry, produce, consume, process };

/// A field that a fault may have beside `fault` and `duration`.
enum class field : std::uint8_t { actor, model, version, probability, delay, every, shift, size };

struct kind_info {
  kind what;
  std::string_view name;
  point at;
  std::array<field, 4> fields;
  std::size_t field_count;
  std::string_view does;  ///< one line for people
};
/// All of them but `none`, in the order of `kind`.
[[nodiscard]] std::span<const kind_info> kinds();
[[nodiscard]] const kind_info& info(kind what);
[[nodiscard]] std::string_view name_of(point p);
[[nodiscard]] std::string_view name_of(field f);

struct fault {
  kind what = kind::none;
  std::string actor;           ///< name from /admin/tree, "random" for any
  std::string model, version;  ///< empty: all
  double probability = 1;      ///< of a strike, a batch, report or answer each
  nanos delay = 200'000'000;
  nanos every = 0;       ///< actor_crash: 0 is once
  nanos shift = 0;       ///< of the wall clock; negative: back
  std::size_t size = 0;  ///< bytes
  nanos duration = 30'000'000'000;
};

inline constexpr nanos usual_storm = 1'000'000'000;  ///< `every` of a rebalance_storm that says none

/// It is over as it begins: its duration says nothing.
[[nodiscard]] bool at_once(const fault& f);

struct limits {
  nanos max_duration = 600'000'000'000;
  std::size_t max_size = std::size_t{1} << 30;
  bool of_a_node = true;  ///< false: no node can be told to allow more; what it does allow is not known here
};
inline constexpr limits widest{24 * 3'600'000'000'000, std::size_t{1} << 40, false};

/// A field, empty for the whole, and what is wrong with it, what is allowed and what was probably meant.
struct field_mistake {
  std::string field, what;
};

/// What was asked for is no fault: in one line, with all that is wrong.
struct bad_fault : std::invalid_argument {
  explicit bad_fault(std::vector<field_mistake> mistakes);
  std::vector<field_mistake> all;
};

/// For such lines: a name as somebody gave it, not longer than is read; "did you mean X? ", or nothing; and
/// those that there are.
[[nodiscard]] std::string shown(std::string_view name);
[[nodiscard]] std::string meant(std::string_view word, const std::vector<std::string>& known);
[[nodiscard]] std::string listed(const std::vector<std::string>& names);

/// From a JSON object. `beside` are fields that the caller has read himself, as such lines name them too.
/// Throws bad_fault.
[[nodiscard]] fault parse_fault(std::string_view json, const limits& bounds,
                                const std::vector<std::string>& beside = {});

}  // namespace troupe::faults

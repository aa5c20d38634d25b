#pragma once
// The engine that all built-in models share: steps over blocks of rows, each from slots to a slot.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/model/model.hpp"
#include "runtime/model/steps.hpp"

namespace troupe::model {

struct slot {
  std::size_t width = 0;
  std::size_t place = 0;  ///< in doubles a row
};

struct operation {
  step_ptr run;
  std::vector<std::uint32_t> inputs;
  std::uint32_t output = 0;
};

struct source {  ///< a graph input: columns [begin, begin + width) of a row
  std::uint32_t slot = 0;
  std::size_t begin = 0;
  bool round = false;
};

/// Filled by who builds it, then only read. `result` is the output of the last operation.
class pipeline final : public engine {
 public:
  std::vector<slot> slots;
  std::vector<source> sources;
  std::vector<operation> operations;
  std::uint32_t result = 0;
  std::size_t numbers = 0;  ///< of all slots, a row
  std::string_view name;

  void score(std::span<const double* const> rows, double* out) const override;
  std::string_view kind() const override { return name; }

  /// Sees every operation and its inputs (for `count` rows) before it runs.
  using watcher = std::function<void(const operation& o, const columns* in, std::size_t count)>;
  void watch(std::span<const double* const> rows, double* out, const watcher& see) const;

  /// A new slot of that width. Throws load_error beyond `most` numbers a row in all.
  std::uint32_t add_slot(std::size_t width, std::size_t most);

 private:
  template <class Watch>
  void run(std::span<const double* const> rows, double* out, Watch see) const;
  void gather(const source& from, std::span<const double* const> rows, double* to) const;
};

/// Tries it: a column may be missing if the answer is a number all the same, and no step that cannot tell a
/// missing value met one. For very wide rows all columns are tried at once. `row` is one that can be
/// answered.
[[nodiscard]] std::vector<bool> missing_allowed(const pipeline& p, std::vector<double> row);

/// For each slot, the column of the row that each of its own columns comes from alone; empty where columns
/// have been mixed.
[[nodiscard]] std::vector<std::vector<std::uint32_t>> origins(const pipeline& p);

}  // namespace troupe::model

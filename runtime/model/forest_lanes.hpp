#pragma once
// A forest laid out for vector registers: 16 trees walk for a row at once, one in each lane.
//
// Every column that a split compares is ranked first: a value becomes the number of the column's thresholds
// below it, found by a search 16 ways wide. Comparing ranks decides as comparing the numbers does, and a node
// then fits into 32 bits, so that a step is one gather, a look-up of the row's rank in registers, and one
// comparison:
//
//     rank of the threshold | pair of children | column         (signed, never negative)
//
// A value goes right if its rank, shifted to the top, is above the word. Children stand in pairs; a leaf
// leads to itself. The first levels of 16 trees stand side by side and are picked by masks, without a gather.
//
// What does not fit (ranks, pairs and columns of more than 31 bits together, or more columns than registers
// hold) is walked by `forest` itself.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace troupe::model {

/// How trees are walked. All give the same answers to the bit.
enum class tree_walk : std::uint8_t { portable, avx2, avx512 };

/// The fastest walk that this processor has.
[[nodiscard]] tree_walk best_tree_walk();
[[nodiscard]] bool has_tree_walk(tree_walk how);

struct forest_lanes {
  static constexpr std::size_t width = 16;      ///< trees of a group
  static constexpr std::size_t top_levels = 4;  ///< picked by masks
  static constexpr std::size_t top_nodes = (1U << top_levels) - 1;
  static constexpr std::size_t most_columns(tree_walk how) { return how == tree_walk::avx512 ? 64 : 16; }
  static constexpr std::size_t search = 16;  ///< keys of a search's step

  /// A tree's node, as the forest has it: keys are unsigned and in the order of the numbers, `key < value`
  /// goes right.
  struct node {
    std::uint64_t key = 0;
    std::uint32_t left = 0;  ///< right stands behind it; itself for a leaf
    std::uint32_t column = 0;
    double value = 0;           ///< of a leaf of a forest with one sum
    std::uint32_t payload = 0;  ///< of a leaf otherwise
  };

  /// `columns` as the nodes count them: those from `inputs` on are negated inputs. `roots` are by falling
  /// depth. Nothing where it does not fit.
  static std::optional<forest_lanes> build(const std::vector<node>& nodes,
                                           const std::vector<std::uint32_t>& roots,
                                           const std::vector<std::uint32_t>& depths, std::size_t inputs,
                                           bool float_keys, bool one_sum, tree_walk how);

  struct column {
    std::uint32_t input = 0;
    bool negated = false;
    std::uint32_t levels = 0;  ///< of the search: where each begins in keys, from all keys to the top
    std::uint32_t begin[5] = {};
    std::uint32_t top = 0;  ///< steps that the top level takes
  };
  struct group {
    std::uint32_t depth = 0;
    std::uint32_t trees = 0;
  };

  std::vector<column> columns;
  std::vector<std::int32_t> keys;  ///< of floats, as signed integers in their order; a block ends above all
  std::vector<std::int64_t> wide_keys;  ///< of doubles
  std::vector<std::int32_t> words;
  std::vector<float> values;  ///< by word: what a leaf adds, if all of them are floats
  std::vector<double> wide_values;
  std::vector<std::uint32_t> payloads;  ///< by word, for forests with several sums
  std::vector<group> groups;
  std::vector<std::int32_t> tops;  ///< of each group: 16 first words' positions, then top_nodes x 16 words
  std::size_t stride = 16;         ///< ranks of a row: 16, 32 or 64
  int shift = 0;                   ///< of a rank
  int pair_shift = 0;
  std::int32_t pair_mask = 0;
};

/// Rows that are walked together, at most.
constexpr std::size_t lane_rows = 64;

/// Walks up to lane_rows rows: `in` rows x inputs; `ranks` is room for lane_rows x stride. One sum: adds to
/// `partial`, rows x 16 sums, the i-th of the trees i, 16 + i, ... Several sums: sets `arrived`, groups x
/// rows x 16 positions of words.
void walk_avx2(const forest_lanes& f, const double* in, std::size_t rows, std::size_t inputs,
               std::int32_t* ranks, double* partial, std::uint32_t* arrived);
void walk_avx512(const forest_lanes& f, const double* in, std::size_t rows, std::size_t inputs,
                 std::int32_t* ranks, double* partial, std::uint32_t* arrived);

}  // namespace troupe::model

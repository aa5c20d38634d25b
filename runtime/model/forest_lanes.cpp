#include "runtime/model/forest_lanes.hpp"

#include <algorithm>
#include <bit>
#include <limits>

namespace troupe::model {
namespace {

constexpr std::size_t widest_top = 64;  ///< keys that are compared at once rather than searched

template <class Key>
void add_search(forest_lanes::column& c, const std::vector<std::uint64_t>& sorted, std::vector<Key>& keys) {
  constexpr auto flip = std::uint64_t{1} << (8 * sizeof(Key) - 1);
  constexpr auto above = std::numeric_limits<Key>::max();
  std::vector<Key> level;
  for (const std::uint64_t k : sorted) level.push_back(static_cast<Key>(k ^ flip));
  for (;;) {
    level.push_back(above);
    level.resize((level.size() + forest_lanes::search - 1) / forest_lanes::search * forest_lanes::search,
                 above);
    c.begin[c.levels++] = static_cast<std::uint32_t>(keys.size());
    keys.insert(keys.end(), level.begin(), level.end());
    c.top = static_cast<std::uint32_t>(level.size() / forest_lanes::search);
    if (level.size() <= widest_top || c.levels == std::size(c.begin)) return;
    std::vector<Key> next;
    for (std::size_t i = forest_lanes::search - 1; i < level.size(); i += forest_lanes::search)
      next.push_back(level[i]);
    level = std::move(next);
  }
}

}  // namespace

bool has_tree_walk(tree_walk how) {
  if (how == tree_walk::portable) return true;
#if defined(__x86_64__)
  if (how == tree_walk::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("popcnt");
#else
  return false;
#endif
}

tree_walk best_tree_walk() {
  if (has_tree_walk(tree_walk::avx512)) return tree_walk::avx512;
  return has_tree_walk(tree_walk::avx2) ? tree_walk::avx2 : tree_walk::portable;
}

std::optional<forest_lanes> forest_lanes::build(const std::vector<node>& nodes,
                                                const std::vector<std::uint32_t>& roots,
                                                const std::vector<std::uint32_t>& depths, std::size_t inputs,
                                                bool float_keys, bool one_sum, tree_walk how) {
  forest_lanes f;
  const auto is_leaf = [&](std::uint32_t at) { return nodes[at].left == at; };

  // Columns that some split compares, and their thresholds.
  std::size_t all_columns = 0;
  for (std::uint32_t i = 0; i < nodes.size(); ++i) {
    if (!is_leaf(i)) all_columns = std::max<std::size_t>(all_columns, nodes[i].column + 1);
  }
  std::vector<std::vector<std::uint64_t>> thresholds(all_columns);
  for (std::uint32_t i = 0; i < nodes.size(); ++i) {
    if (!is_leaf(i)) thresholds[nodes[i].column].push_back(nodes[i].key);
  }
  std::vector<std::uint32_t> renamed(all_columns);
  std::size_t most = 0;
  for (std::size_t c = 0; c < all_columns; ++c) {
    auto& t = thresholds[c];
    if (t.empty()) continue;
    std::sort(t.begin(), t.end());
    t.erase(std::unique(t.begin(), t.end()), t.end());
    most = std::max(most, t.size());
    renamed[c] = static_cast<std::uint32_t>(f.columns.size());
    column to;
    to.negated = c >= inputs;
    to.input = static_cast<std::uint32_t>(to.negated ? c - inputs : c);
    if (float_keys) {
      add_search(to, t, f.keys);
    } else {
      add_search(to, t, f.wide_keys);
    }
    f.columns.push_back(to);
  }

  // The bits of a word.
  std::size_t most_pairs = 1;
  const std::size_t count = f.columns.size();
  if (count == 0 || count > most_columns(how)) return std::nullopt;
  const int column_bits = count <= 16 ? 4 : count <= 32 ? 5 : 6;
  f.stride = std::size_t{1} << static_cast<unsigned>(column_bits);

  // Each tree again: its root alone in the first pair, then pair by pair, by levels.
  struct place {
    std::uint32_t from, to;
  };
  std::vector<std::vector<place>> orders;
  std::vector<place> order;
  for (const std::uint32_t root : roots) {
    order.assign(1, {root, 0});
    std::uint32_t pairs = 1;
    for (std::size_t head = 0; head < order.size(); ++head) {
      const std::uint32_t from = order[head].from;
      if (is_leaf(from)) continue;
      order.push_back({nodes[from].left, 2 * pairs});
      order.push_back({nodes[from].left + 1, 2 * pairs + 1});
      ++pairs;
    }
    most_pairs = std::max<std::size_t>(most_pairs, pairs);
    orders.push_back(order);
  }
  const int rank_bits = static_cast<int>(std::bit_width(most + 1));
  const int pair_bits = static_cast<int>(std::bit_width(most_pairs - 1));
  if (rank_bits + pair_bits + column_bits > 31) return std::nullopt;
  f.pair_shift = column_bits - 1;
  f.pair_mask = static_cast<std::int32_t>(((1U << pair_bits) - 1) << 1);
  f.shift = 31 - rank_bits;

  const bool floats = one_sum && std::all_of(nodes.begin(), nodes.end(), [](const node& n) {
                        return static_cast<double>(static_cast<float>(n.value)) == n.value;
                      });
  const auto add_word = [&](std::int32_t word, const node* leaf) {
    f.words.push_back(word);
    if (!one_sum) {
      f.payloads.push_back(leaf ? leaf->payload : 0);
    } else if (floats) {
      f.values.push_back(leaf ? static_cast<float>(leaf->value) : 0);
    } else {
      f.wide_values.push_back(leaf ? leaf->value : 0);
    }
  };
  constexpr std::int32_t always_left = 0x7fff'ffff;
  // A leaf is told by its column bits alone in no place: it leads to its own pair, and its rank says which of
  // the two.
  const auto leaf_word = [&](std::uint32_t at) {
    const std::uint32_t rank = at & 1U ? 0 : static_cast<std::uint32_t>(always_left) >> f.shift;
    return static_cast<std::int32_t>(rank << f.shift | (at >> 1U) << column_bits);
  };

  std::vector<std::uint32_t> base(roots.size());
  for (std::size_t t = 0; t < roots.size(); ++t) {
    const auto begin = static_cast<std::uint32_t>(f.words.size());
    if (begin > 0x7000'0000U) return std::nullopt;
    base[t] = begin;
    std::uint32_t next = 1;
    for (const place& p : orders[t]) {
      const node& n = nodes[p.from];
      if (p.to == 2) add_word(0, nullptr);  // beside the root
      if (is_leaf(p.from)) {
        add_word(leaf_word(p.to), &n);
        continue;
      }
      const auto& of = thresholds[n.column];
      const auto rank =
          static_cast<std::uint32_t>(std::lower_bound(of.begin(), of.end(), n.key) - of.begin()) + 1;
      add_word(static_cast<std::int32_t>(rank << f.shift | next << column_bits | renamed[n.column]), nullptr);
      ++next;
    }
    if (orders[t].size() == 1) add_word(0, nullptr);
  }
  // What the last group lacks: a leaf that adds nothing.
  const auto nothing = static_cast<std::uint32_t>(f.words.size());
  add_word(leaf_word(0), nullptr);
  add_word(0, nullptr);

  for (std::size_t t = 0; t < roots.size(); t += width) {
    group g;
    g.depth = depths[t];
    g.trees = static_cast<std::uint32_t>(std::min(width, roots.size() - t));
    f.groups.push_back(g);
    const std::size_t at = f.tops.size();
    f.tops.resize(at + width * (1 + top_nodes));
    for (std::size_t lane = 0; lane < width; ++lane) {
      const std::uint32_t begin = lane < g.trees ? base[t + lane] : nothing;
      f.tops[at + lane] = static_cast<std::int32_t>(begin);
      std::uint32_t position[top_nodes] = {};  // within the tree; a leaf's children are the leaf
      for (std::size_t i = 0; i < top_nodes; ++i) {
        const auto word = static_cast<std::uint32_t>(f.words[begin + position[i]]);
        f.tops[at + (1 + i) * width + lane] = static_cast<std::int32_t>(word);
        if (2 * i + 2 >= top_nodes) continue;
        const std::uint32_t left =
            word >> static_cast<unsigned>(f.pair_shift) & static_cast<std::uint32_t>(f.pair_mask);
        const std::uint32_t own = position[i];
        const bool leaf = left == (own & ~1U);
        position[2 * i + 1] = leaf ? own : left;
        position[2 * i + 2] = leaf ? own : left + 1;
      }
    }
  }
  return f;
}

}  // namespace troupe::model

#include "runtime/model/forest.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

namespace troupe::model {
namespace {

constexpr std::size_t chains = 16;  ///< 8 leave the core waiting, 24 spill registers
constexpr std::size_t block_rows = 64;
constexpr std::size_t partial_sums = forest_lanes::width;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// Unsigned integers in the order of the numbers; -0 is 0, a NaN above all, and 0 below all.
std::uint32_t key_of(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x + 0.0F);
  const auto key = bits ^ (static_cast<std::uint32_t>(-static_cast<std::int32_t>(bits >> 31)) | 0x8000'0000U);
  return x != x ? UINT32_MAX : key;
}
std::uint64_t key_of(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x + 0.0);
  const auto key =
      bits ^ (static_cast<std::uint64_t>(-static_cast<std::int64_t>(bits >> 63)) | 0x8000'0000'0000'0000U);
  return x != x ? UINT64_MAX : key;
}

/// The largest value of the input's type that is <= t.
double at_most(double t, bool float_input) {
  if (!float_input) return t;
  auto f = static_cast<float>(t);
  if (static_cast<double>(f) > t) f = std::nextafter(f, -std::numeric_limits<float>::infinity());
  return static_cast<double>(f);
}

/// The largest value of the input's type that is < t; NaN if there is none.
double below(double t, bool float_input) {
  if (t == -infinity) return std::numeric_limits<double>::quiet_NaN();
  if (!float_input) return std::nextafter(t, -infinity);
  auto f = static_cast<float>(t);
  if (static_cast<double>(f) >= t) f = std::nextafter(f, -std::numeric_limits<float>::infinity());
  return static_cast<double>(f);
}

/// The sum of each row's partial sums, by halves.
void add_partial(double* partial, std::size_t rows, double* sums) {
  for (std::size_t r = 0; r < rows; ++r) {
    double* const p = partial + r * partial_sums;
    for (std::size_t half = partial_sums / 2; half > 0; half /= 2) {
      for (std::size_t i = 0; i < half; ++i) p[i] += p[i + half];
    }
    sums[r] += p[0];
  }
}

split opposite(split m) {
  switch (m) {
    case split::leq:
      return split::gt;
    case split::lt:
      return split::gte;
    case split::gte:
      return split::lt;
    case split::gt:
      return split::leq;
    case split::leaf:
      break;
  }
  return m;
}

}  // namespace

/// Turns the ensemble into the layout of the walk.
struct forest::builder {
  const ensemble& e;
  forest& f;
  bool narrow = true;
  std::vector<std::uint32_t> payload = {};  ///< sums > 1: index into payload_begin_, by node

  void copy_payloads() {
    payload.assign(e.nodes.size(), 0);  // payload 0 is that of a leaf without weights
    f.payload_begin_ = {0, 0};
    for (std::size_t i = 0; i < e.nodes.size(); ++i) {
      const tree_node& n = e.nodes[i];
      if (n.how != split::leaf || n.yes == n.no) continue;
      payload[i] = static_cast<std::uint32_t>(f.payload_begin_.size() - 1);
      for (std::uint32_t k = n.yes; k < n.no; ++k) f.payload_.push_back(e.shares[k]);
      f.payload_begin_.push_back(static_cast<std::uint32_t>(f.payload_.size()));
    }
  }

  [[nodiscard]] double weight(const tree_node& n) const {
    double sum = 0;
    for (std::uint32_t k = n.yes; k < n.no; ++k) sum += e.shares[k].weight;
    return sum;
  }

  struct comparison {
    bool negated;
    double threshold;
    std::uint32_t left, right;
  };

  /// `x mode t ? yes : no`, with missing values on the side they belong, as `value <= threshold ? left :
  /// right`, where a missing value goes right: it is never <= anything.
  [[nodiscard]] comparison compare(const tree_node& n) const {
    split m = n.how;
    std::uint32_t left = n.yes;
    std::uint32_t right = n.no;
    if (n.missing_yes) {
      m = opposite(m);
      std::swap(left, right);
    }
    const double t = n.threshold;
    switch (m) {
      case split::lt:
        return {false, below(t, e.float_input), left, right};
      case split::gte:
        return {true, at_most(-t, e.float_input), left, right};
      case split::gt:
        return {true, below(-t, e.float_input), left, right};
      default:
        return {false, at_most(t, e.float_input), left, right};
    }
  }

  void choose_layout() {
    bool float_leaves = true;
    for (const tree_node& n : e.nodes) {
      if (n.how == split::leaf) {
        if (f.sums_ == 1 && static_cast<double>(static_cast<float>(weight(n))) != weight(n))
          float_leaves = false;
      } else if (compare(n).negated) {
        f.negated_ = true;
      }
    }
    f.columns_ = (f.negated_ ? 2 : 1) * f.width_ + 1;
    narrow = e.float_input && e.nodes.size() < (1U << 24) && f.columns_ <= 256;
    f.inline_leaves_ = f.sums_ == 1 && (!narrow || float_leaves);
    f.stride_ = f.columns_ <= 16 ? 16 : f.columns_ <= 64 ? 64 : f.columns_ <= 256 ? 256 : f.columns_;
  }

  template <class Node>
  void lay_out(std::vector<Node>& out) {
    const auto columns = static_cast<std::uint32_t>(f.columns_);
    const auto width = static_cast<std::uint32_t>(f.width_);
    struct place {
      std::uint32_t from, to, depth;
    };
    struct tree {
      std::uint32_t root, depth;
    };
    std::vector<tree> built;
    std::vector<place> queue;
    out.reserve(e.nodes.size());
    using value = typename Node::value;
    for (const std::uint32_t root : e.roots) {
      queue.clear();
      const auto begin = static_cast<std::uint32_t>(out.size());
      out.emplace_back();
      queue.push_back({root, begin, 0});
      for (std::size_t head = 0; head < queue.size(); ++head) {
        const place p = queue[head];
        const tree_node& n = e.nodes[p.from];
        if (n.how == split::leaf) {
          // The last column is below all: a leaf leads to itself, and its threshold is free to hold its
          // value.
          out[p.to] = Node(0, p.to, columns - 1);
          if (f.inline_leaves_) {
            out[p.to].threshold = std::bit_cast<typename Node::key>(static_cast<value>(weight(n)));
          } else if (f.sums_ == 1) {
            out[p.to].threshold = static_cast<typename Node::key>(f.values_.size());
            f.values_.push_back(weight(n));
          } else {
            out[p.to].threshold = payload[p.from];
          }
          continue;
        }
        const comparison c = compare(n);
        const auto left = static_cast<std::uint32_t>(out.size());
        out.resize(out.size() + 2);
        const auto column = n.column + (c.negated ? width : 0);
        // No key is 0 but the last column's, so nothing goes left there.
        const auto key = std::isnan(c.threshold) ? 0 : key_of(static_cast<value>(c.threshold));
        out[p.to] = Node(key, left, column);
        queue.push_back({c.left, left, p.depth + 1});
        queue.push_back({c.right, left + 1, p.depth + 1});
      }
      built.push_back({begin, queue.back().depth});
    }
    // Trees of one depth walk together without waiting for a deeper one.
    std::stable_sort(built.begin(), built.end(),
                     [](const tree& a, const tree& b) { return a.depth > b.depth; });
    for (const tree& t : built) {
      f.roots_.push_back(t.root);
      f.depths_.push_back(t.depth);
    }
  }
};

forest::forest(const ensemble& e, tree_walk how)
    : width_(e.width),
      sums_(e.sums),
      outputs_(e.outputs),
      handles_missing_(e.handles_missing),
      transform_(e.transform),
      scale_(e.scale),
      base_(e.base),
      how_(has_tree_walk(how) ? how : tree_walk::portable) {
  check(e);
  const auto negative = [](double v) { return v < 0; };
  shares_ = std::none_of(base_.begin(), base_.end(), negative) &&
            std::none_of(e.shares.begin(), e.shares.end(), [](const leaf_share& s) { return s.weight < 0; });
  builder b{e, *this};
  b.choose_layout();
  if (sums_ > 1) b.copy_payloads();
  if (b.narrow) {
    b.lay_out(narrow_);
  } else {
    b.lay_out(wide_);
  }
  nodes_ = narrow_.size() + wide_.size();
  if (how_ != tree_walk::portable) to_lanes();
}

void forest::to_lanes() {
  std::vector<forest_lanes::node> nodes;
  nodes.reserve(nodes_);
  const auto copy = [&](const auto& from) {
    using node = typename std::decay_t<decltype(from)>::value_type;
    for (const node& n : from) {
      forest_lanes::node to;
      to.key = n.threshold;
      to.left = n.left();
      to.column = n.column();
      const bool leaf = to.left == nodes.size();
      if (leaf && inline_leaves_) {
        to.value = static_cast<double>(std::bit_cast<typename node::value>(n.threshold));
      } else if (leaf && sums_ == 1) {
        to.value = values_[static_cast<std::size_t>(n.threshold)];
      } else if (leaf) {
        to.payload = static_cast<std::uint32_t>(n.threshold);
      }
      nodes.push_back(to);
    }
  };
  copy(narrow_);
  copy(wide_);
  lanes_ = forest_lanes::build(nodes, roots_, depths_, width_, wide_.empty(), sums_ == 1, how_);
  if (!lanes_) return;
  narrow_ = {};
  wide_ = {};
  values_ = {};
}

namespace {

// One step of a walk.
template <class Node, class Key>
inline std::uint32_t step(const Node* nodes, std::uint32_t at, const Key* x) {
  const Node q = nodes[at];
  std::uint32_t to = q.left();
  if (q.threshold < x[q.column()]) ++to;
  return to;
}

/// Walks `K` paths to their leaves. Deep trees are mostly shallow: from the eighth level on, ends as soon as
/// all have arrived.
template <std::size_t K, class Node, class RowOf>
inline void walk(const Node* nodes, std::uint32_t* at, std::uint32_t depth, RowOf row_of) {
  const std::uint32_t plain = depth <= 12 ? depth : 8;
  for (std::uint32_t d = 0; d < plain; ++d) {
    for (std::size_t j = 0; j < K; ++j) at[j] = step(nodes, at[j], row_of(j));
  }
  for (std::uint32_t d = plain; d < depth; d += 4) {
    std::uint32_t moved = 0;
    for (int i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < K; ++j) at[j] = step(nodes, at[j], row_of(j));
    }
    for (std::size_t j = 0; j < K; ++j) {
      const std::uint32_t to = step(nodes, at[j], row_of(j));
      moved |= to ^ at[j];
      at[j] = to;
    }
    if (moved == 0) return;
  }
}

}  // namespace

template <class Node>
inline void forest::add_leaf(const Node& leaf, double* sums) const {
  if (inline_leaves_) {
    sums[0] += static_cast<double>(std::bit_cast<typename Node::value>(leaf.threshold));
    return;
  }
  if (sums_ == 1) {
    sums[0] += values_[static_cast<std::size_t>(leaf.threshold)];
    return;
  }
  const auto i = static_cast<std::size_t>(leaf.threshold);
  for (std::uint32_t k = payload_begin_[i]; k < payload_begin_[i + 1]; ++k)
    sums[payload_[k].output] += payload_[k].weight;
}

template <std::size_t Stride, class Node, class Key>
void forest::walk_block(const std::vector<Node>& nodes, const Key* x, std::size_t rows, double* sums) const {
  const std::size_t stride = Stride ? Stride : stride_;
  const std::size_t per_row = sums_ == 1 ? partial_sums : sums_;
  const Node* const a = nodes.data();
  // A tree stays in the first-level cache while all rows of the block pass through it.
  const auto rows_together = [&]<std::size_t K>(std::size_t from, std::size_t t) {
    std::uint32_t at[K];
    const Key* const base = x + from * stride;
    std::fill_n(at, K, roots_[t]);
    walk<K>(a, at, depths_[t], [&](std::size_t j) { return base + j * stride; });
    double* const to = sums + from * per_row + (sums_ == 1 ? t % partial_sums : 0);
    for (std::size_t j = 0; j < K; ++j) add_leaf(a[at[j]], to + j * per_row);
  };
  const std::size_t sixteens = rows / chains * chains;
  const std::size_t grouped = rows % chains >= chains / 2 ? sixteens + chains / 2 : sixteens;
  for (std::size_t t = 0; grouped && t < roots_.size(); ++t) {
    for (std::size_t i = 0; i < sixteens; i += chains) rows_together.template operator()<chains>(i, t);
    if (grouped > sixteens) rows_together.template operator()<chains / 2>(sixteens, t);
  }
  for (std::size_t i = grouped; i < rows; ++i) {
    const Key* const row = x + i * stride;
    // The last group walks its first tree several times over where there are too few.
    const auto trees_together = [&]<std::size_t K>(std::size_t from) {
      const std::size_t count = std::min(K, roots_.size() - from);
      std::uint32_t at[K];
      for (std::size_t j = 0; j < K; ++j) at[j] = roots_[from + (j < count ? j : 0)];
      walk<K>(a, at, depths_[from], [&](std::size_t) { return row; });
      double* const to = sums + i * per_row;
      for (std::size_t j = 0; j < count; ++j)
        add_leaf(a[at[j]], to + (sums_ == 1 ? (from + j) % partial_sums : 0));
    };
    std::size_t t = 0;
    for (; roots_.size() - t > chains / 2; t += std::min(chains, roots_.size() - t)) {
      trees_together.template operator()<chains>(t);
    }
    if (roots_.size() - t > chains / 4) {
      trees_together.template operator()<chains / 2>(t);
    } else if (t < roots_.size()) {
      trees_together.template operator()<chains / 4>(t);
    }
  }
}

template <class Node>
void forest::walk_all(const std::vector<Node>& nodes, const double* in, std::size_t rows,
                      double* sums) const {
  using value = typename Node::value;
  using key = typename Node::key;
  thread_local std::vector<key> x;
  const std::size_t block = std::min(rows, block_rows);
  if (x.size() < block * stride_) x.resize(block * stride_);
  for (std::size_t done = 0; done < rows; done += block) {
    const std::size_t count = std::min(block, rows - done);
    for (std::size_t r = 0; r < count; ++r) {
      const double* const from = in + (done + r) * width_;
      key* const to = x.data() + r * stride_;
      for (std::size_t c = 0; c < width_; ++c) to[c] = key_of(static_cast<value>(from[c]));
      if (negated_) {
        for (std::size_t c = 0; c < width_; ++c) to[width_ + c] = key_of(-static_cast<value>(from[c]));
      }
      to[columns_ - 1] = 0;
    }
    double partial[block_rows * partial_sums];
    double* const to = sums_ == 1 ? partial : sums + done * sums_;
    if (sums_ == 1) std::fill_n(partial, count * partial_sums, 0.0);
    switch (stride_) {
      case 16:
        walk_block<16>(nodes, x.data(), count, to);
        break;
      case 64:
        walk_block<64>(nodes, x.data(), count, to);
        break;
      case 256:
        walk_block<256>(nodes, x.data(), count, to);
        break;
      default:
        walk_block<0>(nodes, x.data(), count, to);
    }
    if (sums_ == 1) add_partial(partial, count, sums + done);
  }
}

void forest::walk_lanes(const double* in, std::size_t rows, double* sums) const {
  thread_local std::vector<std::int32_t> ranks;
  thread_local std::vector<std::uint32_t> arrived;
  if (ranks.size() < lane_rows * lanes_->stride) ranks.resize(lane_rows * lanes_->stride);
  const std::size_t groups = lanes_->groups.size();
  if (sums_ > 1 && arrived.size() < groups * lane_rows * forest_lanes::width)
    arrived.resize(groups * lane_rows * forest_lanes::width);
  const auto walk = how_ == tree_walk::avx512 ? walk_avx512 : walk_avx2;
  double partial[lane_rows * partial_sums];
  for (std::size_t done = 0; done < rows; done += lane_rows) {
    const std::size_t count = std::min(lane_rows, rows - done);
    if (sums_ == 1) {
      std::fill_n(partial, count * partial_sums, 0.0);
      walk(*lanes_, in + done * width_, count, width_, ranks.data(), partial, nullptr);
      add_partial(partial, count, sums + done);
      continue;
    }
    walk(*lanes_, in + done * width_, count, width_, ranks.data(), nullptr, arrived.data());
    for (std::size_t g = 0; g < groups; ++g) {
      for (std::size_t r = 0; r < count; ++r) {
        const std::uint32_t* const at = arrived.data() + (g * count + r) * forest_lanes::width;
        double* const to = sums + (done + r) * sums_;
        for (std::uint32_t lane = 0; lane < lanes_->groups[g].trees; ++lane) {
          const std::uint32_t i = lanes_->payloads[at[lane]];
          for (std::uint32_t k = payload_begin_[i]; k < payload_begin_[i + 1]; ++k)
            to[payload_[k].output] += payload_[k].weight;
        }
      }
    }
  }
}

void forest::finish(double* sums, double* out) const {
  if (scale_ != 1) {
    for (std::size_t k = 0; k < sums_; ++k) sums[k] *= scale_;
  }
  for (std::size_t k = 0; k < base_.size(); ++k) sums[k] += base_[k];
  if (sums_ != outputs_) {
    split_binary(transform_, shares_, sums[0], out);
    return;
  }
  if (transform_ != post_transform::none) apply(transform_, out, outputs_);
}

void forest::score(const double* in, std::size_t rows, double* out) const {
  thread_local std::vector<double> single;
  double* sums = out;
  if (sums_ != outputs_) {
    if (single.size() < rows * sums_) single.resize(rows * sums_);
    sums = single.data();
  }
  std::fill_n(sums, rows * sums_, 0.0);
  if (lanes_) {
    walk_lanes(in, rows, sums);
  } else if (!narrow_.empty()) {
    walk_all(narrow_, in, rows, sums);
  } else {
    walk_all(wide_, in, rows, sums);
  }
  if (scale_ == 1 && base_.empty() && transform_ == post_transform::none && sums_ == outputs_) return;
  for (std::size_t r = 0; r < rows; ++r) finish(sums + r * sums_, out + r * outputs_);
}

}  // namespace troupe::model

#pragma once
// Included once for each kind of processor, inside a namespace of its own: the walk of TreeSHAP.

/// One number a row, for L rows that are explained together.
template <std::size_t L>
struct alignas(8 * L) lanes {
  double v[L];
};

/// One feature on the path from the root: the share of training rows that its splits let through, and for
/// each row whether they let it through, 1 or 0.
template <std::size_t L>
struct element {
  std::uint32_t column = 0;
  double zero = 1;
  lanes<L> one;
};

/// Algorithm 2 for L rows at once. The weights of a path do not depend on the order of its elements, so a
/// split on a feature that is on the path already changes that element in place.
template <std::size_t L>
class shap_walker {
 public:
  shap_walker(const shap_trees& of, const shap_rows& rows, void* room)
      : s_(of), e_(of.e), where_(rows.where), to_(rows.to), in_(rows.in), out_(rows.out) {
    // A level has its own weights, and those without the element that its split changes.
    weights_ = static_cast<lanes<L>*>(room);
    path_ = reinterpret_cast<element<L>*>(weights_ + 2 * (s_.depth + 1) * (s_.longest + 1));
  }

  void run(std::uint32_t root) {
    for (std::size_t l = 0; l < L; ++l) weights_[0].v[l] = 1;
    visit(root, 0, 0);
  }

 private:
  lanes<L>* level(std::size_t depth) { return weights_ + 2 * depth * (s_.longest + 1); }

  /// `to` = `from`, which has `used` elements, and one more.
  void extend(const lanes<L>* from, std::size_t used, const element<L>& with, lanes<L>* to) const {
    const double all = 1 / static_cast<double>(used + 2);
    for (std::size_t l = 0; l < L; ++l) to[used + 1].v[l] = 0;
    for (std::size_t i = used + 1; i-- > 0;) {
      const double up = static_cast<double>(i + 1) * all;
      const double stay = static_cast<double>(used + 1 - i) * all * with.zero;
      for (std::size_t l = 0; l < L; ++l) {
        const double w = from[i].v[l];
        to[i + 1].v[l] += with.one.v[l] * w * up;
        to[i].v[l] = w * stay;
      }
    }
  }

  /// `to` = `from` without one of its elements. An element with shares of 0 on a path lets nothing through,
  /// and all weights are 0.
  void unwind(const lanes<L>* from, std::size_t used, const element<L>& without, lanes<L>* to) const {
    const double inverse = without.zero != 0 ? 1 / without.zero : 0;
    const std::size_t row = used * s_.longest;
    lanes<L> next = from[used];
    for (std::size_t i = used; i-- > 0;) {
      const double up = s_.up[row + i];
      const double back = s_.stay[row + i] * without.zero;
      const double off = s_.off[row + i] * inverse;
      for (std::size_t l = 0; l < L; ++l) {
        const double in = next.v[l] * up;
        const double w = from[i].v[l];
        next.v[l] = w - in * back;
        const double lost = w * off;
        to[i].v[l] = without.one.v[l] != 0 ? in : lost;
      }
    }
  }

  /// Adds one element's share of a leaf.
  void share(const tree_node& n, const element<L>& with, const lanes<L>& sum) {
    lanes<L> by;
    for (std::size_t l = 0; l < L; ++l) by.v[l] = sum.v[l] * (with.one.v[l] - with.zero) * e_.scale;
    for (std::uint32_t i = n.yes; i < n.no; ++i) {
      const leaf_share& weight = e_.shares[i];
      double* const out = out_ + weight.output * to_ + where_[with.column];
      for (std::size_t l = 0; l < L; ++l) out[l * e_.sums * to_] += by.v[l] * weight.weight;
    }
  }

  /// For each element of the path the sum of what unwind() leaves.
  void leaf(const tree_node& n, const lanes<L>* w, std::size_t used) {
    const std::size_t row = used * s_.longest;
    // Of a row that an element does not let through the sum is the same for all elements, but for a factor.
    lanes<L> lost{};
    for (std::size_t i = used; i-- > 0;) {
      const double off = s_.off[row + i];
      for (std::size_t l = 0; l < L; ++l) lost.v[l] += w[i].v[l] * off;
    }
    if constexpr (L == 1) {
      // A single row: the elements that let it through are in the lanes.
      constexpr std::size_t together = 8;
      for (std::size_t from = 0; from < used;) {
        std::size_t which[together] = {};
        double zero[together];
        std::size_t count = 0;
        for (; from < used && count < together; ++from) {
          const element<L>& with = path_[from];
          if (with.one.v[0] != 0) {
            which[count] = from;
            zero[count++] = with.zero;
          } else {
            share(n, with, {{lost.v[0] * (with.zero != 0 ? 1 / with.zero : 0)}});
          }
        }
        for (std::size_t j = count; j < together; ++j) zero[j] = 1;
        double kept[together] = {};
        double next[together];
        for (double& x : next) x = w[used].v[0];
        for (std::size_t i = used; i-- > 0;) {
          const double up = s_.up[row + i];
          const double stay = s_.stay[row + i];
          for (std::size_t j = 0; j < together; ++j) {
            const double in = next[j] * up;
            kept[j] += in;
            next[j] = w[i].v[0] - in * (stay * zero[j]);
          }
        }
        for (std::size_t j = 0; j < count; ++j) share(n, path_[which[j]], {{kept[j]}});
      }
      return;
    }
    for (std::size_t k = 0; k < used; ++k) {
      const element<L>& with = path_[k];
      const double inverse = with.zero != 0 ? 1 / with.zero : 0;
      lanes<L> next = w[used];
      lanes<L> kept{};
      for (std::size_t i = used; i-- > 0;) {
        const double up = s_.up[row + i];
        const double back = s_.stay[row + i] * with.zero;
        for (std::size_t l = 0; l < L; ++l) {
          const double in = next.v[l] * up;
          kept.v[l] += in;
          next.v[l] = w[i].v[l] - in * back;
        }
      }
      lanes<L> sum;
      for (std::size_t l = 0; l < L; ++l) {
        const double dropped = lost.v[l] * inverse;
        sum.v[l] = with.one.v[l] != 0 ? kept.v[l] : dropped;
      }
      share(n, with, sum);
    }
  }

  void visit(std::uint32_t at, std::size_t depth, std::size_t used) {
    const tree_node& n = e_.nodes[at];
    const lanes<L>* w = level(depth);
    if (n.how == split::leaf) return leaf(n, w, used);
    const std::uint32_t feature = e_.stands_for.empty() ? n.column : e_.stands_for[n.column];
    std::size_t k = 0;
    while (k < used && path_[k].column != feature) ++k;
    element<L> before;
    before.column = feature;
    for (std::size_t l = 0; l < L; ++l) before.one.v[l] = 1;
    std::size_t kept = used;
    if (k < used) {
      before = path_[k];
      lanes<L>* const without = level(depth) + s_.longest + 1;
      unwind(w, used, before, without);
      w = without;
      kept = used - 1;
    }
    std::uint32_t goes[L];
    for (std::size_t l = 0; l < L; ++l) {
      double x = in_[l * e_.width + n.column];
      if (e_.float_input) x = static_cast<double>(static_cast<float>(x));
      goes[l] = child(n, x);
    }
    const std::uint32_t both[] = {n.yes, n.no};
    for (const std::uint32_t next : both) {
      element<L>& with = path_[k];
      with.column = feature;
      with.zero = before.zero * s_.share_of[next];
      bool any = with.zero != 0;
      for (std::size_t l = 0; l < L; ++l) {
        with.one.v[l] = goes[l] == next ? before.one.v[l] : 0.0;
        any = any || with.one.v[l] != 0;
      }
      if (!any) continue;  // neither a training row nor one of these comes here
      extend(w, kept, with, level(depth + 1));
      visit(next, depth + 1, kept + 1);
    }
    path_[k] = before;
  }

  const shap_trees& s_;
  const ensemble& e_;
  const std::uint32_t* where_;
  std::size_t to_;
  const double* in_;
  double* out_;
  lanes<L>* weights_ = nullptr;
  element<L>* path_ = nullptr;
};

template <std::size_t L>
void explain_rows(const shap_trees& s, const shap_rows& rows, void* room) {
  shap_walker<L> walk(s, rows, room);
  for (const std::uint32_t root : s.e.roots) walk.run(root);
}

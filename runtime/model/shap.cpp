#include "runtime/model/shap.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace troupe::model {
namespace {

constexpr std::size_t most_depth = 256;
constexpr std::size_t most_lanes = 8;

/// One number a row, for L rows that are explained together.
template <std::size_t L>
struct lanes {
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

}  // namespace

/// Algorithm 2 for L rows at once. The weights of a path do not depend on the order of its elements, so a
/// split on a feature that is on the path already changes that element in place.
template <std::size_t L>
class shap_walker {
 public:
  shap_walker(const tree_shap& of, std::span<const std::uint32_t> where, std::size_t to, const double* in,
              double* out)
      : s_(of), e_(of.e_), where_(where), to_(to), in_(in), out_(out) {
    thread_local std::vector<lanes<L>> weights;
    thread_local std::vector<element<L>> path;
    // A level has its own weights, and those without the element that its split changes.
    weights.resize(std::max(weights.size(), 2 * (s_.depth_ + 1) * (s_.longest_ + 1)));
    path.resize(std::max(path.size(), s_.longest_ + 1));
    weights_ = weights.data();
    path_ = path.data();
  }

  void run(std::uint32_t root) {
    for (std::size_t l = 0; l < L; ++l) weights_[0].v[l] = 1;
    visit(root, 0, 0);
  }

 private:
  lanes<L>* level(std::size_t depth) { return weights_ + 2 * depth * (s_.longest_ + 1); }

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
    const std::size_t row = used * s_.longest_;
    lanes<L> next = from[used];
    for (std::size_t i = used; i-- > 0;) {
      const double up = s_.up_[row + i];
      const double back = s_.stay_[row + i] * without.zero;
      const double off = s_.off_[row + i] * inverse;
      for (std::size_t l = 0; l < L; ++l) {
        const double in = next.v[l] * up;
        const double w = from[i].v[l];
        next.v[l] = w - in * back;
        const double lost = w * off;
        to[i].v[l] = without.one.v[l] != 0 ? in : lost;
      }
    }
  }

  /// The sum of what unwind() leaves.
  void unwound_sum(const lanes<L>* from, std::size_t used, const element<L>& without, lanes<L>& sum) const {
    const double inverse = without.zero != 0 ? 1 / without.zero : 0;
    const std::size_t row = used * s_.longest_;
    lanes<L> next = from[used];
    lanes<L> kept{};
    lanes<L> lost{};
    for (std::size_t i = used; i-- > 0;) {
      const double up = s_.up_[row + i];
      const double back = s_.stay_[row + i] * without.zero;
      const double off = s_.off_[row + i];
      for (std::size_t l = 0; l < L; ++l) {
        const double in = next.v[l] * up;
        const double w = from[i].v[l];
        kept.v[l] += in;
        lost.v[l] += w * off;
        next.v[l] = w - in * back;
      }
    }
    for (std::size_t l = 0; l < L; ++l) {
      const double dropped = lost.v[l] * inverse;
      sum.v[l] = without.one.v[l] != 0 ? kept.v[l] : dropped;
    }
  }

  void leaf(const tree_node& n, const lanes<L>* w, std::size_t used) {
    for (std::size_t k = 0; k < used; ++k) {
      const element<L>& with = path_[k];
      lanes<L> sum;
      unwound_sum(w, used, with, sum);
      for (std::size_t l = 0; l < L; ++l) sum.v[l] *= (with.one.v[l] - with.zero) * e_.scale;
      for (std::uint32_t i = n.yes; i < n.no; ++i) {
        const leaf_share& share = e_.shares[i];
        double* const out = out_ + share.output * to_ + where_[with.column];
        for (std::size_t l = 0; l < L; ++l) out[l * e_.sums * to_] += sum.v[l] * share.weight;
      }
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
      lanes<L>* const without = level(depth) + s_.longest_ + 1;
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
    for (const std::uint32_t next : {n.yes, n.no}) {
      element<L>& with = path_[k];
      with.column = feature;
      with.zero = before.zero * s_.share_of_[next];
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

  const tree_shap& s_;
  const ensemble& e_;
  std::span<const std::uint32_t> where_;
  std::size_t to_;
  const double* in_;
  double* out_;
  lanes<L>* weights_ = nullptr;
  element<L>* path_ = nullptr;
};

tree_shap::tree_shap(ensemble e) : e_(std::move(e)) {
  check(e_);
  if (e_.cover.empty()) {
    throw load_error(
        "the file does not say how many training rows came by each node, which explanations of trees need; "
        "keep the model as model.skops, model.json (XGBoost) or model.txt (LightGBM)");
  }
  base_.assign(e_.sums, 0);
  share_of_.assign(e_.nodes.size(), 1);
  struct place {
    std::uint32_t at;
    std::size_t depth;
    double share;
  };
  std::vector<place> left;
  for (const std::uint32_t root : e_.roots) {
    left.push_back({root, 0, 1});
    while (!left.empty()) {
      const place p = left.back();
      left.pop_back();
      depth_ = std::max(depth_, p.depth);
      const tree_node& n = e_.nodes[p.at];
      if (n.how == split::leaf) {
        for (std::uint32_t i = n.yes; i < n.no; ++i)
          base_[e_.shares[i].output] += p.share * e_.scale * e_.shares[i].weight;
        continue;
      }
      if (p.depth == most_depth) {
        throw load_error("a tree is deeper than " + std::to_string(most_depth) +
                         " levels; explanations stop there");
      }
      for (const std::uint32_t next : {n.yes, n.no}) {
        const double cover = e_.cover[p.at];
        share_of_[next] = cover > 0 ? std::min(1.0, e_.cover[next] / cover) : 0;
        left.push_back({next, p.depth + 1, p.share * share_of_[next]});
      }
    }
  }
  for (std::size_t k = 0; k < e_.base.size(); ++k) base_[k] += e_.base[k];
  longest_ = std::min(depth_, e_.width) + 1;
  up_.resize(longest_ * longest_);
  stay_.resize(up_.size());
  off_.resize(up_.size());
  for (std::size_t used = 0; used < longest_; ++used) {
    for (std::size_t i = 0; i < used; ++i) {
      const auto all = static_cast<double>(used + 1);
      up_[used * longest_ + i] = all / static_cast<double>(i + 1);
      stay_[used * longest_ + i] = static_cast<double>(used - i) / all;
      off_[used * longest_ + i] = all / static_cast<double>(used - i);
    }
  }
}

void tree_shap::add(const double* in, std::size_t rows, std::span<const std::uint32_t> where, std::size_t to,
                    double* contributions) const {
  const auto some = [&]<std::size_t L>(std::size_t from) {
    shap_walker<L> walk(*this, where, to, in + from * e_.width, contributions + from * e_.sums * to);
    for (const std::uint32_t root : e_.roots) walk.run(root);
  };
  std::size_t done = 0;
  for (; rows - done >= most_lanes; done += most_lanes) some.template operator()<most_lanes>(done);
  for (; done < rows; ++done) some.template operator()<1>(done);
}

void tree_shap::score(const double* in, std::size_t rows, double* scores) const {
  std::fill_n(scores, rows * e_.sums, 0.0);
  for (std::size_t r = 0; r < rows; ++r) {
    double* const sums = scores + r * e_.sums;
    for (std::uint32_t at : e_.roots) {
      while (e_.nodes[at].how != split::leaf) {
        double x = in[r * e_.width + e_.nodes[at].column];
        if (e_.float_input) x = static_cast<double>(static_cast<float>(x));
        at = child(e_.nodes[at], x);
      }
      for (std::uint32_t i = e_.nodes[at].yes; i < e_.nodes[at].no; ++i)
        sums[e_.shares[i].output] += e_.scale * e_.shares[i].weight;
    }
    for (std::size_t k = 0; k < e_.base.size(); ++k) sums[k] += e_.base[k];
  }
}

explainer::~explainer() = default;

namespace {

/// Runs the steps before operation `at` and hands its input on.
class pipeline_explainer : public explainer {
 public:
  pipeline_explainer(const pipeline& p, std::size_t at, std::size_t features, std::size_t outputs)
      : p_(p), at_(at), features_(features), outputs_(outputs) {
    where_ = model::origins(p)[p.operations[at].inputs[0]];
    if (where_.empty()) {
      throw load_error("a step before the model mixes columns, so nothing can be said of single features");
    }
  }

  std::size_t features() const override { return features_; }
  std::size_t outputs() const override { return outputs_; }

  void explain(std::span<const double* const> rows, double* contributions, double* scores) const override {
    std::fill_n(contributions, rows.size() * outputs_ * features_, 0.0);
    std::vector<double> answers(rows.size() * p_.slots[p_.result].width);
    const operation* const wanted = &p_.operations[at_];
    p_.watch(rows, answers.data(), [&](const operation& o, const columns* in, std::size_t count) {
      if (&o != wanted) return;
      explain_block(in[0].data, count, contributions, scores);
      contributions += count * outputs_ * features_;
      scores += count * outputs_;
    });
  }

 protected:
  [[nodiscard]] std::span<const std::uint32_t> where() const { return where_; }
  virtual void explain_block(const double* in, std::size_t rows, double* contributions,
                             double* scores) const = 0;

 private:
  const pipeline& p_;
  std::size_t at_;
  std::size_t features_;
  std::size_t outputs_;
  std::vector<std::uint32_t> where_;
};

class tree_explainer final : public pipeline_explainer {
 public:
  tree_explainer(const pipeline& p, std::size_t at, std::size_t features, ensemble e)
      : pipeline_explainer(p, at, features, e.sums), shap_(std::move(e)) {}
  std::span<const double> base() const override { return shap_.base(); }

 private:
  void explain_block(const double* in, std::size_t rows, double* contributions,
                     double* scores) const override {
    shap_.add(in, rows, where(), features(), contributions);
    shap_.score(in, rows, scores);
  }
  tree_shap shap_;
};

class linear_explainer final : public pipeline_explainer {
 public:
  linear_explainer(const pipeline& p, std::size_t at, std::size_t features, affine a)
      : pipeline_explainer(p, at, features, a.outputs), a_(std::move(a)) {
    a_.bias.resize(a_.outputs);
  }
  std::span<const double> base() const override { return a_.bias; }

 private:
  void explain_block(const double* in, std::size_t rows, double* contributions,
                     double* scores) const override {
    for (std::size_t i = 0; i < rows * a_.outputs; ++i) {
      const double* const x = in + i / a_.outputs * a_.inputs;
      const double* const w = a_.weights.data() + i % a_.outputs * a_.inputs;
      scores[i] = a_.bias[i % a_.outputs];
      for (std::size_t c = 0; c < a_.inputs; ++c) {
        contributions[i * features() + where()[c]] += w[c] * x[c];
        scores[i] += w[c] * x[c];
      }
    }
  }
  affine a_;
};

}  // namespace

std::unique_ptr<const explainer> explain_trees(const pipeline& p, std::size_t at, std::size_t features,
                                               ensemble e) {
  return std::make_unique<tree_explainer>(p, at, features, std::move(e));
}

std::unique_ptr<const explainer> explain_linear(const pipeline& p, std::size_t at, std::size_t features,
                                                affine a) {
  return std::make_unique<linear_explainer>(p, at, features, std::move(a));
}

}  // namespace troupe::model

#include "runtime/model/shap.hpp"

#include "runtime/model/forest_lanes.hpp"
#include "runtime/model/shap_walk.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

namespace troupe::model {
namespace {

constexpr std::size_t most_depth = 256;

bool has_fma() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

#include "runtime/model/shap_walker.hpp"

}  // namespace

shap_walks portable_shap_walks() {
  return {explain_rows<1>, explain_rows<shap_lanes>};
}

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
  static const shap_walks walks = has_tree_walk(tree_walk::avx512)              ? avx512_shap_walks()
                                  : has_tree_walk(tree_walk::avx2) && has_fma() ? avx2_shap_walks()
                                                                                : portable_shap_walks();
  const shap_trees trees{e_, share_of_.data(), depth_, longest_, up_.data(), stay_.data(), off_.data()};
  thread_local std::vector<double> buffer;
  const std::size_t doubles = trees.room(shap_lanes) / sizeof(double) + 8;
  if (buffer.size() < doubles) buffer.resize(doubles);
  void* room = buffer.data();
  std::size_t space = buffer.size() * sizeof(double);
  room = std::align(64, trees.room(shap_lanes), room, space);
  for (std::size_t done = 0; done < rows;) {
    const bool many = rows - done >= shap_lanes;
    const shap_rows some{in + done * e_.width, where.data(), to, contributions + done * e_.sums * to};
    (many ? walks.eight : walks.one)(trees, some, room);
    done += many ? shap_lanes : 1;
  }
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

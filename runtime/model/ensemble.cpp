#include "runtime/model/ensemble.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "runtime/model/model.hpp"

namespace troupe::model {
namespace {

void softmax(double* scores, std::size_t count, bool keep_zeros) {
  const double most = *std::max_element(scores, scores + count);
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (keep_zeros && scores[i] == 0) continue;
    scores[i] = std::exp(scores[i] - most);
    sum += scores[i];
  }
  if (sum == 0) return;
  for (std::size_t i = 0; i < count; ++i) scores[i] /= sum;
}

double logistic(double x) {
  return 1 / (1 + std::exp(-x));
}

[[noreturn]] void refuse(const std::string& what) {
  throw load_error(what);
}

}  // namespace

void apply(post_transform how, double* scores, std::size_t count) {
  switch (how) {
    case post_transform::none:
      break;
    case post_transform::logistic:
      for (std::size_t i = 0; i < count; ++i) scores[i] = logistic(scores[i]);
      break;
    case post_transform::softmax:
      softmax(scores, count, false);
      break;
    case post_transform::softmax_zero:
      softmax(scores, count, true);
      break;
    case post_transform::one_vs_rest: {
      double sum = 0;
      for (std::size_t i = 0; i < count; ++i) sum += scores[i] = logistic(scores[i]);
      for (std::size_t i = 0; i < count; ++i) scores[i] /= sum;
      break;
    }
    case post_transform::exponential:
      for (std::size_t i = 0; i < count; ++i) scores[i] = std::exp(scores[i]);
      break;
  }
}

void split_binary(post_transform how, bool scores_are_shares, double score, double* out) {
  if (how == post_transform::logistic) {
    out[0] = logistic(-score);
    out[1] = logistic(score);
    return;
  }
  out[0] = scores_are_shares ? 1 - score : -score;
  out[1] = score;
  if (how != post_transform::none) apply(how, out, 2);
}

void ensemble::set_leaf(tree_node& n, const double* weights, std::size_t count) {
  n = {};
  n.yes = static_cast<std::uint32_t>(shares.size());
  for (std::size_t k = 0; k < count; ++k) {
    if (weights[k] != 0) shares.push_back({weights[k], static_cast<std::uint32_t>(k)});
  }
  n.no = static_cast<std::uint32_t>(shares.size());
}

void check(const ensemble& e) {
  const std::size_t count = e.nodes.size();
  if (count == 0) refuse("it has no trees");
  if (e.roots.empty()) refuse("the nodes of a tree form a circle");
  if (count >= UINT32_MAX || e.shares.size() >= UINT32_MAX) refuse("it has too many nodes");
  if (e.sums == 0 || e.outputs == 0 || (e.sums != e.outputs && (e.sums != 1 || e.outputs != 2))) {
    refuse(std::to_string(e.sums) + " sums for " + std::to_string(e.outputs) + " outputs");
  }
  if (!e.base.empty() && e.base.size() != e.sums) {
    refuse(std::to_string(e.base.size()) + " base_values for " + std::to_string(e.sums) + " sums");
  }
  for (const double v : e.base) {
    if (!std::isfinite(v)) refuse("a base value is not finite");
  }
  if (!e.stands_for.empty() && e.stands_for.size() != e.width) refuse("its columns stand for none");
  for (const std::uint32_t c : e.stands_for) {
    if (c >= e.width) refuse("a column stands for one that does not exist");
  }
  if (!std::isfinite(e.scale)) refuse("the scale of its sums is not finite");
  if (!e.cover.empty()) {
    if (e.cover.size() != count) refuse("the numbers of training rows and of nodes differ");
    for (const double c : e.cover) {
      if (!std::isfinite(c) || c < 0) refuse("a node's number of training rows is negative or not finite");
    }
  }
  std::vector<std::uint8_t> has_parent(count, 0);
  for (const std::uint32_t r : e.roots) {
    if (r >= count) refuse("root " + std::to_string(r) + " does not exist");
    if (has_parent[r]++) refuse("two trees share a root");
  }
  const auto is_child = [&](std::uint32_t at) {
    if (at >= count) refuse("a child does not exist");
    if (has_parent[at]++) refuse("a node has two parents");
  };
  for (const tree_node& n : e.nodes) {
    if (n.how == split::leaf) {
      if (n.yes > n.no || n.no > e.shares.size()) refuse("a leaf's weights do not exist");
      for (std::uint32_t i = n.yes; i < n.no; ++i) {
        if (e.shares[i].output >= e.sums) refuse("a leaf adds to an output that does not exist");
        if (!std::isfinite(e.shares[i].weight)) refuse("a leaf's weight is not finite");
      }
      continue;
    }
    if (n.column >= e.width) {
      refuse("feature " + std::to_string(n.column) + " of a row with " + std::to_string(e.width));
    }
    if (std::isnan(n.threshold)) refuse("a threshold is not a number");
    is_child(n.yes);
    is_child(n.no);
  }
  // With one parent a node, what is not reached from a root is on a circle, or hangs from one.
  std::vector<std::uint32_t> left(e.roots);
  std::size_t reached = 0;
  while (!left.empty()) {
    const tree_node& n = e.nodes[left.back()];
    left.pop_back();
    ++reached;
    if (n.how == split::leaf) continue;
    left.push_back(n.yes);
    left.push_back(n.no);
  }
  if (reached != count) refuse("the nodes of a tree form a circle");
}

}  // namespace troupe::model

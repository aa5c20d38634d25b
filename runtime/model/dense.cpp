#include "runtime/model/dense.hpp"

#include <algorithm>

#include "runtime/model/forest_lanes.hpp"

namespace troupe::model {
namespace {

constexpr std::size_t lanes = 2;
constexpr std::size_t vectors = 2;
template <class V>
inline void store_part(double* to, V v, std::size_t) {
  to[0] = v[0];
}
template <class V>
inline V multiply_add(V a, V b, V c) {
  return a * b + c;
}

#include "runtime/model/dense_kernel.hpp"

bool has_fma() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

}  // namespace

const dense_kernels& portable_dense() {
  static constexpr dense_kernels k{lanes, vectors, run_layer, run_activate, run_softmax};
  return k;
}

bool has_avx2_dense() {
  return has_tree_walk(tree_walk::avx2) && has_fma();
}
bool has_avx512_dense() {
  return has_tree_walk(tree_walk::avx512);
}

const dense_kernels& best_dense() {
  static const dense_kernels& best = has_avx512_dense() ? avx512_dense()
                                     : has_avx2_dense() ? avx2_dense()
                                                        : portable_dense();
  return best;
}

dense_layer::dense_layer(const std::vector<double>& weights, const std::vector<double>& bias,
                         std::size_t inputs, bool round, const dense_kernels& kernels)
    : kernels_(&kernels), bias_(padded(bias)), inputs_(inputs), outputs_(bias.size()), round_(round) {
  const std::size_t width = kernels.lanes;
  const std::size_t all = (outputs_ + width - 1) / width * width;
  weights_.resize((all * inputs + 7) / 8);
  double* to = weights_.data()->v;
  for (std::size_t first = 0; first < outputs_;) {
    const std::size_t left = (outputs_ - first + width - 1) / width;
    const std::size_t across = width * (left >= kernels.vectors ? kernels.vectors : left >= 2 ? 2 : 1);
    for (std::size_t i = 0; i < inputs; ++i) {
      for (std::size_t k = first; k < first + across; ++k) *to++ = k < outputs_ ? weights[k * inputs + i] : 0;
    }
    first += across;
  }
}

dense_layer::numbers dense_layer::padded(const std::vector<double>& of) {
  numbers made((of.size() + 7) / 8);
  std::copy(of.begin(), of.end(), made.data()->v);
  return made;
}

void dense_layer::add(const std::vector<double>& more) {
  added_ = padded(more);
}

void dense_layer::run(const double* in, std::size_t rows, double* out) const {
  const dense_view l{weights_.data()->v,
                     bias_.data()->v,
                     added_.empty() ? nullptr : added_.data()->v,
                     inputs_,
                     outputs_,
                     round_,
                     relu_};
  kernels_->layer(l, in, rows, out);
}

}  // namespace troupe::model

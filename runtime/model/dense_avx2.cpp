#include "runtime/model/dense.hpp"

#if defined(__x86_64__)
// The compiler's own headers start some results from an undefined register.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace troupe::model {
namespace {

constexpr std::size_t lanes = 4;
constexpr std::size_t vectors = 2;
inline void store_part(double* to, __m256d v, std::size_t count) {
  const __m256i which =
      _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(count)), _mm256_setr_epi64x(0, 1, 2, 3));
  _mm256_maskstore_pd(to, which, v);
}
inline __m256d multiply_add(__m256d a, __m256d b, __m256d c) {
  return _mm256_fmadd_pd(a, b, c);
}

#include "runtime/model/dense_kernel.hpp"
}  // namespace

const dense_kernels& avx2_dense() {
  static constexpr dense_kernels k{lanes, vectors, run_layer, run_activate, run_softmax};
  return k;
}

}  // namespace troupe::model
#pragma GCC pop_options
#else
namespace troupe::model {
const dense_kernels& avx2_dense() {
  return portable_dense();
}
}  // namespace troupe::model
#endif

#include "runtime/model/dense.hpp"

#if defined(__x86_64__)
// The compiler's own headers start some results from an undefined register.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw")
namespace troupe::model {
namespace {

constexpr std::size_t lanes = 8;
constexpr std::size_t vectors = 4;
inline void store_part(double* to, __m512d v, std::size_t count) {
  _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1U << count) - 1), v);
}
inline __m512d multiply_add(__m512d a, __m512d b, __m512d c) {
  return _mm512_fmadd_pd(a, b, c);
}

#include "runtime/model/dense_kernel.hpp"
}  // namespace

const dense_kernels& avx512_dense() {
  static constexpr dense_kernels k{lanes, vectors, run_layer, run_activate, run_softmax};
  return k;
}

}  // namespace troupe::model
#pragma GCC pop_options
#else
namespace troupe::model {
const dense_kernels& avx512_dense() {
  return portable_dense();
}
}  // namespace troupe::model
#endif

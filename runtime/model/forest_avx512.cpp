#include <cstring>

#include "runtime/model/forest_lanes.hpp"

#if defined(__x86_64__)
// The compiler's own headers start some results from an undefined register.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,popcnt")

namespace troupe::model {
namespace {

/// Of 16 keys, those below x.
inline std::uint32_t below(const std::int32_t* keys, std::int32_t x) {
  return static_cast<std::uint32_t>(
      _mm_popcnt_u32(_mm512_cmplt_epi32_mask(_mm512_loadu_si512(keys), _mm512_set1_epi32(x))));
}
inline std::uint32_t below(const std::int64_t* keys, std::int64_t x) {
  const __m512i all = _mm512_set1_epi64(x);
  const auto low = static_cast<unsigned>(_mm512_cmplt_epi64_mask(_mm512_loadu_si512(keys), all));
  const auto high = static_cast<unsigned>(_mm512_cmplt_epi64_mask(_mm512_loadu_si512(keys + 8), all));
  return static_cast<std::uint32_t>(_mm_popcnt_u32(low | high << 8));
}

/// All lanes, which the compiler must not know: a gather keeps the lanes that its mask leaves out, so it
/// waits for what its destination held. With a full mask the compiler takes any register, and gathers wait
/// for each other.
inline __mmask16 all_lanes() {
  __mmask16 mask;
  asm("kxnorw %0, %0, %0" : "=Yk"(mask));
  return mask;
}
inline __m512i gather(const std::int32_t* from, __m512i at) {
  return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), all_lanes(), at, from, 4);
}
inline __m512 gather(const float* from, __m512i at) {
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), all_lanes(), at, from, 4);
}
inline __m512d gather(const double* from, __m256i at) {
  return _mm512_mask_i32gather_pd(_mm512_setzero_pd(), static_cast<__mmask8>(all_lanes()), at, from, 8);
}

#include "runtime/model/forest_ranks.hpp"

/// The ranks of a row, 16 in a register.
template <std::size_t Registers>
struct row_ranks {
  __m512i a, b, c, d;
  explicit row_ranks(const std::int32_t* x) {
    a = _mm512_loadu_si512(x);
    if constexpr (Registers > 1) b = _mm512_loadu_si512(x + 16);
    if constexpr (Registers > 2) {
      c = _mm512_loadu_si512(x + 32);
      d = _mm512_loadu_si512(x + 48);
    }
  }
  /// The lanes that go right.
  __mmask16 right(__m512i word) const {
    __m512i x;
    if constexpr (Registers == 1) {
      x = _mm512_permutexvar_epi32(word, a);
    } else {
      x = _mm512_permutex2var_epi32(a, word, b);
    }
    if constexpr (Registers > 2) {
      const __mmask16 upper = _mm512_test_epi32_mask(word, _mm512_set1_epi32(32));
      x = _mm512_mask_mov_epi32(x, upper, _mm512_permutex2var_epi32(c, word, d));
    }
    return _mm512_cmplt_epi32_mask(word, x);
  }
};

/// `K` walks at once: of K rows through one group, or of one row through up to K groups, the last of which is
/// walked several times over where there are fewer.
template <std::size_t Registers, std::size_t K, bool Groups>
inline void walk(const forest_lanes& f, const std::int32_t* x, std::size_t g, std::size_t groups,
                 __m512i* at) {
  constexpr std::size_t top_size = forest_lanes::width * (1 + forest_lanes::top_nodes);
  const std::int32_t* const tops = f.tops.data() + g * top_size;
  const auto top = [&](std::size_t k, std::size_t i) {
    return _mm512_loadu_si512(tops + (!Groups ? 0 : k < groups ? k : groups - 1) * top_size + i * 16);
  };
  const auto row = [&](std::size_t k) { return row_ranks<Registers>(x + (Groups ? 0 : k * f.stride)); };
  const __m512i pair_mask = _mm512_set1_epi32(f.pair_mask);
  const __m512i one = _mm512_set1_epi32(1);
  const __m128i pair_shift = _mm_cvtsi32_si128(f.pair_shift);
  const auto to = [&](__m512i word, __mmask16 right, __m512i base) {
    const __m512i pair = _mm512_and_si512(_mm512_srl_epi32(word, pair_shift), pair_mask);
    const __m512i left = _mm512_add_epi32(pair, base);
    return _mm512_mask_add_epi32(left, right, left, one);
  };
  for (std::size_t k = 0; k < K; ++k) {
    const auto r = row(k);
    const auto pick = [&](__mmask16 right, std::size_t i) {
      return _mm512_mask_mov_epi32(top(k, i), right, top(k, i + 1));
    };
    // Nodes are counted by levels from 1 on.
    const __mmask16 m0 = r.right(top(k, 1));
    const __mmask16 m1 = r.right(pick(m0, 2));
    const __mmask16 m2 = r.right(_mm512_mask_mov_epi32(pick(m1, 4), m0, pick(m1, 6)));
    const __m512i low = _mm512_mask_mov_epi32(pick(m2, 8), m1, pick(m2, 10));
    const __m512i high = _mm512_mask_mov_epi32(pick(m2, 12), m1, pick(m2, 14));
    const __m512i word = _mm512_mask_mov_epi32(low, m0, high);
    at[k] = to(word, r.right(word), top(k, 0));
  }
  const std::uint32_t depth = f.groups[g].depth;
  const auto step = [&](std::size_t k) {
    const __m512i word = gather(f.words.data(), at[k]);
    return to(word, row(k).right(word), top(k, 0));
  };
  const std::uint32_t plain = depth <= 12 ? depth : 8;
  for (std::uint32_t d = forest_lanes::top_levels; d < plain; ++d) {
    for (std::size_t k = 0; k < K; ++k) at[k] = step(k);
  }
  for (std::uint32_t d = plain; d < depth; d += 4) {
    for (int i = 0; i < 3; ++i) {
      for (std::size_t k = 0; k < K; ++k) at[k] = step(k);
    }
    unsigned moved = 0;
    for (std::size_t k = 0; k < K; ++k) {
      const __m512i next = step(k);
      moved |= _mm512_cmpneq_epi32_mask(next, at[k]);
      at[k] = next;
    }
    if (!moved) return;
  }
}

inline void arrive(const forest_lanes& f, __m512i at, double* partial, std::uint32_t* arrived) {
  if (arrived) {
    _mm512_storeu_si512(arrived, at);
    return;
  }
  __m512d low, high;
  if (!f.values.empty()) {
    const __m512 leaf = gather(f.values.data(), at);
    low = _mm512_cvtps_pd(_mm512_castps512_ps256(leaf));
    high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(leaf, 1));
  } else {
    low = gather(f.wide_values.data(), _mm512_castsi512_si256(at));
    high = gather(f.wide_values.data(), _mm512_extracti32x8_epi32(at, 1));
  }
  _mm512_storeu_pd(partial, _mm512_add_pd(_mm512_loadu_pd(partial), low));
  _mm512_storeu_pd(partial + 8, _mm512_add_pd(_mm512_loadu_pd(partial + 8), high));
}

template <std::size_t Registers>
void walk_rows(const forest_lanes& f, const std::int32_t* x, std::size_t rows, double* partial,
               std::uint32_t* arrived) {
  const auto leaves = [&](std::size_t g, std::size_t r) {
    return arrived ? arrived + (g * rows + r) * 16 : nullptr;
  };
  const auto rows_together = [&]<std::size_t K>(std::size_t g, std::size_t r) {
    __m512i at[K];
    walk<Registers, K, false>(f, x + r * f.stride, g, 1, at);
    for (std::size_t k = 0; k < K; ++k) arrive(f, at[k], partial + (r + k) * 16, leaves(g, r + k));
  };
  const std::size_t eights = rows / 8 * 8;
  const std::size_t fours = rows / 4 * 4;
  for (std::size_t g = 0; fours && g < f.groups.size(); ++g) {
    for (std::size_t r = 0; r < eights; r += 8) rows_together.template operator()<8>(g, r);
    if (fours > eights) rows_together.template operator()<4>(g, eights);
  }
  for (std::size_t r = fours; r < rows; ++r) {
    const auto groups_together = [&]<std::size_t K>(std::size_t g) {
      const std::size_t count = f.groups.size() - g < K ? f.groups.size() - g : K;
      __m512i at[K];
      walk<Registers, K, true>(f, x + r * f.stride, g, count, at);
      for (std::size_t k = 0; k < count; ++k) arrive(f, at[k], partial + r * 16, leaves(g + k, r));
      return count;
    };
    for (std::size_t g = 0; g < f.groups.size();) {
      const std::size_t left = f.groups.size() - g;
      g += left > 4   ? groups_together.template operator()<8>(g)
           : left > 1 ? groups_together.template operator()<4>(g)
                      : groups_together.template operator()<1>(g);
    }
  }
}

}  // namespace

void walk_avx512(const forest_lanes& f, const double* in, std::size_t rows, std::size_t inputs,
                 std::int32_t* ranks, double* partial, std::uint32_t* arrived) {
  rank_rows(f, in, rows, inputs, ranks);
  if (f.stride == 16) {
    walk_rows<1>(f, ranks, rows, partial, arrived);
  } else if (f.stride == 32) {
    walk_rows<2>(f, ranks, rows, partial, arrived);
  } else {
    walk_rows<4>(f, ranks, rows, partial, arrived);
  }
}

}  // namespace troupe::model

#pragma GCC pop_options
#else

namespace troupe::model {
void walk_avx512(const forest_lanes&, const double*, std::size_t, std::size_t, std::int32_t*, double*,
                 std::uint32_t*) {}
}  // namespace troupe::model
#endif

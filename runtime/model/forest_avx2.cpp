#include <cstring>

#include "runtime/model/forest_lanes.hpp"

#if defined(__x86_64__)
// The compiler's own headers start some results from an undefined register.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx2,popcnt")

namespace troupe::model {
namespace {

inline __m256i load(const std::int32_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

/// Of 16 keys, those below x.
inline std::uint32_t below(const std::int32_t* keys, std::int32_t x) {
  const __m256i all = _mm256_set1_epi32(x);
  const auto some = [&](const std::int32_t* from) {
    return static_cast<unsigned>(
        _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(all, load(from)))));
  };
  return static_cast<std::uint32_t>(_mm_popcnt_u32(some(keys) | some(keys + 8) << 8));
}
inline std::uint32_t below(const std::int64_t* keys, std::int64_t x) {
  const __m256i all = _mm256_set1_epi64x(x);
  unsigned mask = 0;
  for (unsigned i = 0; i < 16; i += 4) {
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + i));
    mask |= static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(all, some))))
            << i;
  }
  return static_cast<std::uint32_t>(_mm_popcnt_u32(mask));
}

/// All lanes, which the compiler must not know: a gather keeps the lanes that its mask leaves out, so it
/// waits for what its destination held. With a full mask the compiler takes any register, and gathers wait
/// for each other.
inline __m256i all_lanes() {
  __m256i mask;
  asm("vpcmpeqd %0, %0, %0" : "=x"(mask));
  return mask;
}
inline __m256i gather(const std::int32_t* from, __m256i at) {
  return _mm256_mask_i32gather_epi32(_mm256_setzero_si256(), from, at, all_lanes(), 4);
}
inline __m256 gather(const float* from, __m256i at) {
  return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), from, at, _mm256_castsi256_ps(all_lanes()), 4);
}
inline __m256d gather(const double* from, __m128i at) {
  return _mm256_mask_i32gather_pd(_mm256_setzero_pd(), from, at, _mm256_castsi256_pd(all_lanes()), 8);
}

#include "runtime/model/forest_ranks.hpp"

/// Of eight lanes, those that go right, as -1.
inline __m256i right(const std::int32_t* x, __m256i word) {
  const __m256i low = _mm256_permutevar8x32_epi32(load(x), word);
  const __m256i high = _mm256_permutevar8x32_epi32(load(x + 8), word);
  const __m256i rank = _mm256_castps_si256(_mm256_blendv_ps(
      _mm256_castsi256_ps(low), _mm256_castsi256_ps(high), _mm256_castsi256_ps(_mm256_slli_epi32(word, 28))));
  return _mm256_cmpgt_epi32(rank, word);
}

inline __m256i either(__m256i a, __m256i b, __m256i second) {
  return _mm256_blendv_epi8(a, b, second);
}

/// `K` rows at once through 8 trees of a group, or one row through 8 trees each of K / 2 groups.
template <std::size_t K, bool Groups>
inline void walk(const forest_lanes& f, const std::int32_t* x, std::size_t g, std::size_t half, __m256i* at) {
  constexpr std::size_t top_size = forest_lanes::width * (1 + forest_lanes::top_nodes);
  const std::int32_t* const tops = f.tops.data() + g * top_size;
  const auto top = [&](std::size_t k, std::size_t i) {
    return load(tops + (Groups ? k / 2 * top_size + k % 2 * 8 : half * 8) + i * 16);
  };
  const auto goes_right = [&](std::size_t k, __m256i word) {
    return right(x + (Groups ? 0 : k * f.stride), word);
  };
  const __m256i pair_mask = _mm256_set1_epi32(f.pair_mask);
  const __m128i pair_shift = _mm_cvtsi32_si128(f.pair_shift);
  const auto to = [&](__m256i word, __m256i is_right, __m256i base) {
    const __m256i pair = _mm256_and_si256(_mm256_srl_epi32(word, pair_shift), pair_mask);
    return _mm256_sub_epi32(_mm256_add_epi32(pair, base), is_right);
  };
  for (std::size_t k = 0; k < K; ++k) {
    const auto pick = [&](__m256i second, std::size_t i) { return either(top(k, i), top(k, i + 1), second); };
    // Nodes are counted by levels from 1 on.
    const __m256i m0 = goes_right(k, top(k, 1));
    const __m256i m1 = goes_right(k, pick(m0, 2));
    const __m256i m2 = goes_right(k, either(pick(m1, 4), pick(m1, 6), m0));
    const __m256i low = either(pick(m2, 8), pick(m2, 10), m1);
    const __m256i high = either(pick(m2, 12), pick(m2, 14), m1);
    const __m256i word = either(low, high, m0);
    at[k] = to(word, goes_right(k, word), top(k, 0));
  }
  const std::uint32_t depth = f.groups[g].depth;
  const auto step = [&](std::size_t k) {
    const __m256i word = gather(f.words.data(), at[k]);
    return to(word, goes_right(k, word), top(k, 0));
  };
  const std::uint32_t plain = depth <= 12 ? depth : 8;
  for (std::uint32_t d = forest_lanes::top_levels; d < plain; ++d) {
    for (std::size_t k = 0; k < K; ++k) at[k] = step(k);
  }
  for (std::uint32_t d = plain; d < depth; d += 4) {
    for (int i = 0; i < 3; ++i) {
      for (std::size_t k = 0; k < K; ++k) at[k] = step(k);
    }
    __m256i moved = _mm256_setzero_si256();
    for (std::size_t k = 0; k < K; ++k) {
      const __m256i next = step(k);
      moved = _mm256_or_si256(moved, _mm256_xor_si256(next, at[k]));
      at[k] = next;
    }
    if (_mm256_testz_si256(moved, moved)) return;
  }
}

inline void arrive(const forest_lanes& f, __m256i at, double* partial, std::uint32_t* arrived) {
  if (arrived) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(arrived), at);
    return;
  }
  __m256d low, high;
  if (!f.values.empty()) {
    const __m256 leaf = gather(f.values.data(), at);
    low = _mm256_cvtps_pd(_mm256_castps256_ps128(leaf));
    high = _mm256_cvtps_pd(_mm256_extractf128_ps(leaf, 1));
  } else {
    low = gather(f.wide_values.data(), _mm256_castsi256_si128(at));
    high = gather(f.wide_values.data(), _mm256_extracti128_si256(at, 1));
  }
  _mm256_storeu_pd(partial, _mm256_add_pd(_mm256_loadu_pd(partial), low));
  _mm256_storeu_pd(partial + 4, _mm256_add_pd(_mm256_loadu_pd(partial + 4), high));
}

void walk_rows(const forest_lanes& f, const std::int32_t* x, std::size_t rows, double* partial,
               std::uint32_t* arrived) {
  const auto leaves = [&](std::size_t g, std::size_t r) {
    return arrived ? arrived + (g * rows + r) * 16 : nullptr;
  };
  const auto second = [](std::uint32_t* p, std::size_t half) { return p ? p + half * 8 : nullptr; };
  const auto rows_together = [&]<std::size_t K>(std::size_t g, std::size_t r) {
    for (std::size_t half = 0; half < 2; ++half) {
      __m256i at[K];
      walk<K, false>(f, x + r * f.stride, g, half, at);
      for (std::size_t k = 0; k < K; ++k)
        arrive(f, at[k], partial + (r + k) * 16 + half * 8, second(leaves(g, r + k), half));
    }
  };
  const std::size_t eights = rows / 8 * 8;
  const std::size_t fours = rows / 4 * 4;
  for (std::size_t g = 0; fours && g < f.groups.size(); ++g) {
    for (std::size_t r = 0; r < eights; r += 8) rows_together.template operator()<8>(g, r);
    if (fours > eights) rows_together.template operator()<4>(g, eights);
  }
  for (std::size_t r = fours; r < rows; ++r) {
    const auto some = [&]<std::size_t K>(std::size_t g) {
      __m256i at[K];
      walk<K, true>(f, x + r * f.stride, g, 0, at);
      for (std::size_t k = 0; k < K; ++k)
        arrive(f, at[k], partial + r * 16 + k % 2 * 8, second(leaves(g + k / 2, r), k % 2));
    };
    std::size_t g = 0;
    for (; f.groups.size() - g >= 2; g += 2) some.template operator()<4>(g);
    if (g < f.groups.size()) some.template operator()<2>(g);
  }
}

}  // namespace

void walk_avx2(const forest_lanes& f, const double* in, std::size_t rows, std::size_t inputs,
               std::int32_t* ranks, double* partial, std::uint32_t* arrived) {
  rank_rows(f, in, rows, inputs, ranks);
  walk_rows(f, ranks, rows, partial, arrived);
}

}  // namespace troupe::model

#pragma GCC pop_options
#else

namespace troupe::model {
void walk_avx2(const forest_lanes&, const double*, std::size_t, std::size_t, std::int32_t*, double*,
               std::uint32_t*) {}
}  // namespace troupe::model
#endif

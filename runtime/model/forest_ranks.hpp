#pragma once
// Included by each vector walk, which has a below() of its own: rows as ranks. No templates of the standard
// library here: their instances would be compiled for a processor that others may not have.

inline std::int32_t signed_key(float x) {
  std::int32_t bits;
  x += 0.0F;
  std::memcpy(&bits, &x, sizeof bits);
  return x != x ? INT32_MAX : bits ^ (bits >> 31 & INT32_MAX);
}
inline std::int64_t signed_key(double x) {
  std::int64_t bits;
  x += 0.0;
  std::memcpy(&bits, &x, sizeof bits);
  return x != x ? INT64_MAX : bits ^ (bits >> 63 & INT64_MAX);
}

template <class Value, class Key>
void rank_all(const forest_lanes& f, const Key* keys, const double* in, std::size_t rows, std::size_t inputs,
              std::int32_t* to) {
  for (const forest_lanes::column& c : f.columns) {
    const Key* const top = keys + c.begin[c.levels - 1];
    for (std::size_t r = 0; r < rows; ++r) {
      const auto value = static_cast<Value>(in[r * inputs + c.input]);
      const Key x = signed_key(c.negated ? -value : value);
      std::uint32_t rank = below(top, x);
      for (std::uint32_t i = 1; i < c.top; ++i) rank += below(top + i * forest_lanes::search, x);
      for (std::uint32_t level = c.levels - 1; level-- > 0;) {
        rank *= forest_lanes::search;
        rank += below(keys + c.begin[level] + rank, x);
      }
      to[r * f.stride] = static_cast<std::int32_t>((rank + 1) << f.shift);
    }
    ++to;
  }
}

/// `ranks`: rows x stride, each at its place in a word.
inline void rank_rows(const forest_lanes& f, const double* in, std::size_t rows, std::size_t inputs,
                      std::int32_t* ranks) {
  if (f.keys.empty()) {
    rank_all<double>(f, f.wide_keys.data(), in, rows, inputs, ranks);
  } else {
    rank_all<float>(f, f.keys.data(), in, rows, inputs, ranks);
  }
}

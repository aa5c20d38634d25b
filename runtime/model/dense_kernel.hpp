#pragma once
// Included once for each kind of processor, inside a namespace of its own that has `lanes`, `vectors`,
// store_part() and multiply_add(): a * b + c with the one rounding or the two that this kind has. The
// compiler may fuse them or not, place by place, and then a row's answer depends on its batch. Nothing of the
// standard library is called: what the compiler makes of it here must not be what other files link.

typedef double vec __attribute__((vector_size(8 * lanes)));
typedef float narrow_vec __attribute__((vector_size(4 * lanes)));
typedef std::int64_t bits_vec __attribute__((vector_size(8 * lanes)));

inline vec load(const double* from) {
  vec v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
inline void store(double* to, vec v) {
  __builtin_memcpy(to, &v, sizeof v);
}
inline vec all(double x) {
  return x - vec{};
}
inline vec to_float(vec x) {
  return __builtin_convertvector(__builtin_convertvector(x, narrow_vec), vec);
}
inline bits_vec bits_of(vec x) {
  return reinterpret_cast<bits_vec>(x);
}
inline vec from_bits(bits_vec x) {
  return reinterpret_cast<vec>(x);
}

/// x = n ln 2 + r (Cody and Waite); returns e^r - 1 and sets 2^n.
inline vec reduced_exp(vec x, vec& power) {
  constexpr double shift = 0x1.8p52;  // leaves n in the lowest bits
  const vec shifted = multiply_add(x, all(0x1.71547652b82fep0), all(shift));
  const vec n = shifted - shift;
  const vec r = multiply_add(n, all(-0x1.a39ef35793c76p-33), multiply_add(n, all(-0x1.62e42feep-1), x));
  power = from_bits((bits_of(shifted) + 1023) << 52);
  // The series up to r^13 / 13!: the rest is below 1e-17 for |r| <= ln 2 / 2.
  vec p = all(1.0 / 6227020800.0);
  p = multiply_add(p, r, all(1.0 / 479001600.0));
  p = multiply_add(p, r, all(1.0 / 39916800.0));
  p = multiply_add(p, r, all(1.0 / 3628800.0));
  p = multiply_add(p, r, all(1.0 / 362880.0));
  p = multiply_add(p, r, all(1.0 / 40320.0));
  p = multiply_add(p, r, all(1.0 / 5040.0));
  p = multiply_add(p, r, all(1.0 / 720.0));
  p = multiply_add(p, r, all(1.0 / 120.0));
  p = multiply_add(p, r, all(1.0 / 24.0));
  p = multiply_add(p, r, all(1.0 / 6.0));
  p = multiply_add(p, r, all(0.5));
  return multiply_add(p, r * r, r);
}

inline vec exp_of(vec x) {
  vec power;
  const vec less_one = reduced_exp(x, power);
  vec y = multiply_add(less_one, power, power);
  y = x < -708.0 ? vec{} : y;
  return x > 709.0 ? all(__builtin_inf()) : y;
}

inline vec sigmoid_of(vec x) {
  return 1.0 / (1.0 + exp_of(-x));
}

inline vec tanh_of(vec x) {
  const bits_vec sign = bits_of(all(-0.0));
  vec size = from_bits(bits_of(x) & ~sign);
  size = size > 20.0 ? all(20.0) : size;  // 1 from there on
  vec power;
  const vec less_one = reduced_exp(size + size, power);
  const vec t = multiply_add(less_one, power, power - 1.0);  // e^2x - 1
  return from_bits(bits_of(t / (t + 2.0)) | (bits_of(x) & sign));
}

/// What is done to the sums of a block.
template <std::size_t R, std::size_t V>
struct each_sum {
  vec (&sum)[R][V];
  inline void add(const double* more, bool round) const {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < V; ++v) {
      const vec m = load(more + v * lanes);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < R; ++r) sum[r][v] += m;
    }
    if (!round) return;
#pragma GCC unroll 8
    for (std::size_t v = 0; v < V; ++v) {
#pragma GCC unroll 8
      for (std::size_t r = 0; r < R; ++r) sum[r][v] = to_float(sum[r][v]);
    }
  }
  inline void relu() const {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < V; ++v) {
#pragma GCC unroll 8
      for (std::size_t r = 0; r < R; ++r) sum[r][v] = sum[r][v] <= 0.0 ? vec{} : sum[r][v];
    }
  }
};

/// Outputs `first` ... of R rows: a panel of V vectors.
template <std::size_t R, std::size_t V>
inline void block(const dense_view& l, const double* weights, std::size_t first, const double* in,
                  double* out) {
  vec sum[R][V] = {};
  for (std::size_t i = 0; i < l.inputs; ++i, weights += V * lanes) {
    vec w[V];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < V; ++v) w[v] = load(weights + v * lanes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      const vec x = all(in[r * l.inputs + i]);
#pragma GCC unroll 8
      for (std::size_t v = 0; v < V; ++v) sum[r][v] = multiply_add(x, w[v], sum[r][v]);
    }
  }
  const auto finish = each_sum<R, V>{sum};
  finish.add(l.bias + first, l.round);
  if (l.added) finish.add(l.added + first, l.round);
  if (l.relu) finish.relu();
  const bool whole = first + V * lanes <= l.outputs;
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    double* const to = out + r * l.outputs + first;
#pragma GCC unroll 8
    for (std::size_t v = 0; v < V; ++v) {
      if (whole || v + 1 < V) {
        store(to + v * lanes, sum[r][v]);
      } else {
        store_part(to + v * lanes, sum[r][v], l.outputs - first - v * lanes);
      }
    }
  }
}

template <std::size_t V>
void panel(const dense_view& l, const double* weights, std::size_t first, const double* in, std::size_t rows,
           double* out) {
  // Enough sums at a time that the next addition to one of them need not wait for the last.
  constexpr std::size_t many = V == 1 ? 8 : 4;
  std::size_t r = 0;
  for (; r + many <= rows; r += many)
    block<many, V>(l, weights, first, in + r * l.inputs, out + r * l.outputs);
  for (; r + 2 <= rows; r += 2) block<2, V>(l, weights, first, in + r * l.inputs, out + r * l.outputs);
  if (r < rows) block<1, V>(l, weights, first, in + r * l.inputs, out + r * l.outputs);
}

void run_layer(const dense_view& l, const double* in, std::size_t rows, double* out) {
  const double* weights = l.weights;
  for (std::size_t first = 0; first < l.outputs;) {
    const std::size_t left = (l.outputs - first + lanes - 1) / lanes;
    const std::size_t v = left >= vectors ? vectors : left >= 2 ? 2 : 1;
    if (v == vectors) {
      panel<vectors>(l, weights, first, in, rows, out);
    } else if (v == 2) {
      panel<2>(l, weights, first, in, rows, out);
    } else {
      panel<1>(l, weights, first, in, rows, out);
    }
    weights += l.inputs * v * lanes;
    first += v * lanes;
  }
}

// Plain structs: the call operator of a lambda does not take the processor that the functions here have.
struct relu_each {
  inline vec operator()(vec x) const { return x <= 0.0 ? vec{} : x; }
};
struct exp_each {
  inline vec operator()(vec x) const { return exp_of(x); }
};
struct sigmoid_each {
  inline vec operator()(vec x) const { return sigmoid_of(x); }
};
struct tanh_each {
  inline vec operator()(vec x) const { return tanh_of(x); }
};

template <class F>
void each_vector(F f, bool round, const double* in, std::size_t count, double* out) {
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const vec y = f(load(in + i));
    store(out + i, round ? to_float(y) : y);
  }
  if (i == count) return;
  double rest[lanes] = {};
  for (std::size_t k = 0; i + k < count; ++k) rest[k] = in[i + k];
  const vec y = f(load(rest));
  store_part(out + i, round ? to_float(y) : y, count - i);
}

void run_activate(activation how, bool round, const double* in, std::size_t count, double* out) {
  switch (how) {
    case activation::relu:
      return each_vector(relu_each(), round, in, count, out);
    case activation::sigmoid:
      return each_vector(sigmoid_each(), round, in, count, out);
    case activation::tanh:
      return each_vector(tanh_each(), round, in, count, out);
  }
}

void run_softmax(const double* in, std::size_t rows, std::size_t width, double* out) {
  for (std::size_t r = 0; r < rows; ++r) {
    const double* const x = in + r * width;
    double* const y = out + r * width;
    double most = x[0];
    for (std::size_t k = 1; k < width; ++k) most = most < x[k] ? x[k] : most;
    for (std::size_t k = 0; k < width; ++k) y[k] = x[k] - most;
  }
  each_vector(exp_each(), false, out, rows * width, out);
  for (std::size_t r = 0; r < rows; ++r) {
    double* const y = out + r * width;
    double sum = 0;
    for (std::size_t k = 0; k < width; ++k) sum += y[k];
    for (std::size_t k = 0; k < width; ++k) y[k] /= sum;
  }
}

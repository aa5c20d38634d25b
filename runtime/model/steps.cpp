#include "runtime/model/steps.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace troupe::model {
namespace {

double to_float(double x) {
  return static_cast<double>(static_cast<float>(x));
}

template <class F>
void each(const columns& in, std::size_t rows, double* out, F f) {
  const std::size_t count = rows * in.width;
  for (std::size_t i = 0; i < count; ++i) out[i] = f(in.data[i]);
}

/// Calls f with the function of two numbers.
template <class F>
void dispatch(arithmetic op, F f) {
  switch (op) {
    case arithmetic::add:
      f([](double a, double b) { return a + b; });
      break;
    case arithmetic::sub:
      f([](double a, double b) { return a - b; });
      break;
    case arithmetic::mul:
      f([](double a, double b) { return a * b; });
      break;
    case arithmetic::div:
      f([](double a, double b) { return a / b; });
      break;
  }
}

/// Calls f(g) with g, or g rounded to float32.
template <class G, class F>
void rounded(bool round, G g, F f) {
  if (round) {
    f([g](auto... x) { return to_float(g(x...)); });
  } else {
    f(g);
  }
}

class constant_step final : public step {
 public:
  constant_step(arithmetic op, std::vector<double> constant, bool first, bool round)
      : op_(op), constant_(std::move(constant)), first_(first), round_(round) {}

  void run(const columns* in, std::size_t rows, double* out) const override {
    dispatch(op_, [&](auto plain) {
      rounded(round_, plain, [&](auto f) {
        if (first_) {
          loop(in[0], rows, out, [f](double x, double k) { return f(k, x); });
        } else {
          loop(in[0], rows, out, f);
        }
      });
    });
  }
  bool in_place() const override { return true; }
  origin_list origins(const std::vector<const origin_list*>& in) const override {
    if (in[0]->size() == 1 && constant_.size() > 1) return origin_list(constant_.size(), in[0]->front());
    return *in[0];
  }

 private:
  template <class F>
  void loop(const columns& in, std::size_t rows, double* out, F f) const {
    const double* const k = constant_.data();
    if (constant_.size() == 1) {
      each(in, rows, out, [&](double x) { return f(x, k[0]); });
      return;
    }
    const std::size_t width = constant_.size();
    const std::size_t step_in = in.width == 1 ? 0 : 1;
    for (std::size_t r = 0; r < rows; ++r) {
      const double* const x = in.data + r * in.width;
      double* const y = out + r * width;
      if (step_in) {
        for (std::size_t c = 0; c < width; ++c) y[c] = f(x[c], k[c]);
      } else {
        const double only = x[0];
        for (std::size_t c = 0; c < width; ++c) y[c] = f(only, k[c]);
      }
    }
  }

  arithmetic op_;
  std::vector<double> constant_;
  bool first_;
  bool round_;
};

class column_step final : public step {
 public:
  column_step(arithmetic op, bool round) : op_(op), round_(round) {}

  void run(const columns* in, std::size_t rows, double* out) const override {
    const std::size_t width = std::max(in[0].width, in[1].width);
    const std::size_t a_step = in[0].width == 1 ? 0 : 1;
    const std::size_t b_step = in[1].width == 1 ? 0 : 1;
    dispatch(op_, [&](auto plain) {
      rounded(round_, plain, [&](auto f) {
        for (std::size_t r = 0; r < rows; ++r) {
          const double* const a = in[0].data + r * in[0].width;
          const double* const b = in[1].data + r * in[1].width;
          for (std::size_t c = 0; c < width; ++c) out[r * width + c] = f(a[c * a_step], b[c * b_step]);
        }
      });
    });
  }

 private:
  arithmetic op_;
  bool round_;
};

/// A step that is one function of each number, or of a number and its column.
template <class F>
class each_step final : public step {
 public:
  explicit each_step(F f) : f_(std::move(f)) {}
  void run(const columns* in, std::size_t rows, double* out) const override {
    if constexpr (std::is_invocable_v<F, double>) {
      each(in[0], rows, out, f_);
    } else {
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < in[0].width; ++c) {
          out[r * in[0].width + c] = f_(in[0].data[r * in[0].width + c], c);
        }
      }
    }
  }
  bool in_place() const override { return true; }
  origin_list origins(const std::vector<const origin_list*>& in) const override { return *in[0]; }

 private:
  F f_;
};

template <class F>
step_ptr make_each(F f) {
  return std::make_unique<each_step<F>>(std::move(f));
}

class normalizer_step final : public step {
 public:
  normalizer_step(norm kind, bool round) : kind_(kind), round_(round) {}
  void run(const columns* in, std::size_t rows, double* out) const override {
    const std::size_t width = in[0].width;
    for (std::size_t r = 0; r < rows; ++r) {
      const double* const x = in[0].data + r * width;
      double size = 0;
      switch (kind_) {
        case norm::max:
          size = *std::max_element(x, x + width);
          break;
        case norm::l1:
          for (std::size_t c = 0; c < width; ++c) size += std::fabs(x[c]);
          break;
        case norm::l2:
          for (std::size_t c = 0; c < width; ++c) size += x[c] * x[c];
          size = std::sqrt(size);
          break;
        case norm::max_abs:
          for (std::size_t c = 0; c < width; ++c) size = std::max(size, std::fabs(x[c]));
          break;
      }
      if (size == 0) size = 1;
      for (std::size_t c = 0; c < width; ++c) {
        const double y = x[c] / size;
        out[r * width + c] = round_ ? to_float(y) : y;
      }
    }
  }
  bool in_place() const override { return true; }

 private:
  norm kind_;
  bool round_;
};

/// -1: none of them.
int position(const category_list& of, double x) {
  for (std::size_t i = 0; i < of.values.size(); ++i) {
    if (x == of.values[i] || (std::isnan(x) && std::isnan(of.values[i]))) return static_cast<int>(i);
  }
  return -1;
}

class one_hot_step final : public step {
 public:
  one_hot_step(std::vector<category_list> of, std::vector<int> dropped)
      : of_(std::move(of)), dropped_(std::move(dropped)) {
    for (std::size_t c = 0; c < of_.size(); ++c) width_ += columns_of(c);
  }
  void run(const columns* in, std::size_t rows, double* out) const override {
    std::fill_n(out, rows * width_, 0.0);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < of_.size(); ++c) {
        int at = position(of_[c], in[0].data[r * of_.size() + c]);
        if (at >= 0 && at != dropped_[c]) {
          if (dropped_[c] >= 0 && at > dropped_[c]) --at;
          out[at] = 1;
        }
        out += columns_of(c);
      }
    }
  }
  origin_list origins(const std::vector<const origin_list*>& in) const override {
    origin_list out;
    for (std::size_t c = 0; c < of_.size(); ++c) out.insert(out.end(), columns_of(c), (*in[0])[c]);
    return out;
  }

 private:
  [[nodiscard]] std::size_t columns_of(std::size_t c) const {
    return of_[c].values.size() - (dropped_[c] >= 0 ? 1 : 0);
  }
  std::vector<category_list> of_;
  std::vector<int> dropped_;
  std::size_t width_ = 0;
};

class known_step final : public step {
 public:
  explicit known_step(std::vector<category_list> of) : of_(std::move(of)) {}
  void run(const columns* in, std::size_t rows, double* out) const override {
    for (std::size_t r = 0; r < rows; ++r) {
      out[r] = 0;
      for (std::size_t c = 0; c < of_.size(); ++c) {
        if (position(of_[c], in[0].data[r * of_.size() + c]) < 0)
          out[r] = std::numeric_limits<double>::quiet_NaN();
      }
    }
  }

 private:
  std::vector<category_list> of_;
};

class softmax_rows final : public step {
 public:
  void run(const columns* in, std::size_t rows, double* out) const override {
    best_dense().softmax(in[0].data, rows, in[0].width, out);
  }
  bool in_place() const override { return true; }
};

class concat_step final : public step {
 public:
  explicit concat_step(std::size_t inputs) : inputs_(inputs) {}
  void run(const columns* in, std::size_t rows, double* out) const override {
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t i = 0; i < inputs_; ++i)
        out = std::copy_n(in[i].data + r * in[i].width, in[i].width, out);
    }
  }
  origin_list origins(const std::vector<const origin_list*>& in) const override {
    origin_list out;
    for (const origin_list* list : in) out.insert(out.end(), list->begin(), list->end());
    return out;
  }

 private:
  std::size_t inputs_;
};

class pick_step final : public step {
 public:
  explicit pick_step(std::vector<std::uint32_t> which) : which_(std::move(which)) {}
  void run(const columns* in, std::size_t rows, double* out) const override {
    for (std::size_t r = 0; r < rows; ++r) {
      const double* const x = in[0].data + r * in[0].width;
      for (const std::uint32_t c : which_) *out++ = x[c];
    }
  }
  origin_list origins(const std::vector<const origin_list*>& in) const override {
    origin_list out;
    for (const std::uint32_t c : which_) out.push_back((*in[0])[c]);
    return out;
  }

 private:
  std::vector<std::uint32_t> which_;
};

double dot(const double* a, const double* b, std::size_t count) {
  double sum[4] = {};
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (std::size_t k = 0; k < 4; ++k) sum[k] += a[i + k] * b[i + k];
  }
  for (; i < count; ++i) sum[0] += a[i] * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/// A linear model with one or two outputs, which would leave most of a vector of outputs empty.
class slim_step final : public step {
 public:
  slim_step(affine a, post_transform how, bool round, bool binary)
      : a_(std::move(a)), how_(how), round_(round), binary_(binary) {
    if (a_.bias.empty()) a_.bias.assign(a_.outputs, 0);
  }
  void run(const columns* in, std::size_t rows, double* out) const override {
    const std::size_t width = binary_ ? 2 : a_.outputs;
    for (std::size_t r = 0; r < rows; ++r, out += width) {
      const double* const x = in[0].data + r * a_.inputs;
      if (binary_) {
        split_binary(how_, true, a_.bias[0] + dot(x, a_.weights.data(), a_.inputs), out);
        continue;
      }
      for (std::size_t k = 0; k < a_.outputs; ++k) {
        const double y = a_.bias[k] + dot(x, a_.weights.data() + k * a_.inputs, a_.inputs);
        out[k] = round_ ? to_float(y) : y;
      }
      apply(how_, out, a_.outputs);
    }
  }

 private:
  affine a_;
  post_transform how_;
  bool round_;
  bool binary_;
};

class wide_step final : public layer {
 public:
  wide_step(const affine& a, post_transform how, bool round)
      : dense_(a.weights, a.bias.empty() ? std::vector<double>(a.outputs) : a.bias, a.inputs, round),
        how_(how),
        outputs_(a.outputs) {}
  void run(const columns* in, std::size_t rows, double* out) const override {
    dense_.run(in[0].data, rows, out);
    if (how_ == post_transform::softmax) return best_dense().softmax(out, rows, outputs_, out);
    if (how_ == post_transform::none) return;
    for (std::size_t r = 0; r < rows; ++r) apply(how_, out + r * outputs_, outputs_);
  }
  void then_add(const std::vector<double>& more) override { dense_.add(more); }
  void then_relu() override { dense_.relu(); }

 private:
  dense_layer dense_;
  post_transform how_;
  std::size_t outputs_;
};

class activation_step final : public step {
 public:
  activation_step(activation how, bool round) : how_(how), round_(round) {}
  void run(const columns* in, std::size_t rows, double* out) const override {
    best_dense().activate(how_, round_, in[0].data, rows * in[0].width, out);
  }
  bool in_place() const override { return true; }
  origin_list origins(const std::vector<const origin_list*>& in) const override { return *in[0]; }

 private:
  activation how_;
  bool round_;
};

class forest_step final : public step {
 public:
  explicit forest_step(forest f) : forest_(std::move(f)) {}
  void run(const columns* in, std::size_t rows, double* out) const override {
    forest_.score(in[0].data, rows, out);
  }
  bool keeps_missing() const override { return forest_.handles_missing(); }

 private:
  forest forest_;
};

}  // namespace

step::~step() = default;

step::origin_list step::origins(const std::vector<const origin_list*>&) const {
  return {};
}

step_ptr with_constant(arithmetic op, std::vector<double> constant, bool constant_first, bool round) {
  return std::make_unique<constant_step>(op, std::move(constant), constant_first, round);
}
step_ptr with_column(arithmetic op, bool round) {
  return std::make_unique<column_step>(op, round);
}

step_ptr round_to_float() {
  return make_each(to_float);
}

step_ptr scaler(std::vector<double> offset, std::vector<double> scale) {
  return make_each([offset = std::move(offset), scale = std::move(scale)](double x, std::size_t c) {
    const double centred = to_float(to_float(x) - offset[offset.size() == 1 ? 0 : c]);
    return to_float(centred * scale[scale.size() == 1 ? 0 : c]);
  });
}

step_ptr imputer(std::vector<double> value, double replaced) {
  return make_each([value = std::move(value), replaced](double x, std::size_t c) {
    const bool missing = std::isnan(replaced) ? std::isnan(x) : x == replaced;
    return missing ? value[value.size() == 1 ? 0 : c] : x;
  });
}

step_ptr normalizer(norm kind, bool round) {
  return std::make_unique<normalizer_step>(kind, round);
}

step_ptr clip(double low, double high) {
  return make_each([low, high](double x) { return x < low ? low : x > high ? high : x; });
}

step_ptr one_hot(std::vector<category_list> of, std::vector<int> dropped) {
  return std::make_unique<one_hot_step>(std::move(of), std::move(dropped));
}

step_ptr ordinal(std::vector<category_list> of, double missing, double unknown) {
  return make_each([of = std::move(of), missing, unknown](double x, std::size_t c) {
    const int at = position(of[c], x);
    if (at < 0) return unknown;
    return std::isnan(x) ? missing : static_cast<double>(at);
  });
}

step_ptr known(std::vector<category_list> of) {
  return std::make_unique<known_step>(std::move(of));
}

step_ptr binarizer(double threshold) {
  return make_each([threshold](double x) { return std::isnan(x) ? x : x > threshold ? 1.0 : 0.0; });
}

step_ptr activate(activation how, bool round) {
  return std::make_unique<activation_step>(how, round);
}

step_ptr softmax_step() {
  return std::make_unique<softmax_rows>();
}
step_ptr pick(std::vector<std::uint32_t> which) {
  return std::make_unique<pick_step>(std::move(which));
}
step_ptr concat(std::size_t inputs) {
  return std::make_unique<concat_step>(inputs);
}

step_ptr linear(affine a, post_transform how, bool round) {
  if (a.outputs < 3) return std::make_unique<slim_step>(std::move(a), how, round, false);
  return std::make_unique<wide_step>(a, how, round);
}
step_ptr linear_binary(affine a, post_transform how) {
  return std::make_unique<slim_step>(std::move(a), how, false, true);
}
std::unique_ptr<layer> dense(const affine& a, bool round) {
  return std::make_unique<wide_step>(a, post_transform::none, round);
}
step_ptr trees(forest f) {
  return std::make_unique<forest_step>(std::move(f));
}

}  // namespace troupe::model

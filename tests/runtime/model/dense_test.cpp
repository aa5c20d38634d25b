// Layers in vector registers against plain loops, for every kind of processor that is at hand.
#include "runtime/model/dense.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "runtime/model/ensemble.hpp"
#include "runtime/model/graph.hpp"
#include "runtime/model/shap.hpp"
#include "tests/runtime/model/onnx_writer.hpp"

namespace troupe::model {
namespace {

using doubles = std::vector<double>;
constexpr double none = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

struct processor {
  const char* name;
  const dense_kernels* kernels;
};
void PrintTo(const processor& p, std::ostream* out) {
  *out << p.name;
}

std::vector<processor> processors() {
  std::vector<processor> all{{"portable", &portable_dense()}};
  if (has_avx2_dense()) all.push_back({"avx2", &avx2_dense()});
  if (has_avx512_dense()) all.push_back({"avx512", &avx512_dense()});
  return all;
}

struct layer_parts {
  std::size_t inputs, outputs;
  bool round, relu;
  doubles weights, bias, added;
};

double rounded(double x, bool round) {
  return round ? static_cast<double>(static_cast<float>(x)) : x;
}

doubles plain(const layer_parts& l, const doubles& in, std::size_t rows) {
  doubles out;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t k = 0; k < l.outputs; ++k) {
      double y = 0;
      for (std::size_t i = 0; i < l.inputs; ++i) y += in[r * l.inputs + i] * l.weights[k * l.inputs + i];
      y = rounded(y + l.bias[k], l.round);
      if (!l.added.empty()) y = rounded(y + l.added[k], l.round);
      out.push_back(l.relu && y <= 0 ? 0 : y);
    }
  }
  return out;
}

dense_layer made(const layer_parts& l, const dense_kernels& kernels) {
  dense_layer d(l.weights, l.bias, l.inputs, l.round, kernels);
  if (!l.added.empty()) d.add(l.added);
  if (l.relu) d.relu();
  return d;
}

class dense : public testing::TestWithParam<processor> {
 protected:
  const dense_kernels& kernels = *GetParam().kernels;
  std::mt19937_64 random{7};

  doubles numbers(std::size_t count, double of = 1) {
    doubles all(count);
    for (double& x : all) x = of * std::uniform_real_distribution<>(-1, 1)(random);
    return all;
  }
  /// Sums of their products are exact, in whichever order.
  doubles eighths(std::size_t count) {
    doubles all(count);
    for (double& x : all) x = (static_cast<double>(random() % 129) - 64) / 8;
    return all;
  }
  layer_parts parts(std::size_t inputs, std::size_t outputs, int how) {
    layer_parts l{inputs,           outputs, (how & 1) != 0, (how & 2) != 0, eighths(inputs * outputs),
                  eighths(outputs), {}};
    if ((how & 4) != 0) l.added = eighths(outputs);
    return l;
  }
};

TEST_P(dense, equals_plain_loops_around_every_width) {
  int how = 0;
  for (std::size_t outputs = 1; outputs <= 70; ++outputs) {
    for (const std::size_t inputs : {1, 2, 3, 7, 8, 9, 33}) {
      for (const std::size_t rows : {0, 1, 2, 3, 4, 5, 7, 8, 9, 17}) {
        const layer_parts l = parts(inputs, outputs, ++how);
        const doubles in = eighths(inputs * rows);
        doubles out(rows * outputs + 8, 99);
        made(l, kernels).run(in.data(), rows, out.data());
        doubles wanted = plain(l, in, rows);
        wanted.resize(out.size(), 99);  // nothing is written behind the last row
        ASSERT_EQ(out, wanted) << rows << " rows of " << inputs << ", " << outputs << " outputs, how "
                               << how % 8;
      }
    }
  }
}

TEST_P(dense, a_row_has_the_same_answer_in_every_batch) {
  for (const std::size_t outputs : {3, 8, 40, 67}) {
    layer_parts l{50, outputs, false, false, numbers(50 * outputs), numbers(outputs), {}};
    const dense_layer d = made(l, kernels);
    const std::size_t rows = 13;
    const doubles in = numbers(50 * rows);
    doubles whole(rows * outputs);
    d.run(in.data(), rows, whole.data());
    for (std::size_t r = 0; r < rows; ++r) {
      doubles one(outputs);
      d.run(in.data() + 50 * r, 1, one.data());
      ASSERT_EQ(std::memcmp(one.data(), whole.data() + r * outputs, outputs * sizeof(double)), 0) << r;
    }
    const doubles wanted = plain(l, in, rows);
    for (std::size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(whole[i], wanted[i], 1e-14 * 50);
  }
}

TEST_P(dense, what_is_no_number_stays_in_its_row) {
  for (const bool relu : {false, true}) {
    for (const double odd : {none, infinite}) {
      layer_parts l = parts(5, 11, relu ? 7 : 5);
      for (double& w : l.weights) w = std::fabs(w) + 1;
      doubles in = eighths(5 * 9);
      const doubles before = plain(l, in, 9);
      in[4 * 5 + 2] = odd;
      doubles out(11 * 9);
      made(l, kernels).run(in.data(), 9, out.data());
      for (std::size_t i = 0; i < out.size(); ++i) {
        if (i / 11 != 4) {
          EXPECT_EQ(out[i], before[i]) << i;
        } else {
          EXPECT_TRUE(std::isnan(odd) ? std::isnan(out[i]) : out[i] == infinite) << i << ": " << out[i];
        }
      }
    }
  }
}

double exact(activation how, double x) {
  switch (how) {
    case activation::relu:
      return x <= 0 ? 0 : x;
    case activation::sigmoid:
      return static_cast<double>(1 / (1 + std::exp(-static_cast<long double>(x))));
    case activation::tanh:
      return static_cast<double>(std::tanh(static_cast<long double>(x)));
  }
  return 0;
}

TEST_P(dense, activations_are_right_to_the_last_places) {
  for (const auto how : {activation::relu, activation::sigmoid, activation::tanh}) {
    doubles in{0.0,      -0.0, 5e-324, -1e-300, 1e-20, 1e-9, 0.1, 0.34657,
               -0.34658, 0.5,  19.9,   20.1,    36,    37,   700, -700};
    for (const double scale : {1e-6, 0.3, 3.0, 30.0, 600.0}) {
      const doubles more = numbers(2000, scale);
      in.insert(in.end(), more.begin(), more.end());
    }
    doubles out(in.size());
    kernels.activate(how, false, in.data(), in.size(), out.data());
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double wanted = exact(how, in[i]);
      ASSERT_LE(std::fabs(out[i] - wanted), 4e-16 * 2 * std::fabs(wanted))
          << in[i] << ": " << out[i] << " " << wanted;
    }
    doubles odd{none, infinite, -infinite, 1e300, -1e300, 710, -710, 745, -745};
    kernels.activate(how, false, odd.data(), odd.size(), odd.data());
    const double top = how == activation::relu ? infinite : 1;
    const double bottom = how == activation::tanh ? -1 : 0;
    EXPECT_TRUE(std::isnan(odd[0]));
    EXPECT_EQ(odd[1], top);
    EXPECT_NEAR(odd[2], bottom, 1e-300);
    EXPECT_EQ(odd[3], how == activation::relu ? 1e300 : 1);
    for (const std::size_t i : {4, 6, 8}) EXPECT_NEAR(odd[i], bottom, 1e-300);
  }
}

TEST_P(dense, activations_of_every_count_and_rounded) {
  for (std::size_t count = 0; count < 20; ++count) {
    const doubles in = numbers(count, 3);
    doubles out(count + 8, 99);
    kernels.activate(activation::tanh, true, in.data(), count, out.data());
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(out[i], static_cast<double>(static_cast<float>(out[i])));
      EXPECT_NEAR(out[i], std::tanh(in[i]), 1e-7);
    }
    for (std::size_t i = count; i < out.size(); ++i) EXPECT_EQ(out[i], 99);
  }
}

TEST_P(dense, softmax_of_every_width) {
  for (std::size_t width = 1; width <= 19; ++width) {
    doubles x = numbers(width * 5, width % 2 ? 5 : 2000);
    doubles wanted = x;
    for (std::size_t r = 0; r < 5; ++r) apply(post_transform::softmax, wanted.data() + r * width, width);
    kernels.softmax(x.data(), 5, width, x.data());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], wanted[i], 1e-15) << width;
  }
  doubles x{1, none, 3, 1, 1, 1};
  kernels.softmax(x.data(), 2, 3, x.data());
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(std::isnan(x[i]), i < 3);
}

INSTANTIATE_TEST_SUITE_P(processors, dense, testing::ValuesIn(processors()),
                         [](const auto& p) { return std::string(p.param.name); });

using namespace test;

doubles score(const file& f, const doubles& row) {
  const compiled_graph g = compile(f.text());
  const double* const rows[] = {row.data()};
  doubles out(g.output.width);
  g.engine->score(rows, out.data());
  return out;
}

/// What a layer takes upon itself is seen by nobody else.
TEST(dense_graph, additions_and_relu_join_a_layer_that_nothing_else_reads) {
  const auto w = constant("w", of_float, {1, 3}, std::vector<float>{1, -2, 4});
  const auto b = constant("b", of_float, {3}, std::vector<float>{10, 20, 30});
  const auto run = [&](std::vector<proto> nodes) {
    return score({std::move(nodes), {table("X", of_float, 1)}, {table("Y", of_float, -1)}, {w, b}, {}}, {-3});
  };
  const auto matrix = node("", "MatMul", {"X", "w"}, {"M"});
  const auto sum = node("", "Concat", {"L", "R"}, {"Y"}, {attribute("axis", std::int64_t{1})});
  EXPECT_EQ(run({matrix, node("", "Add", {"M", "b"}, {"Y"})}), (doubles{7, 26, 18}));
  EXPECT_EQ(run({matrix, node("", "Relu", {"M"}, {"Y"})}), (doubles{0, 6, 0}));
  EXPECT_EQ(run({matrix, node("", "Add", {"b", "M"}, {"A"}), node("", "Relu", {"A"}, {"Y"})}),
            (doubles{7, 26, 18}));
  EXPECT_EQ(run({matrix, node("", "Add", {"M", "b"}, {"A"}), node("", "Add", {"A", "b"}, {"Y"})}),
            (doubles{17, 46, 48}));
  EXPECT_EQ(run({matrix, node("", "Relu", {"M"}, {"A"}), node("", "Add", {"A", "b"}, {"Y"})}),
            (doubles{10, 26, 30}));
  EXPECT_EQ(run({matrix, node("", "Add", {"M", "b"}, {"L"}), node("", "Relu", {"M"}, {"R"}), sum}),
            (doubles{7, 26, 18, 0, 6, 0}));
  EXPECT_EQ(run({matrix, node("", "Add", {"M", "b"}, {"L"}), node("", "Relu", {"L"}, {"R"}), sum}),
            (doubles{7, 26, 18, 7, 26, 18}));
  EXPECT_EQ(run({matrix, node("", "Identity", {"M"}, {"L"}), node("", "Relu", {"M"}, {"R"}), sum}),
            (doubles{-3, 6, -12, 0, 6, 0}));
}

TEST(dense_graph, a_layer_with_its_addition_is_explained_and_one_with_relu_is_not) {
  const auto w = constant("w", of_float, {1, 3}, std::vector<float>{1, -2, 4});
  const auto b = constant("b", of_float, {3}, std::vector<float>{10, 20, 30});
  graph_hints hints;
  hints.explain = true;
  for (const char* last : {"A", "Y"}) {
    std::vector<proto> nodes{node("", "MatMul", {"X", "w"}, {"M"}), node("", "Add", {"M", "b"}, {last})};
    const bool relu = last[0] == 'A';
    if (relu) nodes.push_back(node("", "Relu", {"A"}, {"Y"}));
    const file f{std::move(nodes), {table("X", of_float, 1)}, {table("Y", of_float, -1)}, {w, b}, {}};
    const compiled_graph g = compile(f.text(), hints);
    ASSERT_EQ(g.explain == nullptr, relu);
    if (relu) continue;
    const double x = -3;
    const double* const rows[] = {&x};
    doubles shares(3);
    doubles scores(3);
    g.explain->explain(rows, shares.data(), scores.data());
    EXPECT_EQ(shares, (doubles{-3, 6, -12}));
    EXPECT_EQ(scores, (doubles{7, 26, 18}));
  }
}

}  // namespace
}  // namespace troupe::model

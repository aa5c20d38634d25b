// Models in the formats of their own libraries against what those libraries answered, and explanations
// against the shap package's. scripts/native_models.py writes the files.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "runtime/model/repository.hpp"
#include "runtime/model/shap.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;

const fs::path native = fs::path(TROUPE_TEST_DIRECTORY) / "native";

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& each : fs::directory_iterator(native)) names.push_back(each.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

struct fixture {
  explicit fixture(const std::string& name)
      : model(load_model(native / name, name, "1", {}, true)),
        expected(nlohmann::json::parse(std::ifstream(native / name / "expected.json"))) {
    for (const auto& row : expected["rows"]) {
      values.emplace_back();
      for (const auto& x : row)
        values.back().push_back(x.is_string() ? number_of(x)
                                : x.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                              : x.get<double>());
    }
    for (const auto& row : values) rows.push_back(row.data());
  }

  /// What the codec makes of a text in the next column.
  [[nodiscard]] double number_of(const nlohmann::json& text) const {
    const auto& rule = model->schema().features.at(values.back().size()).rule;
    return rule ? rule->number_of(text.get<std::string>()) : std::numeric_limits<double>::quiet_NaN();
  }

  std::shared_ptr<const loaded_model> model;
  nlohmann::json expected;
  std::vector<std::vector<double>> values;
  std::vector<const double*> rows;
};

class native_models : public testing::TestWithParam<std::string> {};

TEST_P(native_models, answer_as_their_library_does) {
  const fixture f(GetParam());
  const std::size_t width = f.model->output().width;
  ASSERT_EQ(f.model->schema().features.size(), f.values[0].size());
  ASSERT_EQ(width, f.expected["predictions"][0].size());
  std::vector<double> out(f.rows.size() * width);
  f.model->engine().score(f.rows, out.data());
  // XGBoost adds in float32, everything else in double.
  const double tolerance = GetParam().starts_with("xgboost") ? 1e-6 : 1e-12;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double wanted = f.expected["predictions"][i / width][i % width];
    EXPECT_NEAR(out[i], wanted, tolerance * std::max(1.0, std::fabs(wanted))) << "row " << i / width;
  }
  for (std::size_t r = 0; r < f.rows.size(); ++r) {
    for (std::size_t c = 0; c < f.values[r].size(); ++c) {
      EXPECT_TRUE(!std::isnan(f.values[r][c]) || f.model->schema().missing_allowed(c)) << "column " << c;
    }
  }
}

TEST_P(native_models, are_explained_as_shap_does) {
  const fixture f(GetParam());
  if (!f.expected.contains("base")) GTEST_SKIP() << "nothing to compare with";
  const explainer* const e = f.model->explain();
  ASSERT_NE(e, nullptr) << f.model->unexplained();
  ASSERT_EQ(e->outputs(), f.expected["base"].size());
  std::vector<double> shares(f.rows.size() * e->outputs() * e->features());
  std::vector<double> scores(f.rows.size() * e->outputs());
  e->explain(f.rows, shares.data(), scores.data());
  for (std::size_t k = 0; k < e->outputs(); ++k) {
    EXPECT_NEAR(e->base()[k], f.expected["base"][k].get<double>(), 1e-6);
    for (std::size_t r = 0; r < f.rows.size(); ++r) {
      for (std::size_t c = 0; c < e->features(); ++c) {
        EXPECT_NEAR(shares[(r * e->outputs() + k) * e->features() + c],
                    f.expected["contributions"][r][k][c].get<double>(), 1e-6)
            << "row " << r << ", output " << k << ", feature " << c;
      }
    }
  }
}

/// Contributions and the base add up to the score, and a row's do not depend on its batch.
TEST_P(native_models, contributions_add_up) {
  const fixture f(GetParam());
  const explainer* const e = f.model->explain();
  if (!e) {
    EXPECT_FALSE(f.model->unexplained().empty());
    EXPECT_EQ(GetParam(), "elastic_net") << f.model->unexplained();  // behind a Normalizer
    return;
  }
  std::mt19937_64 random(11);
  std::vector<std::vector<double>> mixed(37);
  std::vector<const double*> rows;
  for (auto& row : mixed) {
    for (std::size_t c = 0; c < e->features(); ++c) row.push_back(f.values[random() % f.values.size()][c]);
    rows.push_back(row.data());
  }
  const std::size_t size = e->outputs() * e->features();
  std::vector<double> shares(rows.size() * size);
  std::vector<double> scores(rows.size() * e->outputs());
  e->explain(rows, shares.data(), scores.data());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    double sum = e->base()[i % e->outputs()];
    for (std::size_t c = 0; c < e->features(); ++c) sum += shares[i * e->features() + c];
    EXPECT_NEAR(sum, scores[i], 1e-9 * std::max(1.0, std::fabs(scores[i])));
  }
  std::vector<double> one(size);
  std::vector<double> score(e->outputs());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    e->explain(std::span(rows).subspan(r, 1), one.data(), score.data());
    for (std::size_t i = 0; i < size; ++i) EXPECT_NEAR(one[i], shares[r * size + i], 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(all, native_models, testing::ValuesIn(cases()),
                         [](const auto& p) { return p.param; });

/// The Shapley values of a small game by their definition: the mean over all orders in which features become
/// known.
TEST(tree_shap, is_the_mean_over_all_orders) {
  ensemble e;
  e.width = 3;
  e.sums = e.outputs = 1;
  // A feature twice on a path, and one node that no training row came by.
  const auto leaf = [&](double v) {
    e.nodes.emplace_back();
    e.set_leaf(e.nodes.back(), &v, 1);
    return static_cast<std::uint32_t>(e.nodes.size() - 1);
  };
  const auto inner = [&](std::uint32_t column, double t, std::uint32_t yes, std::uint32_t no) {
    e.nodes.push_back({t, column, yes, no, split::leq, column == 1});
    return static_cast<std::uint32_t>(e.nodes.size() - 1);
  };
  const auto a = inner(0, -1, leaf(3), leaf(-2));
  const auto b = inner(1, 0, a, leaf(5));
  const auto c = inner(2, 1, leaf(7), leaf(0.5));
  e.roots = {inner(0, 0, b, c)};
  const std::vector<double> at_leaves = {2, 3, 4, 0, 6};
  e.cover.assign(e.nodes.size(), 0);
  std::size_t next = 0;
  const auto fill = [&](auto self, std::uint32_t at) -> double {
    const tree_node n = e.nodes[at];
    return e.cover[at] = n.how == split::leaf ? at_leaves[next++] : self(self, n.yes) + self(self, n.no);
  };
  fill(fill, e.roots[0]);
  const tree_shap shap(e);
  const auto value = [&](auto self, std::uint32_t at, const double* x, unsigned known) -> double {
    const tree_node& n = e.nodes[at];
    if (n.how == split::leaf) return e.shares[n.yes].weight;
    if (known >> n.column & 1) return self(self, child(n, x[n.column]), x, known);
    return (self(self, n.yes, x, known) * e.cover[n.yes] + self(self, n.no, x, known) * e.cover[n.no]) /
           e.cover[at];
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double x0 : {-2.0, -0.5, 1.0}) {
    for (const double x1 : {-1.0, 1.0, nan}) {
      for (const double x2 : {0.0, 2.0}) {
        const double x[] = {x0, x1, x2};
        double got[3] = {};
        const std::uint32_t where[] = {0, 1, 2};
        shap.add(x, 1, where, 3, got);
        double wanted[3] = {};
        std::vector<unsigned> order = {0, 1, 2};
        do {
          unsigned known = 0;
          for (const unsigned f : order) {
            const double before = value(value, e.roots[0], x, known);
            known |= 1U << f;
            wanted[f] += (value(value, e.roots[0], x, known) - before) / 6;
          }
        } while (std::next_permutation(order.begin(), order.end()));
        for (int f = 0; f < 3; ++f) EXPECT_NEAR(got[f], wanted[f], 1e-12) << x0 << " " << x1 << " " << x2;
      }
    }
  }
}

}  // namespace
}  // namespace troupe::model

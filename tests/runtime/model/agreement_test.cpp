// The engines against what scikit-learn (or ONNX Runtime, where said) answered on the training rows
// themselves: thresholds sit on values of those rows, so one wrong rounding shows. scripts/train_models.py
// writes both.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "runtime/model/repository.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;

const fs::path data = fs::path(TROUPE_TEST_DIRECTORY) / "data";
const fs::path models = fs::path(TROUPE_SOURCE_DIRECTORY) / "models";

struct fixture {
  std::vector<std::string> head;
  std::vector<std::vector<double>> rows;

  explicit fixture(const fs::path& file) {
    std::ifstream in(file);
    std::string line;
    const auto cells = [&](auto add) {
      for (std::size_t at = 0; at <= line.size();) {
        const std::size_t end = std::min(line.find(',', at), line.size());
        add(line.substr(at, end - at));
        at = end + 1;
      }
    };
    if (!std::getline(in, line)) throw std::runtime_error(file.string() + " is missing or empty");
    cells([&](const std::string& c) { head.push_back(c); });
    while (std::getline(in, line)) {
      rows.emplace_back();
      cells([&](const std::string& c) {
        rows.back().push_back(c.empty() ? std::numeric_limits<double>::quiet_NaN() : std::stod(c));
      });
    }
  }

  [[nodiscard]] std::size_t column(const std::string& name) const {
    const auto at = std::find(head.begin(), head.end(), name);
    if (at == head.end()) throw std::runtime_error("no column " + name);
    return static_cast<std::size_t>(at - head.begin());
  }
};

std::vector<double> score(const loaded_model& m, const fixture& f, std::size_t batch) {
  std::vector<const double*> rows;
  for (const auto& r : f.rows) rows.push_back(r.data());
  std::vector<double> out(rows.size() * m.output().width, -1);
  for (std::size_t i = 0; i < rows.size(); i += batch) {
    const std::size_t n = std::min(batch, rows.size() - i);
    m.engine().score(std::span(rows).subspan(i, n), out.data() + i * m.output().width);
  }
  return out;
}

/// How many rows differ by more than `tolerance`, relative to the answer.
std::size_t different(const loaded_model& m, const fixture& f, std::size_t wanted_at, double tolerance) {
  const auto got = score(m, f, 64);
  const std::size_t width = m.output().width;
  std::size_t count = 0;
  for (std::size_t i = 0; i < f.rows.size(); ++i) {
    bool same = true;
    for (std::size_t k = 0; k < width; ++k) {
      const double wanted = f.rows[i].at(wanted_at + k);
      same = same && std::fabs(got[i * width + k] - wanted) <= tolerance * std::max(1.0, std::fabs(wanted));
    }
    count += !same;
  }
  return count;
}

struct known {
  const char* name;
  const char* kind;
  std::size_t rows;
  std::size_t outputs;
  bool missing;
};

void PrintTo(const known& k, std::ostream* out) {
  *out << k.name;
}

std::string name_of(const testing::TestParamInfo<known>& info) {
  return info.param.name;
}

class agreement : public testing::TestWithParam<known> {};

TEST_P(agreement, no_row_differs) {
  const known& k = GetParam();
  const auto m = load_model(data / k.name, k.name, "1");
  const fixture f(data / (std::string(k.name) + ".csv"));
  const std::size_t width = m->schema().features.size();
  ASSERT_EQ(f.rows.size(), k.rows);
  EXPECT_EQ(m->engine().kind(), k.kind);
  EXPECT_EQ(m->output().width, k.outputs);
  EXPECT_EQ(f.head.size(), width + k.outputs);
  EXPECT_EQ(different(*m, f, width, 1e-5), 0U);
  for (std::size_t c = 0; c < width; ++c) EXPECT_EQ(m->schema().missing_allowed(c), k.missing) << c;
}

TEST_P(agreement, an_answer_does_not_depend_on_its_batch) {
  const known& k = GetParam();
  const auto m = load_model(data / k.name, k.name, "1");
  const fixture f(data / (std::string(k.name) + ".csv"));
  const auto alone = score(*m, f, 1);
  for (const std::size_t batch : {2U, 7U, 8U, 15U, 16U, 17U, 24U, 63U, 64U, 65U, 100U, 1000U}) {
    EXPECT_EQ(score(*m, f, batch), alone) << batch;
  }
}

INSTANTIATE_TEST_SUITE_P(
    models, agreement,
    testing::Values(
        known{"raw", "forest", 442, 1, false},           // thresholds on values, scaled in double
        known{"float_scaler", "forest", 442, 1, false},  // as ONNX Runtime: scaled in float
        known{"missing", "forest", 442, 1, true},        // missing_go_to_left
        known{"boosted_missing", "forest", 442, 1, true}, known{"imputer", "forest", 442, 1, true},
        known{"boosted", "forest", 442, 1, false},  // base_values
        known{"deep", "forest", 150, 1, false},     // no limit on depth
        known{"wide", "forest", 120, 1, false},     // more than 255 columns
        known{"binary_forest", "forest", 200, 2, false}, known{"binary_boosted", "forest", 200, 2, false},
        known{"softmax_boosted", "forest", 150, 3, false}, known{"ten_classes", "forest", 200, 10, false},
        known{"three_targets", "forest", 20, 3, false}, known{"logistic", "linear", 200, 2, false},
        known{"logistic_three", "linear", 150, 3, false}, known{"linear_float", "linear", 442, 1, false},
        known{"network", "network", 150, 3, false}),
    name_of);

TEST(shipped, no_row_of_any_version_differs) {
  const fixture f(data / "diabetes.csv");
  ASSERT_EQ(f.rows.size(), 442U);
  for (const std::string version : {"1", "2", "3"}) {
    const auto m = load_model(models / "diabetes-rf-model" / version, "diabetes-rf-model", version);
    EXPECT_EQ(m->engine().kind(), "forest");
    EXPECT_EQ(different(*m, f, f.column("forest_" + version), 1e-5), 0U) << version;
    ASSERT_TRUE(m->schema().named);
    for (std::size_t c = 0; c < 10; ++c) EXPECT_EQ(m->schema().index_of(f.head[c]), static_cast<int>(c));
  }
}

TEST(shipped, versions_answer_differently) {
  const fixture f(data / "diabetes.csv");
  const auto a = load_model(models / "diabetes-rf-model/2", "m", "2");
  EXPECT_GT(different(*a, f, f.column("forest_3"), 1e-5), 400U);
}

TEST(shipped, linear_is_scikit_learns_to_the_last_digits) {
  const fixture f(data / "diabetes.csv");
  const auto m = load_model(models / "diabetes-linear/1", "diabetes-linear", "1");
  EXPECT_EQ(m->engine().kind(), "linear");
  EXPECT_EQ(different(*m, f, f.column("linear_1"), 1e-9), 0U);
}

TEST(shipped, iris_gives_probabilities_of_named_classes) {
  const fixture f(data / "iris.csv");
  const auto m = load_model(models / "iris-classifier/1", "iris-classifier", "1");
  EXPECT_EQ(m->output().kind, task::classification);
  EXPECT_EQ(m->output().classes, (std::vector<std::string>{"setosa", "versicolor", "virginica"}));
  EXPECT_EQ(m->schema().index_of("petal_width"), 3);
  EXPECT_EQ(different(*m, f, 4, 1e-6), 0U);
  const auto got = score(*m, f, 64);
  for (std::size_t i = 0; i < f.rows.size(); ++i)
    EXPECT_NEAR(got[3 * i] + got[3 * i + 1] + got[3 * i + 2], 1, 1e-6);
}

TEST(shipped, scores_from_many_threads_at_once) {
  const fixture f(data / "diabetes.csv");
  const auto m = load_model(models / "diabetes-rf-model/1", "m", "1");
  const auto wanted = score(*m, f, 64);
  std::vector<std::vector<double>> got(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < got.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) got[t] = score(*m, f, 1 + 13 * t);
    });
  }
  for (auto& t : threads) t.join();
  for (const auto& g : got) EXPECT_EQ(g, wanted);
}

}  // namespace
}  // namespace troupe::model

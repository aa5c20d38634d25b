// Preprocessing that a model.yaml asks for: what is refused when it is loaded, and what the model sees.
#include "runtime/model/preprocess.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/model/repository.hpp"
#include "runtime/model/shap.hpp"
#include "runtime/model/warm_up.hpp"
#include "tests/runtime/model/onnx_writer.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;
using namespace test;

constexpr double none = std::numeric_limits<double>::quiet_NaN();

/// The sum of the columns times `weights`.
std::string linear(const std::vector<float>& weights) {
  return file{{node(ml, "LinearRegressor", {"X"}, {"Y"},
                    {attribute("coefficients", weights), attribute("targets", std::int64_t{1})})},
              {table("X", of_double, static_cast<std::int64_t>(weights.size()))},
              {table("Y", of_float, 1)},
              {},
              {}}
      .text();
}

class preprocess : public testing::Test {
 protected:
  void SetUp() override {
    root = fs::temp_directory_path() / ("troupe-preprocess-" + std::to_string(getpid()) + "-" +
                                        testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(root);
    fs::create_directories(root);
  }
  void TearDown() override { fs::remove_all(root); }

  void put(const fs::path& name, const std::string& text) const {
    std::ofstream(root / name, std::ios::binary) << text;
  }
  std::shared_ptr<const loaded_model> load(const std::string& yaml, bool explain = false) const {
    put("model.yaml", yaml);
    return load_model(root, "m", "1", {}, explain);
  }
  std::string refusal(const std::string& yaml) const {
    try {
      load(yaml);
    } catch (const load_error& e) {
      std::string text = e.what();
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      EXPECT_TRUE(text.starts_with(root.string() + "/")) << text;
      return text.substr(root.string().size() + 1);
    }
    return "was taken";
  }
  static double score(const loaded_model& m, const std::vector<double>& row) {
    const double* const rows[] = {row.data()};
    double y = 0;
    m.engine().score(rows, &y);
    return y;
  }

  fs::path root;
};

TEST_F(preprocess, what_is_wrong_is_named) {
  put("model.onnx", linear({1, 1}));
  const struct {
    std::string feature;  ///< the first of two
    std::string error;
  } table[] = {
      {"{name: a, defualt: 1}",
       "unknown key defualt of a feature; it can hold name, default, minimum, maximum, outside, mean, scale, "
       "categories, encode, unknown"},
      {"{name: b}", "feature b is there twice; take one out"},
      {"{default: 1}", "a feature has no name; add name: ..."},
      {"{name: [a]}", "a feature has no name; add name: ..."},
      {"[a]", "features is a list of names and mappings; write a name or {name: ...}"},
      {"{name: a, default: 1, default: 2}", "default is there twice; take one out"},
      {"{name: a, default: many}", "feature a: default is not a finite number; write one"},
      {"{name: a, default: .nan}", "feature a: default is not a finite number; write one"},
      {"{name: a, minimum: .nan}", "feature a: minimum is not a finite number; write one"},
      {"{name: a, maximum: .nan}", "feature a: maximum is not a finite number; write one"},
      {"{name: a, maximum: [1]}", "feature a: maximum is not a finite number; write one"},
      {"{name: a, mean: .inf}", "feature a: mean is not a finite number; write one"},
      {"{name: a, minimum: 2, maximum: 1}", "feature a: minimum is above maximum; exchange them"},
      {"{name: a, minimum: 1, maximum: 1}", "was taken"},
      {"{name: a, minimum: 0, maximum: 1, default: 1}", "was taken"},
      {"{name: a, minimum: 0, maximum: 1, default: 1.001}",
       "feature a: default is outside of the bounds; write a number from 0 to 1"},
      {"{name: a, minimum: 0, default: -1}",
       "feature a: default is outside of the bounds; write a number at least 0"},
      {"{name: a, minimum: 0, outside: drop}", "feature a: outside is reject or clip; write one of them"},
      {"{name: a, outside: clip}", "feature a: outside of no bounds; add minimum: or maximum:"},
      {"{name: a, scale: 0}", "feature a: scale is 0; take it out, or write what x - mean is divided by"},
      {"{name: a, scale: -1}", "was taken"},
      {"{name: a, unknown: ignore}",
       "feature a: unknown is of categories, and it has none; add categories: [...]"},
      {"{name: a, encode: one_hot}",
       "feature a: encode is of categories, and it has none; add categories: [...]"},
      {"{name: a, categories: []}", "feature a: categories is not a list of texts; write [red, green]"},
      {"{name: a, categories: red}", "feature a: categories is not a list of texts; write [red, green]"},
      {"{name: a, categories: [red, [green]]}",
       "feature a: categories holds what is no text; put it into quotes"},
      {"{name: a, categories: [red, red]}", "feature a: categories holds 'red' twice; take one out"},
      {"{name: a, categories: [" + std::string(256, 'x') + "]}", "was taken"},
      {"{name: a, categories: [" + std::string(257, 'x') + "]}",
       "feature a: categories holds a text of more than 256 bytes; shorten it"},
      {"{name: a, categories: [red], default: blue}",
       "feature a: default is none of the categories; write one of red"},
      {"{name: a, categories: [red], encode: hash}",
       "feature a: encode is ordinal or one_hot; write one of them"},
      {"{name: a, categories: [red], unknown: blue}",
       "feature a: unknown (reject, ignore or a category) is none of the categories; write one of red"},
      {"{name: a, categories: [red], scale: 2}",
       "feature a: scale is of numbers, and it has categories; take one of them out"},
  };
  for (const auto& t : table) {
    const std::string found = refusal("features:\n  - " + t.feature + "\n  - {name: b}\n");
    if (t.error == "was taken") {
      EXPECT_EQ(found, t.error) << t.feature;
      continue;
    }
    const std::string line = t.feature == "{name: b}" ? "3" : "2";
    EXPECT_EQ(found, "model.yaml:" + line + ": " + t.error) << t.feature;
  }
}

TEST_F(preprocess, columns_are_counted_when_the_model_is_loaded) {
  const std::string yaml = "features: [{name: c, categories: [red, green, blue], encode: one_hot}, x]\n";
  put("model.onnx", linear({1, 2, 3, 10}));
  EXPECT_EQ(refusal(yaml), "was taken");
  for (const auto& weights : {std::vector<float>{1, 2, 3}, std::vector<float>{1, 2, 3, 4, 5}}) {
    put("model.onnx", linear(weights));
    const std::string text = refusal(yaml);
    EXPECT_NE(text.find("2 features make 4 columns"), std::string::npos) << text;
  }
}

TEST_F(preprocess, scales_in_double_and_widens) {
  put("model.onnx", linear({1, 2, 3, 10, 100, 1000, 10000, 100000}));
  const auto m = load(R"(features:
  - {name: c, categories: [red, green, blue], encode: one_hot, unknown: ignore, default: blue}
  - {name: x, mean: 3, scale: 2}
  - plain
  - {name: o, categories: [low, high], unknown: ignore}
  - {name: d, categories: ["yes", "no"], encode: one_hot}
)");
  const auto& s = m->schema();
  ASSERT_EQ(s.features.size(), 5U);
  EXPECT_TRUE(s.rules);
  EXPECT_TRUE(s.named);
  EXPECT_EQ(s.index_of("o"), 3);
  EXPECT_EQ(s.features[0].rule->missing, 2);
  EXPECT_EQ(s.features[2].rule, nullptr);
  EXPECT_FALSE(s.missing_allowed(4));
  EXPECT_EQ(score(*m, {0, 3, 0, 0, 0}), 1 + 10000);
  EXPECT_EQ(score(*m, {2, 3, 0, 0, 1}), 3 + 100000);
  EXPECT_EQ(score(*m, {-1, 5, 1, 1, 0}), 10 + 100 + 1000 + 10000);
  EXPECT_EQ(score(*m, {-1, 1, 0, -1, 0}), -10 - 1000 + 10000);
  // Many rows are scored as each is alone, in blocks too.
  std::vector<std::vector<double>> rows;
  std::vector<const double*> pointers;
  for (int i = 0; i < 200'000; ++i)
    rows.push_back({double(i % 4 - 1), double(i % 7), double(i), 1, double(i % 2)});
  for (const auto& r : rows) pointers.push_back(r.data());
  std::vector<double> out(rows.size());
  m->engine().score(pointers, out.data());
  for (std::size_t i = 0; i < rows.size(); i += 997) EXPECT_EQ(out[i], score(*m, rows[i])) << i;
}

TEST(cell_rule_table, bounds) {
  const double below = std::nextafter(0.0, -1.0);
  const double above = std::nextafter(120.0, 121.0);
  cell_rule r;
  r.minimum = 0;
  r.maximum = 120;
  EXPECT_EQ(r.allowed(), "from 0 to 120");
  for (const bool clip : {false, true}) {
    r.clip = clip;
    for (const double x : {0.0, -0.0, 120.0, 60.5}) {
      double y = x;
      EXPECT_TRUE(r.take(y));
      EXPECT_EQ(y, x);
    }
    for (const double x : {below, above}) {
      double y = x;
      EXPECT_EQ(r.take(y), clip);
      EXPECT_EQ(y, !clip ? x : x < 0 ? 0.0 : 120.0);
    }
  }
  r.minimum = -std::numeric_limits<double>::infinity();
  EXPECT_EQ(r.allowed(), "at most 120");
}

TEST(cell_rule_table, categories) {
  cell_rule r;
  r.categories = {"red", "green", "", "Gr\xc3\xbcn"};
  r.index();
  for (std::size_t i = 0; i < r.categories.size(); ++i)
    EXPECT_EQ(r.number_of(r.categories[i]), static_cast<double>(i));
  for (const char* x : {"Red", "red ", "gree", "greens", "zz"}) EXPECT_TRUE(std::isnan(r.number_of(x))) << x;
  r.unknown = -1;
  EXPECT_EQ(r.number_of("gree"), -1);
  cell_rule other = r;
  EXPECT_TRUE(r == other);
  other.unknown = none;
  EXPECT_FALSE(r == other);
  r.categories.assign(13, "x");
  EXPECT_EQ(r.allowed(), "one of x, x, x, x, x, x, x, x, x, x, x, x, ...");
}

TEST_F(preprocess, example_rows_hold_names) {
  put("model.onnx", linear({1, 2, 3, 10}));
  const auto m = load(R"(features:
  - {name: c, categories: [red, green, blue], encode: one_hot, default: green}
  - {name: x, minimum: 0, maximum: 9}
)");
  put("probe.json", R"([["blue", 4], {"x": 9}, {"c": "red", "x": 0}])");
  EXPECT_EQ(probe_rows(root, m->schema()), (std::vector<double>{2, 4, 1, 9, 0, 0}));
  EXPECT_EQ(warm_up(*m, recent_rows()).rows, 3U);
  for (const char* row : {R"([["pink", 4]])", R"([[1, 4]])", R"([["red", 9.5]])", R"([["red", "4"]])"}) {
    put("probe.json", row);
    EXPECT_THROW((void)probe_rows(root, m->schema()), load_error) << row;
  }
}

/// The digest, which answers are remembered by, is another one with every other model.yaml.
TEST_F(preprocess, another_rule_is_another_digest) {
  put("model.onnx", linear({1, 1}));
  const auto one = load("features: [{name: a, mean: 1}, b]\n")->digest();
  EXPECT_NE(load("features: [{name: a, mean: 2}, b]\n")->digest(), one);
  EXPECT_EQ(load("features: [{name: a, mean: 1}, b]\n")->digest(), one);
}

/// A model of another library, whose first columns become one feature: its shares are their sum.
TEST_F(preprocess, explained_by_feature) {
  for (const std::string name : {"lightgbm", "xgboost", "ridge", "forest"}) {
    const fs::path from = fs::path(TROUPE_TEST_DIRECTORY) / "native" / name;
    const auto plain = load_model(from, name, "1", {}, true);
    const std::size_t width = plain->schema().features.size();
    ASSERT_GT(width, 3U) << name;
    for (const auto& entry : fs::directory_iterator(root)) fs::remove(entry.path());
    fs::copy(plain->path(), root / plain->path().filename());
    std::string yaml = "features:\n  - {name: c, categories: [p, q, r], encode: one_hot, unknown: ignore}\n";
    for (std::size_t c = 3; c < width; ++c)
      yaml += "  - {name: f" + std::to_string(c) + ", mean: 0.5, scale: 2}\n";
    const auto m = load(yaml, true);
    ASSERT_EQ(m->schema().features.size(), width - 2) << name;
    ASSERT_NE(m->explain(), nullptr) << m->unexplained();
    for (const double category : {-1.0, 0.0, 1.0, 2.0}) {
      std::vector<double> row{category};
      std::vector<double> columns(3, 0.0);
      if (category >= 0) columns[static_cast<std::size_t>(category)] = 1;
      for (std::size_t c = 3; c < width; ++c) {
        row.push_back(static_cast<double>(c) * 0.75);
        columns.push_back((row.back() - 0.5) / 2);
      }
      EXPECT_EQ(score(*m, row), score(*plain, columns)) << name;
      const double* const one[] = {row.data()};
      const double* const other[] = {columns.data()};
      std::vector<double> found(width - 2);
      std::vector<double> wanted(width);
      double a = 0;
      double b = 0;
      m->explain()->explain(one, found.data(), &a);
      plain->explain()->explain(other, wanted.data(), &b);
      EXPECT_EQ(a, b);
      EXPECT_NEAR(found[0], wanted[0] + wanted[1] + wanted[2], 1e-12) << name;
      for (std::size_t c = 3; c < width; ++c) EXPECT_EQ(found[c - 2], wanted[c]) << name;
    }
  }
}

}  // namespace
}  // namespace troupe::model

// Tree ensembles against a plain reading of the operator's definition, on random trees and rows.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "runtime/model/graph.hpp"
#include "tests/runtime/model/onnx_writer.hpp"

namespace troupe::model {
namespace {

using namespace test;

constexpr double none = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

std::vector<double> score(const compiled_graph& g, const std::vector<std::vector<double>>& rows) {
  std::vector<const double*> pointers;
  for (const auto& r : rows) pointers.push_back(r.data());
  std::vector<double> out(rows.size() * g.output.width);
  g.engine->score(pointers, out.data());
  return out;
}

/// Follows one row through the lists, as the operator's definition says.
std::vector<double> walk(const tree_lists& lists, const std::vector<double>& row, std::size_t outputs) {
  std::vector<double> sums(outputs);
  for (std::int64_t tree = 0; tree <= lists.trees.back(); ++tree) {
    std::int64_t id = 0;
    for (;;) {
      std::size_t i = 0;
      while (lists.trees[i] != tree || lists.ids[i] != id) ++i;
      if (lists.modes[i] == "LEAF") break;
      const double x = row[static_cast<std::size_t>(lists.features[i])];
      const double t = static_cast<double>(lists.values[i]);
      const std::string& m = lists.modes[i];
      const bool yes = std::isnan(x)       ? lists.missing[i] != 0
                       : m == "BRANCH_LEQ" ? x <= t
                       : m == "BRANCH_LT"  ? x < t
                       : m == "BRANCH_GTE" ? x >= t
                                           : x > t;
      id = yes ? lists.yes[i] : lists.no[i];
    }
    for (std::size_t i = 0; i < lists.leaf_trees.size(); ++i) {
      if (lists.leaf_trees[i] != tree || lists.leaf_ids[i] != id) continue;
      sums[static_cast<std::size_t>(lists.leaf_outputs[i])] += static_cast<double>(lists.leaf_weights[i]);
    }
  }
  return sums;
}

struct shape {
  std::int64_t width;
  std::size_t trees;
  std::size_t depth;
  std::int64_t outputs;
  std::int64_t type;
  bool missing;
  std::vector<std::string> modes;
};

void PrintTo(const shape& s, std::ostream* out) {
  *out << s.width << " columns, " << s.trees << " trees, depth " << s.depth << ", " << s.outputs
       << " outputs";
}

/// Thresholds come from few values, which rows have too.
constexpr float grid[] = {-2.5F, -1, -0.0F, 0, 0.1F, 1, 3, 1e-30F, 1e30F};

tree_lists random_trees(const shape& s, std::mt19937_64& random) {
  tree_lists lists;
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  for (std::size_t t = 0; t < s.trees; ++t) {
    const auto tree = static_cast<std::int64_t>(t);
    std::int64_t next = 1;
    const std::function<void(std::int64_t, std::size_t)> grow = [&](std::int64_t id, std::size_t depth) {
      if (depth == s.depth || (depth > 0 && below(depth > 6 ? 2 : 6) == 0)) {
        lists.leaf(tree, id, static_cast<std::int64_t>(below(static_cast<std::size_t>(s.outputs))),
                   static_cast<float>(below(1000)) / 8 - 60);
        if (s.outputs > 1 && below(2)) lists.share(tree, id, static_cast<std::int64_t>(below(2)), 0.25F);
        return;
      }
      const std::int64_t yes = next++;
      const std::int64_t no = next++;
      lists.branch(tree, id, static_cast<std::int64_t>(below(static_cast<std::size_t>(s.width))),
                   s.modes[below(s.modes.size())], grid[below(std::size(grid))], yes, no,
                   s.missing && below(2));
      grow(yes, depth + 1);
      grow(no, depth + 1);
    };
    grow(0, 0);
  }
  return lists;
}

class random_forest : public testing::TestWithParam<shape> {};

TEST_P(random_forest, answers_as_the_definition_says) {
  const shape& s = GetParam();
  std::mt19937_64 random(42);
  for (int round = 0; round < 8; ++round) {
    const tree_lists lists = random_trees(s, random);
    const compiled_graph g = compile(lists.regressor(s.width, s.outputs, {}, s.type).text());
    std::vector<std::vector<double>> rows(53);
    for (auto& row : rows) {
      for (std::int64_t c = 0; c < s.width; ++c) {
        const auto pick = random() % 16;
        const double exact = static_cast<double>(grid[random() % std::size(grid)]);
        // Next to a threshold, but in double only: float input rounds it back on.
        row.push_back(pick == 0   ? std::copysign(none, exact)
                      : pick == 1 ? infinity
                      : pick == 2 ? -infinity
                      : pick == 3 ? std::nextafter(exact, 9.0)
                      : pick == 4 ? std::nextafter(exact, -9.0)
                                  : exact);
      }
    }
    const auto got = score(g, rows);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      auto row = rows[i];
      if (s.type == of_float) {
        for (double& x : row) x = static_cast<double>(static_cast<float>(x));
      }
      const auto wanted = walk(lists, row, static_cast<std::size_t>(s.outputs));
      for (std::size_t k = 0; k < wanted.size(); ++k)
        ASSERT_EQ(got[i * wanted.size() + k], wanted[k]) << i << " " << k;
    }
  }
}

const std::vector<std::string> all_modes = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"};

INSTANTIATE_TEST_SUITE_P(
    shapes, random_forest,
    testing::Values(shape{3, 1, 4, 1, of_float, false, {"BRANCH_LEQ"}},
                    shape{5, 37, 6, 1, of_float, false, {"BRANCH_LT"}},
                    shape{5, 37, 6, 1, of_float, true, {"BRANCH_LEQ"}},
                    shape{7, 20, 5, 1, of_float, true, all_modes},
                    shape{4, 5, 0, 1, of_float, false, {"BRANCH_LEQ"}},  // leaves alone
                    shape{2, 9, 25, 1, of_float, true, all_modes},       // deep and uneven
                    shape{100, 18, 6, 1, of_float, true, all_modes},     // 201 columns
                    shape{130, 18, 6, 1, of_float, true, all_modes},     // 261: the wide layout
                    shape{300, 18, 6, 3, of_float, true, all_modes},
                    shape{6, 20, 6, 4, of_float, true, all_modes},  // several outputs, several a leaf
                    shape{6, 20, 6, 1, of_double, true, all_modes},
                    shape{6, 20, 6, 3, of_double, true, all_modes}));

/// x <= 0.5 ? 1 : 2, and x <= -2 ? 10 : 20 on the second column.
tree_lists two_trees() {
  tree_lists t;
  t.branch(0, 0, 0, "BRANCH_LEQ", 0.5F, 1, 2);
  t.leaf(0, 1, 0, 1);
  t.leaf(0, 2, 0, 2);
  t.branch(1, 0, 1, "BRANCH_LEQ", -2, 1, 2);
  t.leaf(1, 1, 0, 10);
  t.leaf(1, 2, 0, 20);
  return t;
}

TEST(forest, adds_base_values_and_averages) {
  const auto answer = [](std::vector<proto> more) {
    return score(compile(two_trees().regressor(2, 1, std::move(more)).text()), {{0.5, 0}})[0];
  };
  EXPECT_EQ(answer({}), 21);
  EXPECT_EQ(answer({attribute("aggregate_function", "SUM")}), 21);
  EXPECT_EQ(answer({attribute("aggregate_function", "AVERAGE")}), 10.5);
  EXPECT_EQ(answer({attribute("base_values", std::vector<float>{-1})}), 20);
  EXPECT_EQ(
      answer({attribute("aggregate_function", "AVERAGE"), attribute("base_values", std::vector<float>{-1})}),
      9.5);
  EXPECT_NEAR(
      answer({attribute("base_values", std::vector<float>{-20}), attribute("post_transform", "LOGISTIC")}),
      1 / (1 + std::exp(-1.0)), 1e-15);
}

TEST(forest, one_score_of_two_classes_becomes_two_probabilities) {
  tree_lists t;
  t.branch(0, 0, 0, "BRANCH_LEQ", 0, 1, 2);
  t.leaf(0, 1, 0, 0.25F);
  t.leaf(0, 2, 0, 0.75F);
  const std::vector<std::vector<double>> rows = {{-1}, {1}};
  EXPECT_EQ(score(compile(t.classifier(1, {0, 1}).text()), rows),
            (std::vector<double>{0.75, 0.25, 0.25, 0.75}));
  const auto logistic =
      score(compile(t.classifier(1, {0, 1}, {attribute("post_transform", "LOGISTIC")}).text()), rows);
  EXPECT_NEAR(logistic[1], 1 / (1 + std::exp(-0.25)), 1e-15);
  EXPECT_NEAR(logistic[0], 1 - logistic[1], 1e-15);
  // Scores that may be negative are no shares.
  t.leaf_weights = {-0.5F, 0.75F};
  EXPECT_EQ(score(compile(t.classifier(1, {0, 1}).text()), rows),
            (std::vector<double>{0.5, -0.5, -0.75, 0.75}));
}

TEST(forest, softmax_does_not_overflow) {
  tree_lists t;
  t.branch(0, 0, 0, "BRANCH_LEQ", 0, 1, 2);
  t.leaf(0, 1, 0, 3e38F);
  t.leaf(0, 2, 1, 1);
  const auto p = score(compile(t.classifier(1, {0, 1, 2}, {attribute("post_transform", "SOFTMAX")}).text()),
                       {{-1}, {1}});
  EXPECT_EQ(p[0], 1);
  EXPECT_NEAR(p[4], std::exp(1) / (std::exp(1) + 2), 1e-15);
}

TEST(forest, missing_is_allowed_only_where_trees_say_where_it_goes) {
  auto t = two_trees();
  EXPECT_FALSE(compile(t.regressor(2).text()).schema.missing_allowed(0));
  t.missing[0] = 1;
  const auto g = compile(t.regressor(2).text());
  EXPECT_TRUE(g.schema.missing_allowed(0));
  EXPECT_TRUE(g.schema.missing_allowed(1));
  EXPECT_EQ(score(g, {{none, none}})[0], 21);
}

TEST(forest, a_missing_value_never_leaves_the_tree) {
  // Leaves lead to themselves by a comparison that must hold even in a row of nothing but missing values.
  std::mt19937_64 random(7);
  const shape s{4, 40, 7, 1, of_float, false, all_modes};
  const auto lists = random_trees(s, random);
  const auto g = compile(lists.regressor(4).text());
  const std::vector<std::vector<double>> rows(20, std::vector<double>(4, none));
  for (const double y : score(g, rows)) EXPECT_EQ(y, walk(lists, rows[0], 1)[0]);
}

struct hostile {
  const char* name;
  const char* says;
  std::function<void(tree_lists&)> change;
  std::vector<proto> more = {};
};

void PrintTo(const hostile& h, std::ostream* out) {
  *out << h.name;
}

std::string name_of(const testing::TestParamInfo<hostile>& info) {
  return info.param.name;
}

class hostile_trees : public testing::TestWithParam<hostile> {};

TEST_P(hostile_trees, are_refused) {
  auto lists = two_trees();
  GetParam().change(lists);
  try {
    (void)compile(lists.regressor(2, 1, GetParam().more).text());
    FAIL() << "was taken";
  } catch (const load_error& e) {
    EXPECT_NE(std::string(e.what()).find(GetParam().says), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("TreeEnsembleRegressor"), std::string::npos) << e.what();
  }
}

const auto nothing = [](tree_lists&) {};

const std::vector<hostile> hostile_cases = {
    hostile{"child_missing", "child 9 of tree 0 does not exist", [](tree_lists& t) { t.yes[0] = 9; }},
    hostile{"child_negative", "child -1 of tree 0 does not exist", [](tree_lists& t) { t.no[0] = -1; }},
    hostile{"child_huge", "does not exist", [](tree_lists& t) { t.no[0] = INT64_MAX; }},
    hostile{"child_itself", "two parents",
            [](tree_lists& t) { t.modes[1] = "BRANCH_LEQ", t.yes[1] = 1, t.no[1] = 2; }},
    hostile{"circle", "circle",
            [](tree_lists& t) {
              t.branch(1, 3, 0, "BRANCH_LEQ", 0, 4, 5);
              t.branch(1, 4, 0, "BRANCH_LEQ", 0, 3, 6);
              t.leaf(1, 5, 0, 0);
              t.leaf(1, 6, 0, 0);
            }},
    hostile{"nothing_but_a_circle", "circle",
            [](tree_lists& t) {
              t.branch(2, 0, 0, "BRANCH_LEQ", 0, 1, 2);
              t.branch(2, 1, 0, "BRANCH_LEQ", 0, 0, 3);
              t.leaf(2, 2, 0, 0);
              t.leaf(2, 3, 0, 0);
            }},
    hostile{"one_child_twice", "two parents", [](tree_lists& t) { t.no[0] = 1; }},
    hostile{"two_roots", "two roots", [](tree_lists& t) { t.leaf(0, 7, 0, 1); }},
    hostile{"node_twice", "twice", [](tree_lists& t) { t.leaf(0, 1, 0, 1); }},
    hostile{"feature_beyond", "feature 2 of a row with 2", [](tree_lists& t) { t.features[0] = 2; }},
    hostile{"feature_negative", "feature -1", [](tree_lists& t) { t.features[0] = -1; }},
    hostile{"feature_huge", "feature 4294967296", [](tree_lists& t) { t.features[0] = int64_t{1} << 32; }},
    hostile{"target_beyond", "target 1 is not one of 1", [](tree_lists& t) { t.leaf_outputs[0] = 1; }},
    hostile{"target_negative", "target -1", [](tree_lists& t) { t.leaf_outputs[0] = -1; }},
    hostile{"leaf_missing", "leaf 8 of tree 0 does not exist", [](tree_lists& t) { t.leaf_ids[0] = 8; }},
    hostile{"weight_infinite", "not finite", [](tree_lists& t) { t.leaf_weights[0] = INFINITY; }},
    hostile{"threshold_nan", "not a number", [](tree_lists& t) { t.values[0] = NAN; }},
    hostile{"mode_unknown", "BRANCH_EQ is not built in", [](tree_lists& t) { t.modes[0] = "BRANCH_EQ"; }},
    hostile{"short_list", "nodes_values has 5 entries, nodes_treeids 6",
            [](tree_lists& t) { t.values.pop_back(); }},
    hostile{"short_leaves", "differ in length", [](tree_lists& t) { t.leaf_weights.pop_back(); }},
    hostile{"no_trees", "no trees", [](tree_lists& t) { t = {}; }},
    hostile{"too_many_bases", "base_values", nothing, {attribute("base_values", std::vector<float>{1, 2})}},
    hostile{"aggregate", "MAX is not built in", nothing, {attribute("aggregate_function", "MAX")}},
    hostile{"probit", "PROBIT is not built in", nothing, {attribute("post_transform", "PROBIT")}}};

INSTANTIATE_TEST_SUITE_P(cases, hostile_trees, testing::ValuesIn(hostile_cases), name_of);

TEST(forest, targets_have_a_limit) {
  auto f = two_trees().regressor(2, std::int64_t{1} << 40);
  EXPECT_THROW((void)compile(f.text()), load_error);
  EXPECT_THROW((void)compile(two_trees().regressor(2, 0).text()), load_error);
  onnx::limits few;
  few.tree_nodes = 5;
  EXPECT_THROW((void)compile(two_trees().regressor(2).text(), {}, few), load_error);
  few.tree_nodes = 6;
  EXPECT_NO_THROW((void)compile(two_trees().regressor(2).text(), {}, few));
}

}  // namespace
}  // namespace troupe::model

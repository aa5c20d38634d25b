// Splits by sets of categories: which values go where, and what broken files say.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runtime/model/category_splits.hpp"
#include "runtime/model/lightgbm.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/xgboost.hpp"

namespace troupe::model {
namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

TEST(category_set, a_category_is_a_number_without_its_fraction) {
  const category_set lightgbm{{1U | 1U << 31, 1U}, true, false, false};  // 0, 31, 32
  const category_set xgboost{{1U | 1U << 31, 1U}, false, true, true};
  struct {
    double x;
    bool member, member_of_floats;
  } const table[] = {{0, true, true},           {0.99, true, true},        {1, false, false},
                     {-0.5, true, false},       {-1, false, false},        {30.99, false, false},
                     {31, true, true},          {31.99, true, true},       {32, true, true},
                     {33, false, false},        {63, false, false},        {64, false, false},
                     {1e300, false, false},     {-1e300, false, false},    {infinity, false, false},
                     {-infinity, false, false}, {30.99999999, false, true}};  // 31 as a float32
  for (const auto& row : table) {
    EXPECT_EQ(lightgbm.left(row.x), row.member) << row.x;
    EXPECT_EQ(xgboost.left(row.x), !row.member_of_floats) << row.x;
  }
  EXPECT_FALSE(lightgbm.left(none));
  EXPECT_TRUE(xgboost.left(none));
  EXPECT_FALSE(category_set{}.left(0)) << "an empty set has no members";
}

TEST(category_splits, equal_sets_share_a_column) {
  category_splits s(3, 3);
  tree_node n;
  const category_set one{{5}};
  s.add(n, 1, one);
  EXPECT_EQ(n.column, 3U);
  s.add(n, 2, one);
  EXPECT_EQ(n.column, 4U) << "another feature";
  s.add(n, 1, {{5, 0, 0}});
  EXPECT_EQ(n.column, 3U);
  s.add(n, 1, {{4}});
  EXPECT_EQ(n.column, 5U);
  EXPECT_THROW(s.add(n, 0, one), load_error);
}

TEST(category_splits, have_a_limit_in_all) {
  category_splits s(1, 100);
  tree_node n;
  category_set half{std::vector<std::uint32_t>(most_category_words / 2, 1)};
  s.add(n, 0, half);
  s.add(n, 0, half);
  half.bits[0] = 2;
  s.add(n, 0, half);
  EXPECT_THROW(s.add(n, 0, {{1}}), load_error);
}

TEST(category_splits, the_step_adds_a_column_for_each_set) {
  category_splits s(2, 10);
  tree_node n;
  s.add(n, 1, {{2}});
  s.add(n, 0, {{4}});
  s.add(n, 1, {{1}, true, true});
  EXPECT_EQ(s.columns(), (std::vector<std::uint32_t>{0, 1, 1, 0, 1}));
  const std::size_t width = s.width();
  const step_ptr step = std::move(s).step();
  const std::vector<double> in = {2, 1, 7, none};
  std::vector<double> out(2 * width);
  const columns from{in.data(), 2};
  step->run(&from, 2, out.data());
  EXPECT_EQ((std::vector<double>{out.begin(), out.begin() + 5}), (std::vector<double>{2, 1, 0, 0, 1}));
  EXPECT_EQ((std::vector<double>{out.begin() + 7, out.end()}), (std::vector<double>{1, 1, 0}));
}

std::string refusal_of_lightgbm(const std::string& bounds, const std::string& members,
                                const std::string& which) {
  const std::string file =
      "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\nobjective=regression\n"
      "feature_names=a\n\nTree=0\nnum_leaves=2\nnum_cat=1\nsplit_feature=0\nthreshold=" +
      which + "\ndecision_type=1\nleft_child=-1\nright_child=-2\nleaf_value=1 2\n" + bounds + "\n" + members +
      "\nis_linear=0\n\nend of trees\n";
  try {
    (void)read_lightgbm(file, {}, {});
  } catch (const load_error& e) {
    return e.what();
  }
  return "was taken";
}

TEST(category_splits, broken_sets_of_lightgbm) {
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=0 1", "cat_threshold=4294967295", "0"), "was taken");
  const std::string no_set = "a split by categories asks for a set that does not exist";
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=0 1", "cat_threshold=1", "1"), no_set);
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=0 1", "cat_threshold=1", "-1"), no_set);
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=0 1", "cat_threshold=1", "0.5"), no_set);
  EXPECT_EQ(refusal_of_lightgbm("", "", "0"), no_set);
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=", "cat_threshold=1", "0"), no_set);
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=0 2", "cat_threshold=1", "0"),
            "cat_boundaries is out of range");
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=1 0", "cat_threshold=1", "0"),
            "cat_boundaries is out of range");
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=-1 0", "cat_threshold=1", "0"),
            "cat_boundaries is out of range");
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=0 1", "cat_threshold=4294967296", "0"),
            "cat_threshold is out of range");
  EXPECT_EQ(refusal_of_lightgbm("cat_boundaries=0 1", "cat_threshold=-1", "0"),
            "cat_threshold is out of range");
}

std::string refusal_of_xgboost(const std::string& sets) {
  const std::string file =
      R"({"learner": {"learner_model_param": {"num_class": "0", "num_target": "1", "num_feature": "1",
      "base_score": "0"}, "objective": {"name": "reg:squarederror"}, "gradient_booster": {"name": "gbtree",
      "model": {"tree_info": [0], "trees": [{"tree_param": {"num_nodes": "3"}, "left_children": [1, -1, -1],
      "right_children": [2, -1, -1], "split_indices": [0, 0, 0], "split_conditions": [0, 1, 2],
      "default_left": [0, 0, 0], "sum_hessian": [2, 1, 1], "split_type": [1, 0, 0], )" +
      sets + "}]}}}}";
  try {
    (void)read_xgboost(file, false, {}, {});
  } catch (const load_error& e) {
    return e.what();
  }
  return "was taken";
}

TEST(category_splits, broken_sets_of_xgboost) {
  const auto sets = [](const char* nodes, const char* begins, const char* sizes, const char* members) {
    return std::string(R"("categories_nodes": )") + nodes + R"(, "categories_segments": )" + begins +
           R"(, "categories_sizes": )" + sizes + R"(, "categories": )" + members;
  };
  EXPECT_EQ(refusal_of_xgboost(sets("[0]", "[0]", "[2]", "[1, 65535]")), "was taken");
  EXPECT_EQ(refusal_of_xgboost(sets("[0]", "[0]", "[0]", "[]")), "was taken");
  EXPECT_EQ(refusal_of_xgboost(sets("[1]", "[0]", "[1]", "[1]")), "a split by categories has no categories");
  EXPECT_EQ(refusal_of_xgboost(sets("[]", "[]", "[]", "[]")), "a split by categories has no categories");
  const std::string outside = "categories_segments is out of range";
  EXPECT_EQ(refusal_of_xgboost(sets("[0]", "[0]", "[3]", "[1, 2]")), outside);
  EXPECT_EQ(refusal_of_xgboost(sets("[0]", "[3]", "[0]", "[1, 2]")), outside);
  EXPECT_EQ(refusal_of_xgboost(sets("[0]", "[-1]", "[1]", "[1, 2]")), outside);
  EXPECT_EQ(refusal_of_xgboost(sets("[0]", "[0]", "[-1]", "[1, 2]")), outside);
  EXPECT_EQ(refusal_of_xgboost(sets("[0]", "[1e300]", "[1]", "[1, 2]")), outside);
  EXPECT_EQ(refusal_of_xgboost(sets("[-1]", "[0]", "[1]", "[1]")), "categories_nodes is out of range");
  EXPECT_EQ(refusal_of_xgboost(sets("[0]", "[0]", "[1]", "[65536]")), "categories is out of range");
  EXPECT_EQ(refusal_of_xgboost(sets("[0]", "[0]", "[1]", "[-1]")), "categories is out of range");
  EXPECT_NE(refusal_of_xgboost(R"("categories_nodes": [0])").find("categories_segments"), std::string::npos);
}

}  // namespace
}  // namespace troupe::model

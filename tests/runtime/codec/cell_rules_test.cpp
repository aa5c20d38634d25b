// Features with a rule of model.yaml: what a request may say, and what it becomes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support.hpp"

namespace troupe::codec {
namespace {

using namespace troupe::codec::testing;
constexpr double none = std::numeric_limits<double>::quiet_NaN();

/// age: 0 to 120, 40 where missing; clipped: 0 to 1; colour; ignored: unknown is -1; other: unknown is b,
/// missing is a; plain.
std::shared_ptr<const model::model_table> table() {
  const auto categories = [](std::vector<std::string> names, double unknown, double missing) {
    auto r = std::make_shared<model::cell_rule>();
    r->categories = std::move(names);
    r->unknown = unknown;
    r->missing = missing;
    r->index();
    return r;
  };
  auto age = std::make_shared<model::cell_rule>();
  age->minimum = 0;
  age->maximum = 120;
  age->missing = 40;
  auto clipped = std::make_shared<model::cell_rule>();
  clipped->minimum = 0;
  clipped->maximum = 1;
  clipped->clip = true;
  std::vector<model::feature> features = {{"age", false, age},
                                          {"clipped", true, clipped},
                                          {"colour", false, categories({"red", "green"}, none, none)},
                                          {"ignored", false, categories({"x"}, -1, 0)},
                                          {"other", false, categories({"a", "b"}, 1, 0)},
                                          {"plain", false}};
  model::model_table::options how;
  how.default_model = "m";
  return std::make_shared<const model::model_table>(
      std::vector<std::shared_ptr<const model::loaded_model>>{make_model("m", "1", std::move(features))},
      how);
}

test_batch parsed(const std::string& value) {
  test_batch b;
  b.add(value);
  request_parser parser(make_options());
  parser.parse(*b.batch, table());
  return b;
}

TEST(CellRules, BecomeNumbers) {
  const struct {
    std::string features;
    std::vector<double> values;
  } rows[] = {
      {R"([0, 0, "red", "x", "a", 7])", {0, 0, 0, 0, 0, 7}},
      {R"([120, 1, "green", "y", "b", 7])", {120, 1, 1, -1, 1, 7}},
      {R"([null, 1.5, "green", null, null, -7.5])", {40, 1, 1, 0, 0, -7.5}},
      {R"([5, -1e308, "\u0072ed", "", "c", 1])", {5, 0, 0, -1, 1, 1}},
      {R"({"colour": "red", "plain": 1, "clipped": 0.25})", {40, 0.25, 0, 0, 0, 1}},
      {R"({"plain": 1, "colour": "green", "age": null, "other": "z", "ignored": "q", "clipped": 7})",
       {40, 1, 1, -1, 1, 1}},
      {R"({"colour": "pink?", "colour": "red", "plain": 1, "clipped": 0})", {}},
      {R"([[1, 0, "red", "x", "a", 7], {"colour": "green", "plain": 2, "clipped": 1}])",
       {1, 0, 0, 0, 0, 7, 40, 1, 1, 0, 0, 2}},
  };
  for (const auto& r : rows) {
    const std::string text = R"({"features":)" + r.features + "}";
    const auto b = parsed(text);
    EXPECT_EQ(b[0].error == error_code::none, !r.values.empty()) << text << b[0].error_message;
    EXPECT_EQ(b.values(0), r.values) << text;
  }
}

TEST(CellRules, AMissingValueMayStayOne) {
  const std::string text = R"({"features":[1, null, "red", "x", "a", 7]})";
  const auto b = parsed(text);
  EXPECT_EQ(b[0].error, error_code::none);
  EXPECT_TRUE(std::isnan(b.values(0)[1]));
}

TEST(CellRules, ErrorsNameTheFeature) {
  const struct {
    std::string features;
    std::string message;
  } rows[] = {
      {R"([120.5, 0, "red", "x", "a", 7])", "feature 'age' is 120.5, and must be from 0 to 120"},
      {R"([-1, 0, "red", "x", "a", 7])", "feature 'age' is -1, and must be from 0 to 120"},
      {R"({"age": 121, "colour": "red"})", "feature 'age' is 121, and must be from 0 to 120"},
      {R"(["40", 0, "red", "x", "a", 7])", "feature 'age' must be a finite number, found a string"},
      {R"([1, 0, "reed", "x", "a", 7])",
       "feature 'colour' must be one of red, green, found another string; did you mean 'red'?"},
      {R"([1, 0, "quite another", "x", "a", 7])",
       "feature 'colour' must be one of red, green, found another string"},
      {R"([1, 0, 1, "x", "a", 7])", "feature 'colour' must be one of red, green, found a number"},
      {R"([1, 0, NaN, "x", "a", 7])", "feature 'colour' must be one of red, green, found NaN or Infinity"},
      {R"([1, 0, "red", 3, "a", 7])", "feature 'ignored' must be one of x, found a number"},
      {R"([1, 0, null, "x", "a", 7])",
       "feature 'colour' is null and model m version 1 does not say what to put in its place"},
      {R"({"plain": 1, "clipped": 1})",
       "feature 'colour' is missing and model m version 1 does not say what to put in its place"},
      {R"([1, 0, "red", "x", "a", null])",
       "feature 'plain' is null and model m version 1 does not say what to put in its place"},
      {R"([1, 0, "red", "x", "a", "7"])", "feature 'plain' must be a finite number, found a string"},
      {R"([[1, 0, "red", "x", "a", 7], [1, 0, "blue", "x", "a", 7]])",
       "features[1]: feature 'colour' must be one of red, green, found another string"},
      {R"([1, 0, "red", "x", "a"])",
       "model m version 1 takes 6 features (age, clipped, colour, ignored, other, plain), got 5"},
  };
  for (const auto& r : rows) {
    const std::string text = R"({"features":)" + r.features + "}";
    const auto b = parsed(text);
    EXPECT_EQ(to_string(b[0].error), to_string(error_code::invalid_features)) << text;
    EXPECT_EQ(b[0].error_message, r.message) << text;
  }
}

}  // namespace
}  // namespace troupe::codec

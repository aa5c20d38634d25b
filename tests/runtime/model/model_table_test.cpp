// Looking a record's model and version up.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "runtime/model/model.hpp"

namespace troupe::model {
namespace {

std::shared_ptr<const loaded_model> make(const std::string& name, const std::string& version) {
  class nothing final : public engine {
    void score(std::span<const double* const>, double*) const override {}
    std::string_view kind() const override { return "nothing"; }
  };
  return std::make_shared<const loaded_model>(
      loaded_model::parts{name, version, {}, {}, std::make_unique<const nothing>(), 0x0123456789abcdefU, {}});
}

/// "name/version", with a + where it fell back; "none".
std::string found(const model_table& t, std::string_view name, std::string_view version) {
  const auto [m, fell_back, split] = t.find(name, version);
  return m ? m->name() + "/" + m->version() + (fell_back ? "+" : "") : "none";
}

TEST(model_table, find) {
  const std::vector<std::shared_ptr<const loaded_model>> models = {
      make("b", "2"), make("a", "10"), make("b", "v1"), make("a", "9"), make("a", "1")};
  const model_table open(models, {.default_model = "b", .production = {{"a", "v9"}}, .fallback = true});
  const model_table strict(models, {.default_model = "b", .production = {{"a", "9"}}, .fallback = false});
  struct row {
    const char *name, *version, *wanted, *wanted_strict;
  };
  for (const row& r : std::vector<row>{{"", "", "b/2", "b/2"},   // the default, its highest version
                                       {"a", "", "a/9", "a/9"},  // the production version that was named
                                       {"a", "9", "a/9", "a/9"},
                                       {"a", "v9", "a/9", "a/9"},
                                       {"a", "10", "a/10", "a/10"},
                                       {"a", "v1", "a/1", "a/1"},
                                       {"b", "1", "b/1", "b/1"},  // loaded as v1
                                       {"", "1", "b/1", "b/1"},
                                       {"a", "2", "a/9+", "none"},
                                       {"a", "v", "a/9+", "none"},
                                       {"a", "latest", "a/9+", "none"},
                                       {"a", "09", "a/9+", "none"},
                                       {"", "7", "b/2+", "none"},
                                       {"c", "", "none", "none"},
                                       {"c", "1", "none", "none"},
                                       {"A", "9", "none", "none"}}) {
    EXPECT_EQ(found(open, r.name, r.version), r.wanted) << r.name << " " << r.version;
    EXPECT_EQ(found(strict, r.name, r.version), r.wanted_strict) << r.name << " " << r.version;
  }
  std::vector<std::string> all;
  for (const auto& m : open.all()) all.push_back(m->name() + m->version());
  EXPECT_EQ(all, (std::vector<std::string>{"a1", "a9", "a10", "b1", "b2"}));
  EXPECT_EQ(open.default_model()->version(), "2");
}

TEST(model_table, without_a_default) {
  const model_table one({make("a", "1"), make("a", "2")}, {});
  EXPECT_EQ(found(one, "", ""), "a/2");
  const model_table two({make("a", "1"), make("b", "2")}, {});
  EXPECT_EQ(found(two, "", ""), "none");
  EXPECT_EQ(two.default_model(), nullptr);
  EXPECT_EQ(found(model_table(), "", ""), "none");
}

TEST(model_table, the_default_of_a_table_in_service_stays) {
  const auto with = [](std::string name, std::vector<std::shared_ptr<const loaded_model>> models) {
    model_table::options how;
    how.default_model = std::move(name);
    how.default_stays = true;
    return model_table(std::move(models), how);
  };
  const model_table away = with("b", {make("a", "1")});
  EXPECT_EQ(found(away, "", ""), "none");
  EXPECT_EQ(found(away, "", "1"), "none");
  EXPECT_EQ(found(away, "a", ""), "a/1");
  EXPECT_EQ(away.default_model(), nullptr);
  EXPECT_EQ(away.default_name(), "b");
  const model_table nothing = with("", {make("a", "1")});
  EXPECT_EQ(found(nothing, "", ""), "none");
  EXPECT_EQ(nothing.default_name(), "");
  const model_table there = with("b", {make("a", "1"), make("b", "1")});
  EXPECT_EQ(found(there, "", ""), "b/1");
  EXPECT_EQ(there.default_name(), "b");
  EXPECT_EQ(model_table({make("a", "1")}, {}).default_name(), "a");
}

TEST(model_table, refuses_what_does_not_fit) {
  const auto refusal = [](std::vector<std::shared_ptr<const loaded_model>> models,
                          const model_table::options& how) {
    try {
      const model_table t(std::move(models), how);
    } catch (const load_error& e) {
      return std::string(e.what());
    }
    return std::string("was taken");
  };
  EXPECT_EQ(refusal({make("a", "1"), make("a", "v1")}, {}), "model a: version 1 is there twice; keep one");
  EXPECT_EQ(refusal({make("a", "1"), make("b", "1")}, {.default_model = "c", .production = {}}),
            "the default model c is not there; models.default can be one of a, b");
  EXPECT_EQ(refusal({make("a", "1"), make("a", "2")}, {.default_model = "", .production = {{"a", "3"}}}),
            "model a: the production version 3 is not there; name one of 1, 2");
}

TEST(model_table, outlives_nothing_it_points_to) {
  auto table = std::make_unique<model_table>(std::vector{make("a-name-long-enough-to-be-on-the-heap", "1")},
                                             model_table::options{});
  const model_table copy = *table;
  table.reset();
  EXPECT_EQ(found(copy, "a-name-long-enough-to-be-on-the-heap", "1"),
            "a-name-long-enough-to-be-on-the-heap/1");
}

TEST(loaded_model, digest_as_text) {
  EXPECT_EQ(make("a", "1")->digest_hex(), "0123456789abcdef");
}

TEST(schema, index_of) {
  std::vector<feature> features;
  for (int i = 0; i < 1000; ++i) features.push_back({"feature " + std::to_string(i), i % 2 == 0});
  const schema s(features, true);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(s.index_of("feature " + std::to_string(i)), i);
  EXPECT_EQ(s.index_of("feature 1000"), -1);
  EXPECT_EQ(s.index_of(""), -1);
  EXPECT_EQ(schema().index_of("a"), -1);
  EXPECT_TRUE(s.missing_allowed(4));
  EXPECT_FALSE(s.missing_allowed(5));
}

}  // namespace
}  // namespace troupe::model

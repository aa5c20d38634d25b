#include "runtime/policy/registry_watch.hpp"

#include <gtest/gtest.h>

namespace {

using namespace troupe::policy;
using kind = model_reference::kind;

TEST(ModelReference, Forms) {
  struct row {
    const char* text;
    kind by;
    const char* value;
  };
  for (const row& r : {row{"models:/m/3", kind::number, "3"}, row{"models:/m/latest", kind::latest, ""},
                       row{"models:/m/Production", kind::stage, "Production"},
                       row{"models:/m@champion", kind::alias, "champion"}}) {
    const auto got = parse_model_reference(r.text);
    ASSERT_TRUE(got) << r.text;
    EXPECT_EQ(got->name, "m");
    EXPECT_EQ(got->by, r.by);
    EXPECT_EQ(got->value, r.value);
    EXPECT_EQ(got->text(), r.text);
  }
}

TEST(ModelReference, Refused) {
  for (const char* text :
       {"", "m/3", "models:/", "models:/m", "models:/m/", "models:/m@", "models:/../3", "models:/m/..",
        "models:/m/3/4", "models:/m/03", "models:/m/9999999999999999999", "models:/m\n/3"})
    EXPECT_FALSE(parse_model_reference(text)) << text;
}

TEST(RegistryWatch, ReportsWhatChangedUntilItIsAccepted) {
  registry_watch w({}, 1);
  w.accept({"a", "", "1"});
  EXPECT_TRUE(w.changes({{"a", "1"}}).empty());
  const std::vector<version_change> expected = {{"a", "1", "2"}, {"b", "", "7"}};
  EXPECT_EQ(w.changes({{"a", "2"}, {"b", "7"}}), expected);
  EXPECT_EQ(w.changes({{"a", "2"}, {"b", "7"}}), expected);
  w.accept(expected[0]);
  EXPECT_EQ(w.changes({{"a", "2"}, {"b", "7"}}).size(), 1U);
  EXPECT_TRUE(w.changes({}).empty()) << "silence changes nothing";
  EXPECT_EQ(w.changes({{"a", "1"}}), (std::vector<version_change>{{"a", "2", "1"}}))
      << "a roll back is a change";
}

TEST(RegistryWatch, WaitsWithinTheJitterAndBacksOff) {
  watch_config c;
  c.interval = 30 * second;
  c.jitter = 0.1;
  c.backoff_min = second;
  c.backoff_max = 20 * second;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    registry_watch w(c, seed);
    const auto waits = [&](bool reached, double seconds) {
      w.polled(reached, 1000 * second, 1000 * second);
      const double wait = static_cast<double>(w.next() - 1000 * second) / static_cast<double>(second);
      EXPECT_GE(wait, seconds * 0.9 - 1e-6);
      EXPECT_LE(wait, seconds * 1.1 + 1e-6);
    };
    waits(true, 30);
    for (const double s : {1, 2, 4, 8, 16, 20, 20}) waits(false, s);
    waits(true, 30);
    waits(false, 1);
  }
}

TEST(RegistryWatch, AsksASlowRegistryAsOftenAndLeavesItAPause) {
  watch_config c;
  c.interval = 20 * second;
  c.jitter = 0;
  c.backoff_min = second;
  registry_watch w(c, 1);
  const auto next = [&](bool reached, double took) {
    const nanos began = 1000 * second;
    w.polled(reached, began, began + static_cast<nanos>(took * static_cast<double>(second)));
    return static_cast<double>(w.next() - began) / static_cast<double>(second);
  };
  EXPECT_EQ(next(true, 0), 20);
  EXPECT_EQ(next(true, 12), 20);
  EXPECT_EQ(next(true, 15), 20);
  EXPECT_EQ(next(true, 18), 23);
  EXPECT_EQ(next(true, 60), 65);
  EXPECT_EQ(next(false, 9), 10) << "after a failure the pause counts from its end";
}

}  // namespace

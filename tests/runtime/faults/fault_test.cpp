#include "runtime/faults/fault.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace troupe::faults {
namespace {

using testing::HasSubstr;

constexpr nanos second = 1'000'000'000;

std::string why(const std::string& json, limits bounds = {}) {
  try {
    (void)parse_fault(json, bounds);
  } catch (const bad_fault& e) {
    return e.what();
  }
  return "accepted";
}

TEST(faults, every_kind_has_a_name_of_its_own_and_is_read_by_it) {
  std::set<std::string_view> names;
  for (const auto& k : kinds()) {
    EXPECT_EQ(&info(k.what), &k);
    EXPECT_TRUE(names.insert(k.name).second) << k.name;
    EXPECT_FALSE(k.does.empty());
    std::string json = R"({"fault": ")" + std::string(k.name) + R"(", "duration": "2s")";
    for (std::size_t i = 0; i < k.field_count; ++i) {
      static const char* const values[] = {R"("random")", R"("churn")", "3",        "0.5",
                                           R"("20ms")",   R"("1s")",    R"("-5m")", R"("16MiB")"};
      json += R"(, ")" + std::string(name_of(k.fields[i])) + R"(": )" + values[static_cast<int>(k.fields[i])];
    }
    const fault f = parse_fault(json + "}", {});
    EXPECT_EQ(f.what, k.what);
    EXPECT_EQ(f.duration, 2 * second);
  }
  EXPECT_EQ(names.size(), 19U);
}

TEST(faults, fields_are_read) {
  const fault f = parse_fault(
      R"({"fault": "shard_delay", "model": "churn", "version": "v3", "probability": 0.25, "delay": "50ms"})",
      {});
  EXPECT_EQ(f.model, "churn");
  EXPECT_EQ(f.version, "3");
  EXPECT_EQ(f.probability, 0.25);
  EXPECT_EQ(f.delay, 50'000'000);
  EXPECT_EQ(f.duration, 30 * second);
  EXPECT_EQ(parse_fault(R"({"fault": "clock_jump", "shift": "-1h"})", {}).shift, -3600 * second);
  EXPECT_EQ(parse_fault(R"({"fault": "rebalance_storm"})", {}).every, second);
  limits brief;
  brief.max_duration = 5 * second;
  EXPECT_EQ(parse_fault(R"({"fault": "redis_cut"})", brief).duration, 5 * second);
}

TEST(faults, bounds_read_alike_from_either_side) {
  const auto duration = [](const char* text, limits bounds = {}) {
    return why(R"({"fault": "redis_cut", "duration": ")" + std::string(text) + R"("})", bounds);
  };
  for (const char* text : {"0s", "9ms", "11m"})
    EXPECT_EQ(duration(text),
              "duration: expected a duration from 10ms to 10m (this node's faults.max_duration), not \"" +
                  std::string(text) + "\"");
  for (const char* text : {"x", "-1s"})
    EXPECT_EQ(duration(text),
              "duration: expected a duration from 10ms to 10m (this node's faults.max_duration), written "
              "like 200ms or 30s, not \"" +
                  std::string(text) + "\"");
  for (const char* text : {"0s", "25h"})
    EXPECT_EQ(duration(text, widest),
              "duration: expected a duration from 10ms to 1d (the most that a node can set as its "
              "faults.max_duration), not \"" +
                  std::string(text) + "\"")
        << "where the node's own bound is not known";
  EXPECT_EQ(duration("10ms"), "accepted");
  EXPECT_EQ(duration("10m"), "accepted");
  for (const auto& [text, says] : {std::pair{"0", ", and not 0"},
                                   {"20000h", ", not \"20000h\""},
                                   {"x", ", written like 1h or -5m, not \"x\""}})
    EXPECT_EQ(why(R"({"fault": "clock_jump", "shift": ")" + std::string(text) + R"("})"),
              "shift: expected a duration from -366d to 366d" + std::string(says));
  for (const char* text : {"99ms", "11m"})
    EXPECT_EQ(why(R"({"fault": "rebalance_storm", "every": ")" + std::string(text) + R"("})"),
              "every: expected a duration from 100ms to 10m (this node's faults.max_duration), not \"" +
                  std::string(text) + "\"");
}

TEST(faults, all_that_is_wrong_is_named_and_nothing_twice) {
  EXPECT_EQ(why(R"({"fault": "shard_delay", "delay": "fast", "duration": "0s", "modle": "m", "version": 3})"),
            "delay: expected a duration from 1ms to 1m, written like 200ms or 30s, not \"fast\"; "
            "duration: expected a duration from 10ms to 10m (this node's faults.max_duration), not \"0s\"; "
            "modle: no field of shard_delay; did you mean model? allowed: fault, duration, model, version, "
            "probability, delay; version: needs a model beside it");
  EXPECT_EQ(why(R"({"fault": "shard_delay", "model": ["m"], "version": 3})"), "model: expected a text");
  EXPECT_EQ(why(R"({"fault": "clock_jump", "shift": "soon"})"),
            "shift: expected a duration from -366d to 366d, written like 1h or -5m, not \"soon\"");
  EXPECT_THAT(why(R"({"fault": "redis_cutt", "duration": "0s", "delay": "1s"})"),
              testing::AllOf(testing::StartsWith("fault: unknown: redis_cutt; did you mean redis_cut?"),
                             HasSubstr("; duration: expected"), testing::Not(HasSubstr("delay:"))));
}

TEST(faults, what_is_wrong_is_named) {
  const struct {
    const char* json;
    const char* says;
  } table[] = {
      {"", "expected {\"fault\""},
      {"[]", "expected {\"fault\""},
      {"{}", "expected {\"fault\""},
      {R"({"fault": 3})", "fault: unknown: 3"},
      {R"({"fault": "redis_cutt"})", "did you mean redis_cut?"},
      {R"({"fault": "redis_cut", "model": "m"})", "model: no field of redis_cut"},
      {R"({"fault": "shard_fail", "probabilty": 1})", "did you mean probability?"},
      {R"({"fault": "shard_fail", "delay": "1s"})", "delay: no field of shard_fail"},
      {R"({"fault": "shard_fail", "probability": 0})", "probability: expected a number above 0"},
      {R"({"fault": "shard_fail", "probability": 1.5})", "at most 1"},
      {R"({"fault": "shard_fail", "probability": "1"})", "probability: expected a number"},
      {R"({"fault": "shard_fail", "version": "3"})", "version: needs a model"},
      {R"({"fault": "shard_delay", "delay": "2 parsecs"})", "delay: expected a duration"},
      {R"({"fault": "shard_delay", "delay": "1h"})",
       R"(delay: expected a duration from 1ms to 1m, not "1h")"},
      {R"({"fault": "shard_delay", "duration": 30})", "duration: expected a duration"},
      {R"({"fault": "shard_delay", "model": ["a"]})", "model: expected a text"},
      {R"({"fault": "actor_crash"})", "actor: missing"},
      {R"({"fault": "clock_jump"})", "shift: missing"},
      {R"({"fault": "clock_jump", "shift": "0"})", "shift: expected"},
      {R"({"fault": "memory_pressure"})", "size: missing"},
      {R"({"fault": "memory_pressure", "size": "2GiB"})",
       "size: expected a size from 1 to 1GiB (this node's faults.max_memory), not \"2GiB\""},
      {R"({"fault": "memory_pressure", "size": -1})", "size: expected a size"},
      {R"({"fault": "rebalance_storm", "every": "1ns"})", "every: expected a duration"},
  };
  for (const auto& row : table) EXPECT_THAT(why(row.json), HasSubstr(row.says)) << row.json;
}

}  // namespace
}  // namespace troupe::faults

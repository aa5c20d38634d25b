// What a reload changes, and what it can't change without a restart.
#include "runtime/config/reload.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "runtime/config/options.hpp"

namespace troupe::config {
namespace {

settings from(const std::string& yaml) {
  const auto file =
      std::filesystem::temp_directory_path() /
      ("troupe-reload-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
  std::ofstream(file) << yaml;
  sources s;
  s.file = file;
  s.environment.emplace();
  const auto loaded = load(s);
  std::filesystem::remove(file);
  return loaded.values;
}

TEST(reload, the_same_file_changes_nothing) {
  EXPECT_TRUE(changes(settings(), settings()).empty());
  const std::string text = "rollout: [{model: m, version: 2}]\nkafka: {properties: {linger.ms: 5}}\n";
  EXPECT_TRUE(changes(from(text), from(text)).empty());
}

TEST(reload, says_what_changed_and_what_needs_a_restart) {
  const auto found = changes(settings(), from("kafka: {brokers: \"b:1\", properties: {linger.ms: 5}}\n"
                                              "log: {level: debug}\nredis: {password: x}\n"
                                              "classes: [{name: bulk, target: 5s}]\n"
                                              "rollout: [{model: m, version: 2}]\n"));
  std::string text;
  for (const auto& c : found) text += c.key + (c.live ? "+" : "-") + c.before + ">" + c.now + " ";
  EXPECT_EQ(text,
            "kafka.brokers-127.0.0.1:9092>b:1 kafka.properties-> rollout+> redis.password-***>*** classes-> "
            "log.level+info>debug ");
}

TEST(reload, only_live_options_take_effect) {
  const settings s =
      with_live(settings(), from("kafka: {brokers: \"b:1\"}\nlog: {level: debug}\nmodels: {watch: false, "
                                 "max_rows: 5}\nrollout: [{model: m, version: 2, percent: 7}]\n"));
  EXPECT_EQ(s.kafka.brokers, "127.0.0.1:9092");
  EXPECT_EQ(s.log.level, log_level::debug);
  EXPECT_FALSE(s.models.watch);
  EXPECT_EQ(s.models.max_rows, 5U);
  ASSERT_EQ(s.rollout.size(), 1U);
  EXPECT_EQ(s.rollout[0].percent, 7);
}

TEST(rollout_section, is_read) {
  const settings s = from(
      "rollout:\n  - {model: churn, version: 4, strategy: ab, percent: 12.5, max_psi: 0.1, window: 30s, "
      "steps: [1, 50]}\n");
  ASSERT_EQ(s.rollout.size(), 1U);
  const auto& r = s.rollout[0];
  EXPECT_EQ(r.model, "churn");
  EXPECT_EQ(r.version, "4");
  EXPECT_EQ(r.strategy, policy::rollout_strategy::ab);
  EXPECT_EQ(r.percent, 12.5);
  EXPECT_EQ(r.max_psi, 0.1);
  EXPECT_EQ(r.window, 30 * policy::second);
  EXPECT_EQ(r.steps, "1,50");
}

TEST(rollout_section, refuses_with_the_key) {
  const std::pair<const char*, const char*> rows[] = {
      {"rollout: {model: m}", "expected a list"},
      {"rollout: [{version: 1}]", "rollout.model: name the model"},
      {"rollout: [{model: m}]", "rollout.version: name the new version"},
      {"rollout: [{model: m, version: 1, percnt: 5}]", "did you mean 'rollout.percent'"},
      {"rollout: [{model: m, version: 1, percent: 101}]", "rollout.percent"},
      {"rollout: [{model: m, version: 1, strategy: rolling}]", "canary, header, ab, shadow or blue_green"},
      {"rollout: [{model: m, version: 1, strategy: header}]", "needs the name of a header"},
      {"rollout: [{model: m, version: 1, steps: \"50,10\"}]", "ascending"},
      {"rollout: [{model: m, version: 1}, {model: m, version: 2}]", "two rollouts of model 'm'"},
  };
  for (const auto& [yaml, expected] : rows) {
    try {
      (void)from(yaml);
      ADD_FAILURE() << yaml;
    } catch (const config_error& e) {
      EXPECT_NE(std::string(e.what()).find(expected), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace troupe::config

#include "cli/replay_letters.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

std::vector<owned_header> headers() {
  return {{"traceparent", "t"},
          {"none", std::nullopt},
          {"troupe.replays", "1"},
          {"__connect.errors.topic", "requests"},
          {"__connect.errors.partition", "3"},
          {"__connect.errors.offset", "1200"},
          {"__connect.errors.stage", "TASK_PUT"},
          {"__connect.errors.exception.class.name", "model_failed"},
          {"__connect.errors.exception.message", "the engine ended"}};
}

TEST(Letters, SayWhatHappenedAndWhatTheRequestHad) {
  const auto l = read_letter(headers(), 1000);
  EXPECT_EQ(l.code, "model_failed");
  EXPECT_EQ(l.reason, "the engine ended");
  EXPECT_EQ(l.source_topic, "requests");
  EXPECT_EQ(l.source_partition, 3);
  EXPECT_EQ(l.source_offset, 1200);
  EXPECT_EQ(l.replays, 1);
  EXPECT_EQ(l.dropped_value, -1);
  EXPECT_THAT(replay_headers(l),
              ElementsAre(Pair("traceparent", std::optional<std::string>("t")), Pair("none", std::nullopt),
                          Pair("troupe.replays", std::optional<std::string>("2"))));
  const auto foreign =
      read_letter({{"troupe.replays", "many"}, {"__connect.errors.offset", std::nullopt}}, -1);
  EXPECT_EQ(foreign.replays, 0);
  EXPECT_EQ(foreign.source_offset, -1);
  EXPECT_EQ(read_letter({{"troupe.dropped.value.length", "77"}}, 1).dropped_value, 77);
}

TEST(Letters, AreChosenByEachFilter) {
  const auto l = read_letter(headers(), 1000);
  const auto wants = [&](auto change) {
    replay_filter f;
    change(f);
    return f.wants(l);
  };
  EXPECT_TRUE(wants([](auto&) {}));
  EXPECT_TRUE(wants([](auto& f) { f.codes = {"invalid_json", "model_failed"}; }));
  EXPECT_FALSE(wants([](auto& f) { f.codes = {"invalid_json"}; }));
  EXPECT_TRUE(wants([](auto& f) { f.reason = "engine"; }));
  EXPECT_FALSE(wants([](auto& f) { f.reason = "Engine"; }));
  EXPECT_TRUE(wants([](auto& f) { f.since_ms = 1000; }));
  EXPECT_FALSE(wants([](auto& f) { f.since_ms = 1001; }));
  EXPECT_FALSE(wants([](auto& f) { f.until_ms = 1000; }));
  EXPECT_TRUE(wants([](auto& f) { f.partition = 3; }));
  EXPECT_FALSE(wants([](auto& f) { f.partition = 0; }));
  EXPECT_TRUE(wants([](auto& f) { f.first_offset = f.last_offset = 1200; }));
  EXPECT_FALSE(wants([](auto& f) { f.first_offset = 1201; }));
  EXPECT_FALSE(wants([](auto& f) { f.last_offset = 1199; }));
}

TEST(Letters, HaveKnownCodes) {
  EXPECT_NO_THROW(check_codes({}));
  EXPECT_NO_THROW(check_codes({"model_failed", "invalid_json", "too_large", "unavailable"}));
  for (const auto& [code, says] :
       {std::pair("nonsense",
                  "--code nonsense: no letter has that code; known: invalid_json, invalid_features"),
        std::pair("model_faild", "did you mean model_failed? known: "),
        std::pair("none", "no letter has that code"), std::pair("", "no letter has that code")}) {
    try {
      check_codes({"model_failed", code});
      ADD_FAILURE() << code;
    } catch (const usage_error& e) {
      EXPECT_THAT(e.what(), ::testing::HasSubstr(says));
    }
  }
}

TEST(Letters, ThatAreNotSentAreAccountedFor) {
  replay_look l;
  l.topic = "letters";
  l.group = "g";
  EXPECT_EQ(nothing_to_send(l), "nothing to send: letters has no records");
  l.records = 10;
  EXPECT_EQ(nothing_to_send(l),
            "nothing to send: group g is done with all 10 records of letters; --from-beginning looks at them "
            "again");
  l.looked_at = 7;
  l.first_ms = 1'731'650'000'000;
  l.last_ms = 1'731'650'009'000;
  l.filters = "--code too_large --since 2024-11-15T05:53:20Z";
  l.other = 4;
  l.sent_before = 3;
  EXPECT_EQ(
      nothing_to_send(l),
      "nothing to send: looked at 7 of 10 records of letters, whose requests are of 2024-11-15T05:53:20Z to "
      "2024-11-15T05:53:29Z: 4 not asked for by --code too_large --since 2024-11-15T05:53:20Z, 3 sent before "
      "by "
      "group g (--from-beginning sends them again)");
}

TEST(Times, AreDatesOrAges) {
  constexpr std::int64_t now = 1'731'650'000'000;  // 2024-11-15T05:53:20Z
  const struct {
    const char* text;
    std::int64_t ms;
  } good[] = {{"2024-11-15T05:53:20Z", now},
              {"2024-11-15 05:53:20", now},
              {"2024-11-15T05:53:20.123Z", now + 123},
              {"2024-11-15T05:53:20.1", now + 100},
              {"2024-11-15T05:53Z", now - 20'000},
              {"2024-11-15", now - (5 * 3600 + 53 * 60 + 20) * 1000},
              {"1970-01-01", 0},
              {"1731650000000", now},
              {"90s", now - 90'000},
              {"30m", now - 1'800'000},
              {"2h", now - 7'200'000},
              {"7d", now - 604'800'000}};
  for (const auto& c : good) EXPECT_EQ(time_of(c.text, now), c.ms) << c.text;
  for (const char* bad : {"", "soon", "5", "1731650000", "2h30m", "-2h", "2024-13-01", "2024-02-30",
                          "2024-11-15T", "2024-11-15T24:00", "2024-11-15T05:60", "2024-11-15T05:53:20+01:00",
                          "2024-11-15T05:53:20.Z", "2024-11", "99999999999999999999h", "9999999999h"})
    EXPECT_EQ(time_of(bad, now), std::nullopt) << bad;
}

TEST(Offsets, AreOneOrARange) {
  EXPECT_EQ(offsets_of("5"), std::pair(std::int64_t{5}, std::int64_t{5}));
  EXPECT_EQ(offsets_of("0-9"), std::pair(std::int64_t{0}, std::int64_t{9}));
  for (const char* bad : {"", "-", "5-", "-5", "9-5", "a", "1-2-3"})
    EXPECT_THROW((void)offsets_of(bad), usage_error) << bad;
}

}  // namespace
}  // namespace troupe::cli

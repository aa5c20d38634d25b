#include "runtime/guard/key_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace troupe::guard;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string one(64, 'a'), two(64, 'B');

TEST(sha256, is_what_the_standard_says) {
  EXPECT_EQ(shown(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(shown(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(*parse_digest(shown(sha256("abc"))), sha256("abc"));
  EXPECT_TRUE(same(sha256("abc"), sha256("abc")));
  EXPECT_FALSE(same(sha256("abc"), sha256("abd")));
  EXPECT_FALSE(parse_digest(std::string(63, 'a')));
  EXPECT_FALSE(parse_digest(std::string(64, 'g')));
  EXPECT_NE(random_text(32), random_text(32));
  EXPECT_EQ(random_text(32).size(), 43U);
}

TEST(key_file, says_who_may_what) {
  const auto all = parse_key_file("# clients\n- name: billing\n  sha256: " + one +
                                      "\n  models: [churn, fraud]\n  classes: [bulk]\n  per_minute: 600\n"
                                      "  burst: 20\n  per_month: 1e6\n  admin: true\n"
                                      "- {name: billing, sha256: " +
                                      two + "}\n- name: portal\n",
                                  "keys.yaml");
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].name, "billing");
  EXPECT_EQ(all[0].keys.size(), 2U);
  EXPECT_THAT(all[0].models, ElementsAre("churn", "fraud"));
  EXPECT_THAT(all[0].classes, ElementsAre("bulk"));
  EXPECT_EQ(all[0].per_minute, 600);
  EXPECT_EQ(all[0].burst, 20);
  EXPECT_EQ(all[0].per_month, 1'000'000U);
  EXPECT_TRUE(all[0].admin);
  EXPECT_TRUE(all[1].keys.empty());
  EXPECT_FALSE(all[1].per_minute);
}

TEST(key_file, is_yaml_json_or_json_lines) {
  const std::string entry = R"({"name": "a", "sha256": ")" + one + "\"}";
  for (const auto& text : {"[" + entry + "]", entry + "\n\n{\"name\": \"b\"}\n"})
    EXPECT_EQ(parse_key_file(text, "f")[0].keys.size(), 1U) << text;
  EXPECT_TRUE(parse_key_file("", "f").empty());
  EXPECT_TRUE(parse_key_file("# nobody yet\n", "f").empty());
}

TEST(key_file, refuses_with_one_clear_line) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"name: a", "expected a list"},
      {"- a", "expected an entry"},
      {"- {sha256: " + one + "}", "name: expected"},
      {"- {name: 'a b'}", "name: expected"},
      {"- {name: a, sha256: abc}", "64 hexadecimal digits"},
      {"- {name: a, key: abc}", "only their sha256"},
      {"- {name: a, model: [x]}", "unknown field"},
      {"- {name: a, models: x}", "models: expected a list"},
      {"- {name: a, models: []}", "models: expected a list"},
      {"- {name: a, per_minute: -1}", "per_minute: expected a number"},
      {"- {name: a, per_minute: nan}", "per_minute: expected a number"},
      {"- {name: a, burst: 5}", "needs per_minute"},
      {"- {name: a, per_minute: 5, burst: 0}", "burst: expected"},
      {"- {name: a, admin: maybe}", "true or false"},
      {"- {name: a, name: b}", "twice"},
      {"- name: a\n- name: a", "two entries of 'a'"},
      {"- {name: a, sha256: " + one + "}\n- {name: b, sha256: " + one + "}", "the same key"},
      {"- name: a\n- {name: a, sha256: " + one + ", admin: true}", "the first entry says the rest"},
      {"- [", "keys.yaml:"},
      {"{\"name\": \"a\"}\n{\"name\": }x", "keys.yaml:2:"},
  };
  for (const auto& [text, what] : wrong) {
    try {
      (void)parse_key_file(text, "keys.yaml");
      ADD_FAILURE() << text;
    } catch (const key_file_error& e) {
      EXPECT_THAT(e.what(), HasSubstr(what)) << text;
      EXPECT_THAT(e.what(), HasSubstr("keys.yaml"));
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    }
  }
  EXPECT_THROW((void)read_key_file("/no/such/file"), key_file_error);
  EXPECT_THROW((void)read_key_file("/"), key_file_error);
}

TEST(key_file, never_shows_a_key_that_was_put_into_it) {
  try {
    (void)parse_key_file("- {name: a, key: hunter2}", "f");
    FAIL();
  } catch (const key_file_error& e) {
    EXPECT_EQ(std::string(e.what()).find("hunter2"), std::string::npos);
  }
}

TEST(key_file, any_bytes_are_read_or_refused) {
  const std::string good = "- {name: a, sha256: " + one + ", models: [x], per_minute: 3}\n- name: b\n";
  std::mt19937 random(5);
  for (int i = 0; i < 5'000; ++i) {
    std::string text = good;
    for (unsigned n = 1 + random() % 4; n > 0; --n) {
      const auto at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 8);
          break;
        default:
          text.insert(at, 1, "[]{},:-&*!|>'\"%@\n"[random() % 17]);
      }
      if (text.empty()) text = "-";
    }
    try {
      (void)parse_key_file(text, "f");
    } catch (const key_file_error&) {
    }
  }
}

}  // namespace

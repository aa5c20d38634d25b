#include "runtime/policy/nearest.hpp"

#include <gtest/gtest.h>

namespace troupe::policy {
namespace {

TEST(nearest, suggests_what_was_meant) {
  const std::vector<std::string> known = {"serve", "demo", "load", "results", "check", "config", "version"};
  const struct {
    const char* word;
    const char* meant;
  } table[] = {{"sevre", "serve"},     {"server", "serve"}, {"lod", "load"},  {"confg", "config"},
               {"result", "results"},  {"chekc", "check"},  {"demo", "demo"}, {"banana", ""},
               {"versoin", "version"}, {"verify", ""},      {"seve", "serve"}};
  for (const auto& [word, meant] : table) EXPECT_EQ(nearest(word, known, 2), meant) << word;
}

TEST(nearest, prefers_the_nearer_and_then_the_first) {
  EXPECT_EQ(nearest("abcd", {"abxy", "abcx", "abcy"}, 2), "abcx");
  EXPECT_EQ(nearest("abcd", {}, 2), "");
}

}  // namespace
}  // namespace troupe::policy

#include "cli/nearest.hpp"

#include <gtest/gtest.h>

namespace troupe::cli {
namespace {

TEST(nearest, suggests_what_was_meant) {
  const std::vector<std::string> known = {"serve", "demo", "load", "results", "check", "config", "version"};
  const struct {
    const char* word;
    const char* meant;
  } table[] = {{"sevre", "serve"},  {"server", "serve"},    {"lod", "load"},
               {"confg", "config"}, {"result", "results"},  {"chekc", "check"},
               {"demo", "demo"},    {"banana", ""},         {"", ""},
               {"x", ""},           {"versoin", "version"}, {"verify", ""},
               {"sv", ""}};
  for (const auto& [word, meant] : table) EXPECT_EQ(nearest(word, known), meant) << word;
}

TEST(nearest, prefers_the_nearer_and_then_the_first) {
  EXPECT_EQ(nearest("abcd", {"abxy", "abcx", "abcy"}), "abcx");
  EXPECT_EQ(nearest("abcd", {}), "");
}

}  // namespace
}  // namespace troupe::cli

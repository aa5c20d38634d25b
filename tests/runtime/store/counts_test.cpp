// Counts in a real Redis.
#include "runtime/store/redis_counts.hpp"

#include <gtest/gtest.h>

#include <ctime>
#include <string>
#include <vector>

#include "tests/runtime/store/servers.hpp"

namespace troupe::store {
namespace {

class counts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!installed("redis-server")) GTEST_SKIP() << "redis-server is not installed";
  }
};

TEST_F(counts, of_two_nodes_add_up_and_expire) {
  redis_server server;
  redis_counts a(client::options(server.port())), b(client::options(server.port()));
  const std::int64_t end = std::time(nullptr) + 1'000;
  std::vector<std::uint64_t> totals;
  EXPECT_EQ(a.add({{"q:x", 5, end}, {"q:y", 1, end}}, totals), "");
  EXPECT_EQ(totals, (std::vector<std::uint64_t>{5, 1}));
  EXPECT_EQ(b.add({{"q:x", 3, end}}, totals), "");
  EXPECT_EQ(totals, (std::vector<std::uint64_t>{8}));
  EXPECT_GT(std::stol(server.command({"TTL", "q:x"})), 900);
  std::vector<count_to_add> many;
  for (int i = 0; i < 1'234; ++i) many.push_back({"m:" + std::to_string(i), 1, end});
  EXPECT_EQ(a.add(many, totals), "");
  EXPECT_EQ(totals, std::vector<std::uint64_t>(1'234, 1));
}

TEST_F(counts, say_why_there_are_none_and_come_back) {
  redis_server server;
  redis_counts a(client::options(server.port()));
  std::vector<std::uint64_t> totals;
  const std::int64_t end = std::time(nullptr) + 1'000;
  EXPECT_EQ(a.add({{"q", 1, end}}, totals), "");
  server.kill();
  EXPECT_NE(a.add({{"q", 1, end}}, totals), "");
  EXPECT_TRUE(totals.empty());
  EXPECT_NE(a.add({{"q", 1, end}}, totals), "");
  server.start();
  EXPECT_EQ(a.add({{"q", 1, end}}, totals), "");
  server.command({"SET", "q", "no number"});
  EXPECT_NE(a.add({{"q", 1, end}}, totals).find("not an integer"), std::string::npos);
}

TEST_F(counts, need_the_right_password) {
  redis_server server({"--requirepass", "right"});
  std::vector<std::uint64_t> totals;
  auto o = client::options(server.port());
  EXPECT_NE(redis_counts(o).add({{"q", 1, 2'000'000'000}}, totals).find("NOAUTH"), std::string::npos);
  o.password = "wrong";
  EXPECT_NE(redis_counts(o).add({{"q", 1, 2'000'000'000}}, totals), "");
  o.password = "right";
  o.db = 3;
  EXPECT_EQ(redis_counts(o).add({{"q", 1, 2'000'000'000}}, totals), "");
  o.user = "default";
  EXPECT_EQ(redis_counts(o).add({{"q", 1, 2'000'000'000}}, totals), "");
  EXPECT_EQ(totals, std::vector<std::uint64_t>{2});
}

}  // namespace
}  // namespace troupe::store

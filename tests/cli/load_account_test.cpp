#include "cli/load_account.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace troupe::cli {
namespace {

TEST(answer_ledger, counts_each_answer_beyond_the_first) {
  answer_ledger ledger(5);
  EXPECT_TRUE(ledger.first(0));
  EXPECT_TRUE(ledger.first(3));
  EXPECT_FALSE(ledger.first(3));
  EXPECT_FALSE(ledger.first(3));
  EXPECT_EQ(ledger.answered(), 2);
  EXPECT_EQ(ledger.duplicated(), 2);
  EXPECT_EQ(ledger.lost(5), 3);
  EXPECT_EQ(ledger.lost(4), 2);
  EXPECT_EQ(ledger.lost(1), 0);
  EXPECT_EQ(ledger.lost(0), 0);
}

TEST(answer_ledger, does_not_forget_how_often) {
  answer_ledger ledger(1);
  int repeats = 0;
  for (int i = 0; i < 1000; ++i) repeats += !ledger.first(0);
  EXPECT_EQ(repeats, 999);
  EXPECT_EQ(ledger.duplicated(), 999);
}

TEST(answer_ledger, knows_its_numbers) {
  const answer_ledger ledger(3);
  EXPECT_TRUE(ledger.knows(0));
  EXPECT_TRUE(ledger.knows(2));
  EXPECT_FALSE(ledger.knows(3));
  EXPECT_FALSE(ledger.knows(-1));
}

struct answer_case {
  const char* value;
  std::int64_t number;
  const char* error;
};

class read_answer_test : public testing::TestWithParam<answer_case> {};

TEST_P(read_answer_test, reads) {
  const answer found = read_answer(GetParam().value, "run");
  EXPECT_EQ(found.number, GetParam().number) << GetParam().value;
  EXPECT_EQ(found.error, GetParam().error) << GetParam().value;
}

INSTANTIATE_TEST_SUITE_P(
    table, read_answer_test,
    testing::Values(
        answer_case{R"({"request_id":"run-0","prediction":152.1,"model_name":"m"})", 0, ""},
        answer_case{R"({"request_id":"run-4000000000","prediction":1})", 4'000'000'000, ""},
        answer_case{R"({"request_id": "run-17", "prediction": 1})", 17, ""},
        answer_case{R"({"a":1,"request_id" : "run-17"})", 17, ""},
        answer_case{R"({"request_id":"run-5","error":{"code":"invalid_features","message":"m"}})", 5,
                    "invalid_features"},
        answer_case{R"({"request_id": "run-5", "error": {"code": "unavailable"}})", 5, "unavailable"},
        answer_case{R"({"request_id":"run-5","features":[1,2]})", 5, ""},
        // another run's, or nobody's
        answer_case{R"({"request_id":"ru-5"})", -1, ""}, answer_case{R"({"request_id":"runs-5"})", -1, ""},
        answer_case{R"({"request_id":"run-"})", -1, ""}, answer_case{R"({"request_id":"run--5"})", -1, ""},
        answer_case{R"({"request_id":"run-5x"})", -1, ""},
        answer_case{R"({"request_id":"run-99999999999999999999"})", -1, ""},
        answer_case{R"({"request_id":5})", -1, ""}, answer_case{R"({"id":"run-5"})", -1, ""},
        // cut short anywhere
        answer_case{"", -1, ""}, answer_case{R"({"request_id")", -1, ""},
        answer_case{R"({"request_id":)", -1, ""}, answer_case{R"({"request_id":"run)", -1, ""},
        answer_case{R"({"request_id":"run-5)", -1, ""}, answer_case{R"({"request_id":"run-5")", 5, ""},
        answer_case{R"({"request_id":"run-5","error":)", 5, ""},
        answer_case{R"({"request_id":"run-5","error":{"code":"inv)", 5, "inv"}));

}  // namespace
}  // namespace troupe::cli

#include "runtime/policy/admission.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace troupe::policy {
namespace {

TEST(Admission, NothingIsRefusedWhileNothingIsKnown) {
  admission a(2, 1);
  const std::uint64_t waiting[] = {1'000'000, 0};
  a.publish(waiting);
  EXPECT_EQ(a.wait(0), 0);
  EXPECT_EQ(a.refuse(0, 0, 1), std::nullopt);
}

TEST(Admission, AClassWaitsBehindItsOwnAndHigherOnes) {
  admission a(3, 2);
  a.observe(10, 1'000);  // 100 ns a row
  const std::uint64_t waiting[] = {10, 20, 30};
  a.publish(waiting);
  EXPECT_EQ(a.wait(0), 500);
  EXPECT_EQ(a.wait(1), 1'500);
  EXPECT_EQ(a.wait(2), 3'000);
  EXPECT_EQ(a.wait(9), 3'000) << "beyond the list: the last";
}

TEST(Admission, RefusesWhatWouldBeLateAndSaysForHowLong) {
  admission a(1, 1);
  a.observe(1, 100);
  const std::uint64_t waiting[] = {10};
  a.publish(waiting);
  EXPECT_EQ(a.refuse(0, 5'000, 6'000), std::nullopt) << "just in time";
  EXPECT_EQ(a.refuse(0, 5'001, 6'000), 1);
  EXPECT_EQ(a.refuse(0, 5'000, 5'400), 600);
  EXPECT_EQ(a.refuse(0, 5'000, 4'000), 1'000) << "late already";
}

TEST(Admission, AStallIsNoNewsAboutRows) {
  admission a(1, 1);
  for (int i = 0; i < 50; ++i) a.observe(1, 100);
  const std::uint64_t waiting[] = {1};
  a.observe(1, 1'000'000'000);
  a.publish(waiting);
  EXPECT_LE(a.wait(0), 110);
  for (int i = 0; i < 200; ++i) a.observe(1, 1'000);
  a.publish(waiting);
  EXPECT_NEAR(static_cast<double>(a.wait(0)), 1'000, 10) << "what lasts is followed";
}

TEST(Admission, NeedsClassesAndSlots) {
  EXPECT_THROW(admission(0, 1), std::invalid_argument);
  EXPECT_THROW(admission(1, 0), std::invalid_argument);
}

}  // namespace
}  // namespace troupe::policy

// Prediction drift: the formula, the bins, and that chance alone stays under the noise.
#include "runtime/policy/drift.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace troupe::policy {
namespace {

TEST(drift, index_of_known_histograms) {
  struct row {
    std::vector<double> reference, seen;
    double psi;
  };
  // By hand, the half counts included: (p - q) ln(p / q) summed.
  for (const row& r :
       {row{{50, 50}, {50, 50}, 0}, row{{500, 500}, {250, 750}, 0.2742}, row{{5, 0}, {0, 5}, 3.9965},
        row{{0, 0}, {1, 1}, 0}, row{{7}, {3}, 0}, row{{1, 2}, {1, 2, 3}, 0}})
    EXPECT_NEAR(population_stability_index(r.reference, r.seen), r.psi, 1e-3);
}

TEST(drift, index_is_symmetric_and_never_negative) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200; ++i) {
    std::vector<double> a(8), b(8);
    for (auto& n : a) n = static_cast<double>(random() % 100 + 1);
    for (auto& n : b) n = static_cast<double>(random() % 100 + 1);
    const double forth = population_stability_index(a, b);
    EXPECT_GE(forth, 0);
    EXPECT_NEAR(forth, population_stability_index(b, a), 1e-9);
  }
}

TEST(drift, equal_distributions_stay_under_the_noise) {
  int over = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> value(150, 40);
    drift d;
    for (int i = 0; i < 1000; ++i) {
      d.add_old(value(random));
      if (i % 5 == 0) d.add_new(value(random));
    }
    const auto r = d.read();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->old_count, 1000);
    EXPECT_EQ(r->new_count, 200);
    over += r->psi > r->noise;
  }
  EXPECT_LE(over, 1);
}

TEST(drift, a_shift_is_seen) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> before(150, 40), after(230, 40);
  drift d;
  for (int i = 0; i < 600; ++i) d.add_old(before(random)), d.add_new(after(random));
  const auto r = d.read();
  ASSERT_TRUE(r);
  EXPECT_GT(r->psi, 1);
  EXPECT_GT(r->psi, r->noise);
}

TEST(drift, class_shares) {
  drift_config c;
  c.classes = 3;
  drift d(c);
  for (int i = 0; i < 300; ++i) d.add_old(i % 3), d.add_new(2);
  ASSERT_TRUE(d.read());
  EXPECT_GT(d.read()->psi, 0.25);
  drift same(c);
  for (int i = 0; i < 300; ++i) same.add_old(i % 3), same.add_new((i + 1) % 3);
  EXPECT_NEAR(same.read()->psi, 0, 1e-9);
}

TEST(drift, constant_predictions_have_bins_on_both_sides) {
  drift up, down, same;
  for (int i = 0; i < 600; ++i) {
    up.add_old(5), down.add_old(5), same.add_old(5);
    up.add_new(6), down.add_new(4), same.add_new(5);
  }
  EXPECT_GT(up.read()->psi, 1);
  EXPECT_GT(down.read()->psi, 1);
  EXPECT_NEAR(same.read()->psi, 0, 1e-9);
}

TEST(drift, nothing_is_said_before_the_bins_are_made) {
  drift_config c;
  c.reference = 100;
  drift d(c);
  for (int i = 0; i < 99; ++i) d.add_old(i), d.add_new(i);
  EXPECT_FALSE(d.read());
  d.add_old(std::nan(""));
  EXPECT_FALSE(d.read()) << "NaN is no prediction";
  d.add_old(99);
  ASSERT_TRUE(d.read());
  EXPECT_EQ(d.read()->new_count, 99) << "what came before counts";
}

TEST(drift, old_values_fade_out) {
  drift_config c;
  c.horizon = 2'000;
  drift d(c);
  for (int i = 0; i < 2'000; ++i) d.add_old(i % 100), d.add_new(i % 100);
  for (int i = 0; i < 20'000; ++i) d.add_new(1000);
  EXPECT_LE(d.read()->new_count, 2'001);
  EXPECT_GT(d.read()->psi, 2);
}

}  // namespace
}  // namespace troupe::policy

#include "runtime/policy/cache_value.hpp"

#include <gtest/gtest.h>

namespace troupe::policy {
namespace {

void run(cache_value& v, nanos model_ns, double ratio, int batches = 200) {
  for (int i = 0; i < batches; ++i) {
    v.observe_model(64, 64 * model_ns);
    v.observe(100, static_cast<std::size_t>(ratio * 100));
  }
}

TEST(cache_value, is_on_until_there_is_evidence) {
  cache_value v;
  EXPECT_TRUE(v.worthwhile());
  EXPECT_TRUE(v.look_up_now());
  run(v, 10, 0.0, 15);
  EXPECT_TRUE(v.worthwhile()) << "1,500 rows are too few to tell";
  run(v, 10, 0.0, 15);
  EXPECT_FALSE(v.worthwhile());
}

TEST(cache_value, pays_where_hits_save_more_than_look_ups_cost) {
  struct row {
    nanos model_ns;
    double ratio;
    bool worth;
  };
  for (const auto& r : {row{600, 0.10, false}, row{600, 0.50, true}, row{5'000, 0.01, false},
                        row{5'000, 0.10, true}, row{50'000, 0.01, true}, row{50'000, 0.0, false}}) {
    cache_value v;
    run(v, r.model_ns, r.ratio);
    EXPECT_EQ(v.worthwhile(), r.worth) << r.model_ns << " ns, " << r.ratio;
  }
}

TEST(cache_value, does_not_flap_between_the_thresholds) {
  const cache_value_config config{100, 2'500};
  cache_value off(config);
  run(off, 1'000, 0.0);
  ASSERT_FALSE(off.worthwhile());
  run(off, 1'000, 0.11);
  EXPECT_FALSE(off.worthwhile()) << "1.1 of break-even does not switch it on";
  run(off, 1'000, 0.14);
  EXPECT_TRUE(off.worthwhile());
  run(off, 1'000, 0.09);
  EXPECT_TRUE(off.worthwhile()) << "0.9 of break-even does not switch it off";
  run(off, 1'000, 0.05);
  EXPECT_FALSE(off.worthwhile());
}

TEST(cache_value, while_off_one_batch_in_64_is_looked_up) {
  cache_value v;
  run(v, 100, 0.0);
  ASSERT_FALSE(v.worthwhile());
  int looked = 0;
  for (int i = 0; i < 64'000 / 64 * 64; ++i) {
    const bool now = v.look_up_now();
    EXPECT_EQ(now, v.looking());
    looked += now;
  }
  EXPECT_NEAR(looked, 1'000, 16);
}

TEST(cache_value, level_2_needs_a_dear_model) {
  for (const auto& [model_ns, worth] : {std::pair<nanos, bool>{650, false}, {5'000, false}, {50'000, true}}) {
    cache_value v;
    run(v, model_ns, 0.0);
    EXPECT_EQ(v.level2_worthwhile(), worth) << model_ns;
  }
  cache_value v;
  EXPECT_FALSE(v.level2_worthwhile()) << "nothing is known of the model yet";
  run(v, 50'000, 0.0);
  for (int i = 0; i < 200; ++i) v.observe_level2(64, 0);
  EXPECT_FALSE(v.level2_worthwhile()) << "it never hits";
  for (int i = 0; i < 200; ++i) v.observe_level2(64, 32);
  EXPECT_TRUE(v.level2_worthwhile());
}

TEST(cache_value, measured_costs_replace_the_guess) {
  cache_value v;
  run(v, 1'000, 0.5);
  ASSERT_TRUE(v.worthwhile());
  for (int i = 0; i < 200; ++i) v.observe_level1_cost(64, 64 * 2'000);
  run(v, 1'000, 0.5, 1);
  EXPECT_FALSE(v.worthwhile());
}

TEST(cache_value, a_stall_of_the_model_is_no_news) {
  cache_value v;
  run(v, 1'000, 0.0);
  v.observe_model(1, 10 * second);
  EXPECT_LT(v.model_cost(), 1'300);
}

}  // namespace
}  // namespace troupe::policy

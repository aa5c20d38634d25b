#include "actors/node_backend.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/model/live_models.hpp"
#include "runtime/model/stalls.hpp"
#include "runtime/observe/metrics.hpp"
#include "tests/actors/stage.hpp"

namespace troupe {
namespace {

using testing::HasSubstr;

// perf_analyzer ends where the three counts of a model's computing differ, or a time is less than its parts.
TEST(node_backend, statistics_add_up) {
  test::stage s;
  node_backend_args args;
  args.models = s.live;
  args.metrics = s.metrics;
  const node_backend backend(std::move(args));
  const auto all = s.live->current()->all();
  ASSERT_FALSE(all.empty());
  s.metrics->model_loaded(all[0].get(), all[0]->name(), all[0]->version());
  s.metrics->answered({all[0].get(), door::http, 0, error_code::none, false, 3, 0, 5, 0.25});
  s.metrics->answered({all[0].get(), door::grpc, 0, error_code::model_failed, false, 1, 0, 1, 0.5});
  s.metrics->model_batch(*all[0], 5, 0.125, 0);

  const auto said = backend.statistics(all[0]->name(), "");
  ASSERT_EQ(said.size(), 1U);
  EXPECT_EQ(said[0].inference_count, 5U);
  EXPECT_EQ(said[0].execution_count, 1U);
  EXPECT_EQ(said[0].success.count, 3U);
  EXPECT_EQ(said[0].fail.count, 1U);
  for (const auto& part :
       {said[0].queue, said[0].compute_input, said[0].compute_infer, said[0].compute_output})
    EXPECT_EQ(part.count, 3U);
  EXPECT_EQ(said[0].compute_infer.ns, 125'000'000U);
  EXPECT_EQ(said[0].success.ns, said[0].queue.ns + said[0].compute_input.ns + said[0].compute_infer.ns +
                                    said[0].compute_output.ns);
}

TEST(node_backend, a_model_that_can_not_answer_is_not_ready_and_says_why) {
  test::stage s;
  node_backend_args args;
  args.models = s.live;
  auto stalls = std::make_shared<model::stalls>();
  args.stalls = stalls;
  args.now = [] { return 10 * policy::second; };
  const node_backend backend(std::move(args));
  const auto m = s.live->current()->all().at(0);
  const auto state = [&] { return backend.state_of(*m); };
  EXPECT_TRUE(state().ready);
  stalls->set(m.get(), {policy::second, 14 * policy::second - 1, 0});
  EXPECT_FALSE(state().ready);
  EXPECT_THAT(state().why, HasSubstr("its breaker is open; it is tried again in 4 s"));
  EXPECT_EQ(state().retry_after, 4 * policy::second - 1);
  stalls->set(m.get(), {policy::second, 9 * policy::second, 0});
  EXPECT_THAT(state().why, HasSubstr("tried again soon")) << "nobody says yet that it is";
  stalls->set(m.get(), {policy::second, 0, 0});
  EXPECT_TRUE(state().ready) << "half open: the next call is the probe";
  stalls->set(m.get(), {policy::second, 0, 3});
  EXPECT_FALSE(state().ready);
  EXPECT_THAT(state().why, HasSubstr("with 3 of its calls not returned (models.max_hung)"));
  EXPECT_EQ(state().retry_after, 0);
  stalls->clear(m.get());
  EXPECT_TRUE(state().ready);
}

}  // namespace
}  // namespace troupe

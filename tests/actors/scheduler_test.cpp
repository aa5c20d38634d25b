#include "actors/scheduler.hpp"

#include <gtest/gtest.h>

#include "runtime/model/model.hpp"
#include "runtime/observe/metrics.hpp"
#include "tests/actors/deterministic_system.hpp"

namespace troupe {
namespace {

constexpr nanos second = 1'000'000'000;

class sum final : public model::engine {
 public:
  void score(std::span<const double* const> rows, double* out) const override {
    for (const double* row : rows) *out++ = row[0];
  }
  std::string_view kind() const override { return "sum"; }
};

/// A shard whose engine does not return from the first call.
model_shard_actor::behavior_type hanging(model_shard_actor::pointer self, test::deterministic_system* in,
                                         int* calls) {
  static_cast<void>(self);
  return {
      [in, calls](const grant& g) {
        ++*calls;
        g.work->began.store(in->now());
      },
      [](const wiring&) {},
      [](const crash&) {},
  };
}

TEST(scheduler, time_that_it_was_away_itself_is_not_held_against_a_shard) {
  model::loaded_model::parts parts;
  parts.name = "sum";
  parts.version = "1";
  parts.schema = model::schema(std::vector<model::feature>(1), true);
  parts.engine = std::make_unique<sum>();
  const auto m = std::make_shared<const model::loaded_model>(std::move(parts));
  test::deterministic_system in;
  int calls = 0, abandoned = 0;
  scheduler_args a;
  a.classes = {{"bulk", 60 * second}};
  a.time_limit = 30 * second;
  a.abandon = [&](const caf_line::any_actor&, const std::string&) { ++abandoned; };
  a.metrics = std::make_shared<observe::metrics>(observe::metrics_options{});
  const auto scheduler = in.own(spawn_scheduler(in.actors, std::move(a), {}));
  const auto shard = in.own(in.actors.spawn(hanging, &in, &calls));
  caf_line::post(scheduler, shard_idle{1, m.get(), shard, false});
  auto batch = batch_ptr::make();
  auto& r = batch->records.emplace_back();
  r.batch = batch.get();
  r.model = m.get();
  r.rows = 1;
  auto rows = std::make_shared<row_refs>();
  rows->add(&r);
  caf_line::post(scheduler, submit{std::move(rows)});
  in.advance(second);
  ASSERT_EQ(calls, 1);
  in.advance(600 * second, 600 * second);  // a process that is stopped, and goes on
  in.advance(20 * second);
  EXPECT_EQ(abandoned, 0);
  in.advance(15 * second);
  EXPECT_EQ(abandoned, 1) << "this time it was there";
}

}  // namespace
}  // namespace troupe

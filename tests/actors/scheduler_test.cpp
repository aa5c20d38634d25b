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
  explicit sum(nanos ends_after = 0) : ends_after_(ends_after) {}
  void score(std::span<const double* const> rows, double* out) const override {
    for (const double* row : rows) *out++ = row[0];
  }
  std::string_view kind() const override { return "sum"; }
  nanos ends_after() const override { return ends_after_; }

 private:
  nanos ends_after_;
};

std::shared_ptr<const model::loaded_model> model_of(const std::string& name, nanos ends_after = 0) {
  model::loaded_model::parts parts;
  parts.name = name;
  parts.version = "1";
  parts.schema = model::schema(std::vector<model::feature>(1), true);
  parts.engine = std::make_unique<sum>(ends_after);
  return std::make_shared<const model::loaded_model>(std::move(parts));
}

/// A shard whose engine does not return from the first call.
model_shard_actor::behavior_type hanging(model_shard_actor::pointer self, test::deterministic_system* in,
                                         int* calls) {
  static_cast<void>(self);
  return {
      [in, calls](const grant& g) {
        ++*calls;
        if (g.work) g.work->began.store(in->now());
      },
      [](const wiring&) {},
      [](const crash&) {},
  };
}

struct scheduler_alone {
  explicit scheduler_alone(nanos time_limit) {
    scheduler_args a;
    a.classes = {{"bulk", 60 * second}};
    a.time_limit = time_limit;
    a.abandon = [this](const caf_line::any_actor&, const std::string&) { ++abandoned; };
    a.metrics = std::make_shared<observe::metrics>(observe::metrics_options{});
    scheduler = in.own(spawn_scheduler(in.actors, std::move(a), {}));
  }
  /// One shard for this model, and a row; -> the batches it was given.
  std::shared_ptr<int> row_for(const std::shared_ptr<const model::loaded_model>& m) {
    auto calls = std::make_shared<int>(0);
    counts.push_back(calls);
    caf_line::post(scheduler,
                   shard_idle{++shards, m.get(), in.own(in.actors.spawn(hanging, &in, calls.get())), false});
    auto batch = batch_ptr::make();
    auto& r = batch->records.emplace_back();
    r.batch = batch.get();
    r.model = m.get();
    r.rows = 1;
    auto rows = std::make_shared<row_refs>();
    rows->add(&r);
    caf_line::post(scheduler, submit{std::move(rows)});
    return calls;
  }

  test::deterministic_system in;
  int abandoned = 0;
  std::uint64_t shards = 0;
  std::vector<std::shared_ptr<int>> counts;
  scheduler_actor scheduler;
};

TEST(scheduler, time_that_it_was_away_itself_is_not_held_against_a_shard) {
  const auto m = model_of("sum");
  scheduler_alone s(30 * second);
  const auto calls = s.row_for(m);
  s.in.advance(second);
  ASSERT_EQ(*calls, 1);
  s.in.advance(600 * second, 600 * second);  // a process that is stopped, and goes on
  s.in.advance(20 * second);
  EXPECT_EQ(s.abandoned, 0);
  s.in.advance(15 * second);
  EXPECT_EQ(s.abandoned, 1) << "this time it was there";
}

TEST(scheduler, an_engine_that_ends_its_calls_itself_is_waited_for) {
  const auto in_process = model_of("sum"), of_its_own = model_of("graph", 10 * second);
  scheduler_alone s(2 * second);
  (void)s.row_for(of_its_own);
  s.in.advance(10 * second);
  EXPECT_EQ(s.abandoned, 0);
  s.in.advance(2 * second);
  EXPECT_EQ(s.abandoned, 1);
  (void)s.row_for(in_process);
  s.in.advance(3 * second);
  EXPECT_EQ(s.abandoned, 2);
}

TEST(scheduler, a_batch_that_hangs_keeps_its_slot_from_nobody_for_long) {
  for (const nanos limit : {nanos{0}, 3600 * second}) {
    const auto one = model_of("one"), other = model_of("other"), third = model_of("third");
    scheduler_alone s(limit);  // with one slot
    const auto first = s.row_for(one), second_one = s.row_for(other), last = s.row_for(third);
    s.in.advance(400'000'000);
    EXPECT_EQ(*first + *second_one + *last, 1);
    s.in.advance(600'000'000);
    EXPECT_EQ(*first + *second_one + *last, 2) << "the second hangs, too";
    s.in.advance(second);
    EXPECT_EQ(*first + *second_one + *last, 3);
    EXPECT_EQ(s.abandoned, 0);
  }
}

}  // namespace
}  // namespace troupe

// TROUPE_SIMULATION_SEEDS="FIRST COUNT" for others than the everyday ones; scripts/simulate runs many.

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <sstream>

#include "runtime/observe/log.hpp"
#include "tests/simulation/world.hpp"

namespace troupe::test {
namespace {

class simulation : public testing::Test {
 protected:
  simulation() {
    observe::log_options quiet;
    quiet.least = observe::level::error;
    quiet.to_stderr = true;
    observe::open_log(quiet);
  }
  ~simulation() override { observe::open_log({}); }
};

TEST_F(simulation, every_law_holds_in_every_history) {
  std::uint64_t first = 1, count = 300;
  const char* wanted = std::getenv("TROUPE_SIMULATION_SEEDS");
  if (wanted) std::istringstream(wanted) >> first >> count;
  history all;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const history h = simulate(seed);
    ASSERT_EQ(h.violation, "") << (count == 1 ? h.story : "") << "replay: scripts/simulate 1 " << seed
                               << " (the first after " << seed - first + 1 << " seeds)";
    all.records += h.records;
    all.calls += h.calls;
    all.crashes += h.crashes;
    all.rebalances += h.rebalances;
    all.duplicates += h.duplicates;
    all.dead_letters += h.dead_letters;
    all.parked += h.parked;
    all.express += h.express;
  }
  std::cout << count << " seeds: " << all.records << " records, " << all.calls << " calls, " << all.crashes
            << " crashes, " << all.rebalances << " rebalances, " << all.duplicates << " duplicates, "
            << all.dead_letters << " dead letters, " << all.parked << " parked, " << all.express
            << " express batches; 0 violations\n";
}

TEST_F(simulation, a_seed_is_a_whole_history) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const history a = simulate(seed), b = simulate(seed);
    EXPECT_EQ(a.story, b.story) << seed;
    EXPECT_EQ(a.duplicates, b.duplicates) << seed;
    EXPECT_EQ(a.express, b.express) << seed;
  }
}

}  // namespace
}  // namespace troupe::test

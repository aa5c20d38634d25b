// TROUPE_SIMULATION_SEEDS="FIRST COUNT" for others than the everyday ones; scripts/simulate runs many.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <string_view>
#include <vector>

#include "runtime/observe/log.hpp"
#include "tests/simulation/world.hpp"

namespace troupe::test {
namespace {

/// Says at which seed a signal ends the process: a crash of the actors' own code leaves nothing else behind.
/// The signal then does what it would have done.
class last_words {
 public:
  last_words() {
    struct sigaction ours {};
    ours.sa_handler = &say;
    ours.sa_flags = SA_ONSTACK;
    const stack_t stack = {stack_.data(), 0, stack_.size()};  // the usual one may be what ran out
    ::sigaltstack(&stack, nullptr);
    for (std::size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i], &ours, &before_[i]);
  }
  ~last_words() {
    for (std::size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i], &before_[i], nullptr);
    const stack_t none = {nullptr, SS_DISABLE, 0};
    ::sigaltstack(&none, nullptr);
  }
  last_words(const last_words&) = delete;
  last_words& operator=(const last_words&) = delete;

  static void at(std::uint64_t seed, std::uint64_t first) {
    seed_ = seed;
    nth_ = seed - first + 1;
  }

 private:
  static constexpr std::array signals = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

  /// Nothing here may allocate or lock.
  static void say(int signal) {
    std::array<char, 200> text{};
    char* end = text.data();
    char* const limit = text.data() + text.size();
    const auto add = [&](std::string_view part) {
      const auto n = std::min(part.size(), static_cast<std::size_t>(limit - end));
      end = std::copy_n(part.begin(), n, end);
    };
    const auto number = [&](std::uint64_t n) { end = std::to_chars(end, limit, n).ptr; };
    add("\ncrash: signal ");
    number(static_cast<std::uint64_t>(signal));
    add("; replay: scripts/simulate 1 ");
    number(seed_);
    add(" (the first after ");
    number(nth_);
    add(" seeds)\n");
    static_cast<void>(!::write(STDOUT_FILENO, text.data(), static_cast<std::size_t>(end - text.data())));
    for (std::size_t i = 0; i < signals.size(); ++i)
      if (signals[i] == signal) ::sigaction(signal, &before_[i], nullptr);  // it strikes again on the return
  }

  static inline std::atomic<std::uint64_t> seed_{0}, nth_{0};
  static inline std::array<struct sigaction, signals.size()> before_{};
  static inline std::array<char, 64 << 10> stack_{};
};

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
  const last_words crash;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    last_words::at(seed, first);
    const history h = simulate(seed);
    ASSERT_EQ(h.violation, "") << (count == 1 ? h.story : "") << "replay: scripts/simulate 1 " << seed
                               << " (the first after " << seed - first + 1 << " seeds)";
    all.digest = all.digest * 31 + h.digest;
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
            << " express batches, digest " << std::hex << all.digest << std::dec << "; 0 violations\n";
}

TEST_F(simulation, a_crash_names_its_seed) {
  for (const int signal : {SIGSEGV, SIGABRT})
    EXPECT_EXIT(
        {
          ::dup2(STDERR_FILENO, STDOUT_FILENO);
          const last_words crash;
          last_words::at(7301, 7000);
          if (signal == SIGABRT) std::abort();
          ::raise(signal);
          ::raise(signal);  // what a faulty instruction does on the return
        },
        testing::KilledBySignal(signal), "replay: scripts/simulate 1 7301 .the first after 302 seeds.");
}

/// Neither what ran before it nor where the heap puts things changes what a seed does.
TEST_F(simulation, a_seed_is_a_whole_history) {
  constexpr std::uint64_t seeds = 60;
  std::vector<history> first;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) first.push_back(simulate(seed));
  std::mt19937 random(7);
  std::vector<std::unique_ptr<char[]>> holes;
  for (int i = 0; i < 20'000; ++i) holes.push_back(std::make_unique<char[]>(16 + random() % 2'000));
  for (auto& h : holes)
    if (random() % 2 == 0) h.reset();
  for (std::uint64_t seed = seeds; seed > 0; --seed) {
    const history again = simulate(seed);
    EXPECT_EQ(first[seed - 1].story, again.story) << seed;
    EXPECT_EQ(first[seed - 1].digest, again.digest) << seed;
    EXPECT_EQ(first[seed - 1].duplicates, again.duplicates) << seed;
    EXPECT_EQ(first[seed - 1].express, again.express) << seed;
  }
}

}  // namespace
}  // namespace troupe::test

#pragma once
// An actor system on one thread with a virtual clock: run() handles every message that is due, advance()
// moves time.

#include <caf/scheduler/test_coordinator.hpp>

#include "messages/interfaces.hpp"

namespace troupe::test {

class deterministic_system {
  struct config : caf::actor_system_config {
    config() {
      set("scheduler.policy", caf::atom("testing"));
      set("logger.verbosity", caf::atom("quiet"));
    }
  };
  config config_;

 public:
  caf_line::system actors{config_};

  ~deterministic_system() {
    for (auto& a : ended_) caf_line::end(a);
    for (int i = 0; i < 100; ++i) {
      run();
      scheduler().trigger_timeouts();
    }
  }

  /// Ends the actor before the system goes, so that its periodic tick does not keep it alive.
  template <class Handle>
  Handle own(Handle h) {
    ended_.push_back(caf_line::untyped(h));
    return h;
  }

  void run() { scheduler().run(1'000'000); }

  /// What the actors' clock shows.
  [[nodiscard]] nanos now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(actors.clock().now().time_since_epoch())
        .count();
  }

  caf::scheduler::test_coordinator& scheduler() {
    return dynamic_cast<caf::scheduler::test_coordinator&>(actors.scheduler());
  }

  /// Moves the clock in steps, handling what falls due in each.
  void advance(nanos by, nanos step = 10'000'000) {
    for (nanos done = 0; done < by; done += step) {
      scheduler().advance_time(std::chrono::nanoseconds(std::min(step, by - done)));
      run();
    }
  }

 private:
  std::vector<caf_line::any_actor> ended_;
};

}  // namespace troupe::test

#pragma once
// What begins and ends faults on a node: the fault_points, the links that can be broken, and one thread that
// does what no point can (crashes, rebalances, memory, the freeze) and ends every fault at its time.
//
// There is one only where faults are enabled.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/faults/fault_points.hpp"
#include "runtime/policy/socket_watch.hpp"

namespace troupe::faults {

/// It can't be done now: another one is active, there is no such link or actor here. One line.
struct cannot_inject : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// There is no such actor, model or version here.
struct no_such_target : cannot_inject {
  using cannot_inject::cannot_inject;
};

struct injector_options {
  limits bounds;
  std::uint64_t seed = 1;
  bool kafka = false;    ///< which links there are
  bool reports = false;  ///< answers are followed by delivery reports, not by transactions
  bool redis = false;
  bool registry = false;
  /// Crashes the actor of this name, any for ""; the one it was, empty when there is none.
  std::function<std::string(const std::string& actor)> crash;
  /// Names of the actors there are; none: nobody can tell now. Left out: every name may be asked for.
  std::function<std::vector<std::string>()> actors;
  /// Models and versions there are, loaded or not yet. Left out: every one may be asked for.
  std::function<std::vector<std::pair<std::string, std::string>>()> versions;
  /// The consumer leaves its group and joins it again; false: it is in none now.
  std::function<bool()> rejoin;
  /// A fault began (`ended` is empty) or ended. From any thread.
  std::function<void(const report& what)> tell;
};

class injector {
 public:
  explicit injector(injector_options options);
  /// As stop().
  ~injector();
  injector(const injector&) = delete;
  injector& operator=(const injector&) = delete;

  [[nodiscard]] fault_points& points();
  [[nodiscard]] const limits& bounds() const;
  /// For the clients of Kafka, Redis and the registry; they live as long as whoever holds them.
  [[nodiscard]] std::shared_ptr<policy::socket_watch> kafka() const;
  [[nodiscard]] std::shared_ptr<policy::socket_watch> redis() const;
  [[nodiscard]] std::shared_ptr<policy::socket_watch> registry() const;

  /// What came of it. Throws cannot_inject.
  report inject(const fault& f);
  /// Throws what inject() would throw now; changes nothing.
  void check(const fault& f) const;
  /// False: no such fault is active.
  bool end(std::uint64_t id);
  /// Returns how many were active.
  std::size_t end_all();
  [[nodiscard]] std::vector<report> list() const;
  /// Now, on the clock of the reports.
  [[nodiscard]] static nanos now();

  /// Ends all faults and takes no more. Idempotent.
  void stop();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::faults

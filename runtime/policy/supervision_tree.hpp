#pragma once
// supervision_tree: who is stopped and who is started when something crashes.
//
// Groups and children as in OTP ("Supervisor Behaviour"): a group has a strategy and a budget, its members
// are children and further groups, in the order in which they are started.
//
//   one_for_one    the one that crashed is started again
//   rest_for_one   it and those after it
//   one_for_all    all of the group
//
// A group counts two things: crashes of its own children (`children`), and groups in it that gave up
// (`groups`). When either is more than its intensity within its period, the group gives up: its parent
// restarts it as a whole, by the parent's own strategy, and counts that. A group that is restarted has its
// budget anew, and so has all beneath it. When the root gives up, nothing is left to be tried.
//
// Whoever is to be stopped is named in the reverse of the order in which all are started. No time passes
// here: who asks says when it is, and does what it is told. Complexity: O(members of the groups concerned).

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/policy/restart_policy.hpp"
#include "runtime/policy/time.hpp"

namespace troupe::policy {

enum class restart_strategy : std::uint8_t { one_for_one, rest_for_one, one_for_all };
[[nodiscard]] std::string_view to_string(restart_strategy s);

/// What a group tolerates. The delays of `children` are those of each child's restarts, the delays of
/// `groups` those of each group in it.
struct group_rules {
  restart_strategy strategy = restart_strategy::one_for_one;
  restart_config children;
  restart_config groups = {.intensity = 3, .period = 600 * second, .quiet = 600 * second};
};

class supervision_tree {
 public:
  using id = std::uint64_t;  ///< never used twice
  static constexpr id root = 0;

  explicit supervision_tree(std::string name, const group_rules& rules = {}, std::uint64_t seed = 1);

  /// Behind the other members of `parent`, which must be a group that is there (std::out_of_range else).
  id add_group(id parent, std::string name, const group_rules& rules);
  id add_child(id parent, std::string name);
  /// With all beneath it; one that is unknown is no error. The root stays.
  void remove(id node);

  struct decision {
    bool give_up = false;   ///< the root's budget is spent: nothing else is said but `spent`
    std::vector<id> stop;   ///< children, in this order; never the one that crashed
    std::vector<id> start;  ///< children, in this order, once those have stopped; with the one that crashed
    nanos after = 0;        ///< not before so many ns from now
    std::vector<std::string> spent;  ///< groups that gave up, innermost first
  };
  /// `blameless`: it died of the work it was given, not by a fault of its own: it is started again at once
  /// and counts nowhere.
  decision on_crash(id child, nanos now, bool blameless = false);

  [[nodiscard]] bool has(id node) const { return nodes_.contains(node); }
  [[nodiscard]] id find_group(std::string_view name) const;  ///< the root when there is none

  /// All children in the order in which they are started; those beneath `group` alone.
  [[nodiscard]] std::vector<id> children(id group = root) const;

  struct group_state {
    id node = root;
    id parent = root;
    std::string name;
    restart_strategy strategy = restart_strategy::one_for_one;
    std::uint32_t intensity = 0;
    nanos period = 0;
    std::uint32_t left = 0;         ///< crashes of children that it would tolerate now
    std::uint32_t groups_left = 0;  ///< the same of groups in it
    std::uint64_t restarts = 0;     ///< of the group as a whole
    nanos since = 0;                ///< of its last restart; 0: none
  };
  /// In order, the root first.
  [[nodiscard]] std::vector<group_state> groups(nanos now) const;
  [[nodiscard]] id parent_of(id node) const { return nodes_.at(node).parent; }

 private:
  struct entry {
    id parent = root;
    std::string name;
    bool group = false;
    group_rules rules;
    restart_policy backoff;   // of this one, without a budget
    restart_policy children;  // the budgets of a group
    restart_policy groups;
    std::vector<id> members;
    std::uint64_t restarts = 0;
    nanos since = 0;
  };

  id add(id parent, std::string name, bool group, const group_rules& rules);
  void fresh(id group);  // budgets and delays of it and all beneath
  /// The members that `strategy` of `group` restarts for `member`.
  [[nodiscard]] std::vector<id> concerned(const entry& group, id member) const;
  void leaves(id of, std::vector<id>& out) const;
  void describe(id of, nanos now, std::vector<group_state>& out) const;

  std::map<id, entry> nodes_;
  std::mt19937_64 random_;
  id next_ = 1;
};

}  // namespace troupe::policy

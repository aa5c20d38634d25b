#pragma once
// sla_queue: what waits on one node, for all its models, and which of it runs next.
//
// Who goes first (decided when a slot is free, never ahead of it):
//   1. Rows that can still make their target: strict class order, across all models; in a class, earliest
//      target first. A row can make it when now + 9/8 of the batch's estimated time is within the target.
//   2. Late rows: those that can't make it any more. They yield to every row of any class that can, are
//      served with what is left, in class order, and are counted. A class with `shed_late` ends them instead.
//   3. A row whose expiry has come is ended, whatever its class.
//
// Two floors keep strict order from starving anyone. Each is a share of all rows granted, given as credit:
//   - a class's own `floor`, for rows that can make it, while the first of them is older than a third of the
//     class's target;
//   - `late_floor` for late rows, while one is overdue by more than its class's target, and by at least 1 s;
//     it goes to the row that is overdue longest.
// What such rows get in the ordinary way counts too. In the model that runs they ride along in the batch;
// rows of another model get a batch of their own once half a batch of credit has gathered.
//
// Rows that are more urgent than what waits need not wait for a slot at all: next_urgent() and take_limits
// grant them beside the batches that run, where the caller has somebody to score them.
//
// Class order, earliest deadline first within a class and expiry at dispatch is what came closest to the
// offline optimum in simulation (bench/scheduler): losses come from bursts, and class-blind earliest deadline
// first (Liu and Layland, 1973) collapses as a whole as soon as the load exceeds what can be done.
//
// Holds handles, not rows: whatever is pushed is handed back exactly once, by take(), end_overdue() or
// remove_model().
// Complexity: push and take O(1) a row while targets arrive in order, O(log n) else; a decision
// O(models x classes).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/policy/batch_sizer.hpp"
#include "runtime/policy/target_queue.hpp"
#include "runtime/policy/time.hpp"

namespace troupe::policy {

/// A class of service; its position in the list is its priority, first is highest.
struct class_config {
  std::string name;
  nanos target = 100 * millisecond;  ///< relative
  std::size_t limit = 100'000;       ///< requests that may wait, over all models
  bool shed_late = false;            ///< end a row that can't make its target instead of serving it late
  double floor = 0;                  ///< share of rows granted once the first row is older than target / 3
};

/// What bounds one batch besides the classes' targets.
struct take_limits {
  std::size_t max_rows = 1024;
  nanos max_batch_time = 5 * millisecond;  ///< estimated
  /// Only on-time rows of the first so many classes, and no floors; if all classes are among them,
  /// everything.
  std::size_t classes = static_cast<std::size_t>(-1);
};

class sla_queue {
 public:
  struct ended_item {
    sla_item item;
    bool expired;  ///< its expiry had come; else shed: late in a class that sheds
    std::size_t cls;
  };

  struct class_stats {
    std::size_t depth = 0;          ///< requests waiting, late ones included
    std::uint64_t rows = 0;         ///< their rows
    std::size_t late = 0;           ///< requests waiting that can't make their target
    std::uint64_t turned_late = 0;  ///< requests, since the start, like all below
    std::uint64_t shed = 0;
    std::uint64_t expired = 0;
    std::uint64_t refused = 0;  ///< push() was false
    std::uint64_t taken = 0;
  };

  /// Throws std::invalid_argument when there is no class, or one has a target <= 0 or a floor outside [0, 1].
  explicit sla_queue(std::vector<class_config> classes, double late_floor = 0.002);

  /// Index of a new model; indexes are never used twice.
  std::size_t add_model();
  /// Appends everything that waits for the model to `left`, in class order. The index is void from then on.
  void remove_model(std::size_t model, std::vector<sla_item>& left);

  /// The same, but the model stays.
  void take_all(std::size_t model, std::vector<sla_item>& left) {
    remove_model(model, left);
    models_[model].lanes.resize(classes_.size());
  }

  /// False, and nothing is kept: the class's limit is reached. An expiry before the target takes the target's
  /// place.
  [[nodiscard]] bool push(std::size_t model, std::size_t cls, const sla_item& item);
  /// push() beyond the limit: rows that were granted already and whose shard died.
  void requeue(std::size_t model, std::size_t cls, const sla_item& item);

  /// The model that should run next, of those with runnable[model]; nullopt when none of them has rows.
  [[nodiscard]] std::optional<std::size_t> next_model(nanos now, const std::vector<bool>& runnable);

  struct urgent {
    std::size_t model;
    std::size_t classes;  ///< for take_limits
  };
  /// Of those with runnable[model], the model whose on-time rows are the most urgent ones of the classes
  /// above the least urgent class that waits (in any model): where bulk has the slots, they may go beside it.
  /// nullopt: nothing less urgent waits, or there are no such rows.
  [[nodiscard]] std::optional<urgent> next_urgent(nanos now, const std::vector<bool>& runnable);

  /// Appends the model's next batch to `batch`, most urgent first within floor rows, on-time rows and late
  /// rows; what expired or is shed on the way goes to `ended`. Rows (weights) stay within `limits`, within
  /// the budget of the tightest class that has on-time rows (batch_share_of_target) and within
  /// max_batch_time, by the sizer's estimate; a single request larger than that goes alone. Both stay empty
  /// only if nothing waits for the model.
  void take(std::size_t model, nanos now, const batch_sizer& sizer, const take_limits& limits,
            std::vector<sla_item>& batch, std::vector<ended_item>& ended);

  /// Ends what expired or is to be shed without waiting for a batch (models that can't run, long queues).
  void end_overdue(nanos now, std::vector<ended_item>& ended);

  [[nodiscard]] std::size_t classes() const { return classes_.size(); }
  [[nodiscard]] const class_config& config(std::size_t cls) const { return classes_[cls]; }
  [[nodiscard]] const class_stats& stats(std::size_t cls) const { return stats_[cls]; }
  [[nodiscard]] std::size_t depth(std::size_t cls) const { return stats_[cls].depth; }
  [[nodiscard]] std::size_t depth(std::size_t model, std::size_t cls) const;
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  /// Arrival of the oldest of the rows that are next in line, late ones included; exact while targets arrive
  /// in order.
  [[nodiscard]] std::optional<nanos> oldest_arrival(std::size_t cls) const;

  /// Expected ns until a request that came now in this class would start, with `slots` batches at a time: the
  /// on-time work of its class and those above, at what a row cost in the last batches. For admission (answer
  /// 503 early).
  [[nodiscard]] nanos estimate_wait(std::size_t cls, std::size_t slots) const;

 private:
  struct lane {
    target_queue on_time;
    target_queue late;
    std::uint64_t on_time_rows = 0;
    nanos first_expiry = never;  // of the late ones; a lower bound
  };
  struct model_lanes {
    std::vector<lane> lanes;  // a class
    std::uint64_t rows = 0;   // all that wait
    nanos ahead = 0;          // estimated time of its next batch, with margin
    double row_cost = 0;      // ns a row in a full batch
    double half_batch = 1;    // rows
  };
  struct overdue_item {
    std::size_t model;
    ended_item ended;
  };

  void enqueue(std::size_t model, std::size_t cls, const sla_item& item);
  void leave(model_lanes& m, std::size_t cls, const sla_item& item);
  void turn_late(std::size_t model, nanos now);
  void end(std::size_t model, std::size_t cls, const sla_item& item, bool expired);
  void refresh_floors(nanos now);
  [[nodiscard]] bool overdue(std::size_t cls, const lane& l, nanos now) const;
  void hand_over(std::vector<ended_item>& ended);

  std::vector<class_config> classes_;
  std::vector<class_stats> stats_;
  std::vector<model_lanes> models_;
  std::vector<overdue_item> over_;  // ended, not handed back yet
  std::vector<double> credit_;      // rows a class may take out of order
  std::vector<bool> floor_active_;
  double late_floor_;
  double late_credit_ = 0;
  bool late_active_ = false;
  std::size_t size_ = 0;
};

}  // namespace troupe::policy

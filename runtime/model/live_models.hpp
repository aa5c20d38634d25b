#pragma once
// The table of models that is in force. Readers take a snapshot and work with it as long as they like; a
// writer publishes the next one. What a snapshot names stays loaded until the last one that names it is gone.

#include <memory>
#include <mutex>
#include <utility>

#include "runtime/model/model.hpp"

namespace troupe::model {

class live_models {
 public:
  explicit live_models(std::shared_ptr<const model_table> first = std::make_shared<const model_table>())
      : table_(std::move(first)) {}

  /// Never null. From any thread, once a batch: a lock that is held for a copy of the pointer.
  [[nodiscard]] std::shared_ptr<const model_table> current() const {
    const std::lock_guard lock(mutex_);
    return table_;
  }

  /// Returns the table that was in force.
  std::shared_ptr<const model_table> publish(std::shared_ptr<const model_table> next) {
    const std::lock_guard lock(mutex_);
    table_.swap(next);
    return next;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const model_table> table_;
};

}  // namespace troupe::model

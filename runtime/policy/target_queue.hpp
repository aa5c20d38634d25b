#pragma once
// target_queue: rows of one model and class, earliest target first (ties: earliest arrival).
//
// Rows of a class mostly arrive in the order of their targets, so they lie in a ring buffer and cost a copy
// in and a copy out. One that comes a little out of order is moved up by a few places; one that comes far out
// of order goes to a binary heap beside the ring (O(log n)), and the front is the earlier of the two fronts.
// Owns no row: handles are opaque. The ring keeps its memory once grown.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

/// One request that waits: `weight` rows of one model.
struct sla_item {
  void* handle = nullptr;    ///< the caller's
  std::uint32_t tag = 0;     ///< the caller's
  std::uint32_t weight = 1;  ///< rows
  nanos arrival = 0;
  nanos target = 0;      ///< absolute: by when the answer is in time
  nanos expiry = never;  ///< absolute: from when on there is no answer but an error
};

class target_queue {
 public:
  [[nodiscard]] bool empty() const { return count_ == 0 && heap_.empty(); }
  [[nodiscard]] std::size_t size() const { return count_ + heap_.size(); }

  void push(const sla_item& item) {
    if (count_ == 0 || !before(item, at(count_ - 1))) {
      append(item);
      return;
    }
    const std::size_t reach = std::min(count_, steps);
    std::size_t up = 1;
    while (up < reach && before(item, at(count_ - 1 - up))) ++up;
    if (up == reach && reach < count_ && before(item, at(count_ - 1 - up))) {
      heap_.push_back(item);
      std::push_heap(heap_.begin(), heap_.end(), after);
      return;
    }
    append(item);
    std::size_t place = count_ - 1;
    for (; up > 0; --up, --place) at(place) = at(place - 1);
    at(place) = item;
  }

  [[nodiscard]] const sla_item& front() const { return heap_first() ? heap_.front() : at(0); }

  void pop() {
    if (heap_first()) {
      std::pop_heap(heap_.begin(), heap_.end(), after);
      heap_.pop_back();
      return;
    }
    head_ = (head_ + 1) & (ring_.size() - 1);
    --count_;
  }

  /// Takes out every item for which `ends(item)` is true, in no particular order.
  template <class Ends>
  void remove_if(Ends ends) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count_; ++i)
      if (!ends(at(i))) at(kept++) = at(i);
    count_ = kept;
    if (std::erase_if(heap_, ends) != 0) std::make_heap(heap_.begin(), heap_.end(), after);
  }

 private:
  static constexpr std::size_t steps = 16;

  static bool before(const sla_item& a, const sla_item& b) {
    return a.target != b.target ? a.target < b.target : a.arrival < b.arrival;
  }
  static bool after(const sla_item& a, const sla_item& b) { return before(b, a); }

  [[nodiscard]] bool heap_first() const {
    return !heap_.empty() && (count_ == 0 || before(heap_.front(), at(0)));
  }
  [[nodiscard]] sla_item& at(std::size_t i) { return ring_[(head_ + i) & (ring_.size() - 1)]; }
  [[nodiscard]] const sla_item& at(std::size_t i) const { return ring_[(head_ + i) & (ring_.size() - 1)]; }

  void append(const sla_item& item) {
    if (count_ == ring_.size()) grow();
    ++count_;
    at(count_ - 1) = item;
  }

  void grow() {
    std::vector<sla_item> larger(std::max<std::size_t>(16, 2 * ring_.size()));
    for (std::size_t i = 0; i < count_; ++i) larger[i] = at(i);
    ring_.swap(larger);
    head_ = 0;
  }

  std::vector<sla_item> ring_;  // a power of two
  std::size_t head_ = 0;
  std::size_t count_ = 0;
  std::vector<sla_item> heap_;
};

}  // namespace troupe::policy

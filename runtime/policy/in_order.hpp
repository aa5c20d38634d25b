#pragma once
// in_order: items that arrive in any order leave in that of their numbers, and stay until they are settled.
//
//   seq      0    1    2    3    4    5    6        an offset_ledger's: without gaps
//   put      x    x    x    x    .    x    .
//            |         |         |
//            head      given     4 is missing: 5 waits for it
//
//   ready() = 2 (seq 2 and 3);  given() = 2 (0 and 1: left, not settled: take_back() would give them again)
//
// A transaction takes what is ready, settles it when it is committed, and takes it back when it is aborted.
// Complexity: one cell of a ring an item between the oldest that is missing or not settled and the newest,
// O(1) each.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe::policy {

/// `Item`: a pointer; null is an empty cell.
template <class Item>
class in_order {
 public:
  /// False, and nothing changes: it is here already, or was.
  bool put(std::uint64_t seq, Item item) {
    if (seq < head_) return false;
    while (seq - head_ >= cells_.size()) grow();
    Item& cell = at(seq);
    if (cell) return false;
    cell = item;
    ++waiting_;
    while (ready_to_ - head_ < cells_.size() && at(ready_to_)) ++ready_to_;
    return true;
  }

  [[nodiscard]] std::size_t ready() const { return static_cast<std::size_t>(ready_to_ - given_to_); }
  [[nodiscard]] std::size_t given() const { return static_cast<std::size_t>(given_to_ - head_); }
  /// The oldest that is not settled.
  [[nodiscard]] std::uint64_t head() const { return head_; }
  /// All that are here.
  [[nodiscard]] std::size_t size() const { return waiting_; }

  /// The next one in order; there must be a ready one.
  [[nodiscard]] Item give() { return at(given_to_++); }
  /// The one given last, which is not settled.
  [[nodiscard]] Item last_given() const { return cells_[(given_to_ - 1) & (cells_.size() - 1)]; }
  /// The last `n` that were given are ready again.
  void take_back(std::size_t n) { given_to_ -= n; }
  void take_back() { given_to_ = head_; }

  /// Forgets those that were given, in order.
  template <class F>
  void settle(F each) {
    for (; head_ != given_to_; ++head_) {
      Item& cell = at(head_);
      each(cell);
      cell = Item{};
      --waiting_;
    }
  }

  /// Forgets the first of those that were given.
  template <class F>
  void settle_first(F f) {
    Item& cell = at(head_++);
    f(cell);
    cell = Item{};
    --waiting_;
  }

  /// Forgets all that are here, in order.
  template <class F>
  void clear(F each) {
    for (std::uint64_t seq = head_; waiting_ > 0 && seq - head_ < cells_.size(); ++seq)
      if (Item& cell = at(seq); cell) {
        each(cell);
        cell = Item{};
        --waiting_;
      }
    given_to_ = ready_to_ = head_;
  }

 private:
  [[nodiscard]] Item& at(std::uint64_t seq) { return cells_[seq & (cells_.size() - 1)]; }

  void grow() {
    std::vector<Item> larger(cells_.empty() ? 64 : 2 * cells_.size());
    for (std::uint64_t seq = head_; seq - head_ < cells_.size(); ++seq)
      larger[seq & (larger.size() - 1)] = at(seq);
    cells_.swap(larger);
    while (ready_to_ - head_ < cells_.size() && at(ready_to_)) ++ready_to_;
  }

  std::vector<Item> cells_;  // a power of two
  std::uint64_t head_ = 0;
  std::uint64_t given_to_ = 0;
  std::uint64_t ready_to_ = 0;
  std::size_t waiting_ = 0;
};

}  // namespace troupe::policy

#pragma once
// bisection: which rows of a batch ended what scored it.
//
// The rows of a batch whose shard died are under suspicion. They are tried again in halves, halves of halves,
// and at last alone, breadth first: the innocent half of a batch is scored as soon as the guilty one is
// known, and a model that works shows it all along. A row that dies `kills` times alone is convicted; nobody
// is for what others did. One guilty row among n costs 1 + log2(n) + kills deaths at most. Where a death is a
// hang, each costs a thread and a time limit: then a batch is split into `hang_parts` at once.
//
// A model that ends whatever is given to it is no matter of rows: after `in_a_row` deaths without one row
// scored in between, trusted() is false until a row is scored.
//
// Holds handles; whatever died() keeps is handed back exactly once, by next(), take_if() or take_all(). A row
// is known by its address, which another row may have after it: of each row that next() gave, the end is
// told, by scored(), died() or forget().

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <unordered_map>
#include <vector>

namespace troupe::policy {

struct bisection_config {
  std::uint32_t kills = 2;
  std::uint32_t in_a_row = 64;
  std::size_t hang_parts = 8;
};

class bisection {
 public:
  using row = const void*;

  explicit bisection(const bisection_config& config = {}) : config_(config) {}

  /// What was tried died with `rows` (those of it that still matter). `alone`: it was one row. Keeps them,
  /// but for the one it appends to `convicted`.
  void died(std::span<const row> rows, bool alone, bool hung, std::vector<row>& convicted);
  /// These were scored, under suspicion or not.
  void scored(std::span<const row> rows);

  /// The group that is tried next, at most `most` (> 0) rows of it; empty when nobody is under suspicion.
  [[nodiscard]] std::vector<row> next(std::size_t most);
  /// Nothing more is known of a row: it is no longer wanted, or waits with all others again.
  void forget(row r) { killed_.erase(r); }
  /// Appends those that wait of which `which` says so, and forgets them.
  template <class Which>
  void take_if(const Which& which, std::vector<row>& out) {
    for (auto& g : groups_)
      std::erase_if(g, [&](row r) {
        if (!which(r)) return false;
        killed_.erase(r);
        out.push_back(r);
        return true;
      });
    std::erase_if(groups_, [](const auto& g) { return g.empty(); });
  }
  /// Appends all that wait and forgets them.
  void take_all(std::vector<row>& out);

  [[nodiscard]] bool empty() const { return groups_.empty(); }
  /// Rows that something is known of: those that wait here, and those whose deaths alone are counted.
  [[nodiscard]] std::size_t known() const;
  [[nodiscard]] bool trusted() const { return in_a_row_ < config_.in_a_row; }

 private:
  bisection_config config_;
  std::deque<std::vector<row>> groups_;
  std::unordered_map<row, std::uint32_t> killed_;  // alone
  std::uint32_t in_a_row_ = 0;
};

}  // namespace troupe::policy

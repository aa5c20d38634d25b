#pragma once
// Batches over HTTP (docs/batches.md): submit, list, look at, fetch, cancel and remove.
//
//   POST   /v2/batches?model=NAME[&version=V][&format=jsonl|csv]    202, Location
//   GET    /v2/batches                  {"batches": [...]}, the newest first
//   GET    /v2/batches/{id}
//   GET    /v2/batches/{id}/results     JSON lines; byte ranges
//   DELETE /v2/batches/{id}             cancels it; when it has ended, removes it
//
// A batch belongs to the client that submitted it: others are told that there is none, but for
// administrators. Where nobody is asked who they are, all batches are everybody's.

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/door/backend.hpp"
#include "runtime/door/caller.hpp"
#include "runtime/door/paths.hpp"
#include "runtime/http/exchange.hpp"

namespace troupe::batches {
class service;
}

namespace troupe::serving {

class batch_pages {
 public:
  /// Null: there are none, and every path of theirs says how to have them. Both must live as long. `rules`
  /// may be null: nobody is asked; `cls`: the name of the class of all lines.
  batch_pages(batches::service* of, backend& models, std::shared_ptr<const caller_rules> rules = nullptr,
              std::string cls = {});
  /// What has not been answered yet ends with 503.
  ~batch_pages();
  batch_pages(const batch_pages&) = delete;
  batch_pages& operator=(const batch_pages&) = delete;

  /// Any thread; replies later, from a thread of its own that may wait for the disk. `who` null: anybody.
  void take(http::exchange_ptr e, const destination& to, guard::client_ptr who = nullptr);

  /// Results that are longer than this come in ranges only.
  static constexpr std::uint64_t longest_reply = std::uint64_t{64} << 20;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::serving

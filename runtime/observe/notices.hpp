#pragma once
// notices: what stands against the actors of a node at the moment, in words for people: a breaker that is
// open, a child that is down. One a node; an actor raises its notice and clears it, readiness and the
// supervision tree show all. A notice is of one actor, by its name in the tree; a later one takes its place.
// Any thread may call.

#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "messages/batch.hpp"

namespace troupe::observe {

struct notice {
  std::string what;  ///< after the actor's name: "is down"
  std::string next;  ///< what happens next, "next probe"; empty: nothing is known
  nanos at = 0;      ///< when, on the node's steady clock
};

/// "is down; next start in 42 s"; "next start due" when its time has come.
[[nodiscard]] std::string in_words(const notice& n, nanos now);

class notices {
 public:
  void raise(const std::string& actor, notice n);
  void clear(const std::string& actor);
  [[nodiscard]] std::map<std::string, notice> all() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, notice> all_;
};

}  // namespace troupe::observe

#pragma once
// Actors with a thread of their own. CAF's workers are as many as cores and take runnable actors in turn,
// each for as long as it has messages: a request that passes four actors would wait four times behind all the
// polls and batches of bulk. A thread of its own is woken when a message comes, and the kernel lets it go
// before those that have long had a core. A thread has the priority of the one that starts it, and workers
// have a lower one: so whoever starts actors with threads (the supervisor) has one as well.

#include <atomic>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "messages/caf.hpp"

namespace troupe::caf_line {

/// An actor was without its thread once. CAF counts it as running for ever: its system must not be waited
/// for.
inline std::atomic<bool>& thread_was_missing() {
  static std::atomic<bool> missing{false};
  return missing;
}

/// system.spawn(behavior, arguments...) on a thread of its own; as any other actor under the deterministic
/// scheduler. Throws std::runtime_error where there is no thread to be had.
template <class... Arguments>
auto spawn_on_own_thread(system& s, Arguments&&... arguments) {
  const auto policy = caf::get_or(s.config(), "scheduler.policy", caf::atom("sharing"));
  if (policy == caf::atom("testing")) return s.spawn(std::forward<Arguments>(arguments)...);
  try {
    return s.spawn<caf::detached>(std::forward<Arguments>(arguments)...);
  } catch (const std::system_error& e) {
    thread_was_missing() = true;
    throw std::runtime_error(std::string("no thread to be had (") + e.code().message() +
                             "): each version of a model has scheduler.slots of them and one more; set "
                             "scheduler.slots lower, load fewer versions, or raise the limit of processes");
  }
}

}  // namespace troupe::caf_line

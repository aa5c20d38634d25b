#include "runtime/observe/notices.hpp"

#include <utility>

namespace troupe::observe {

std::string in_words(const notice& n, nanos now) {
  if (n.next.empty()) return n.what;
  constexpr nanos second = 1'000'000'000;
  const nanos left = n.at - now;
  const nanos up = (left + second - 1) / second;
  return n.what + "; " + n.next + (left <= 0 ? " due" : " in " + std::to_string(up) + " s");
}

void notices::raise(const std::string& actor, notice n) {
  const std::lock_guard lock(mutex_);
  all_[actor] = std::move(n);
}

void notices::clear(const std::string& actor) {
  const std::lock_guard lock(mutex_);
  all_.erase(actor);
}

std::map<std::string, notice> notices::all() const {
  const std::lock_guard lock(mutex_);
  return all_;
}

}  // namespace troupe::observe

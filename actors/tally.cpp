#include "actors/tally.hpp"

#include "runtime/observe/metrics.hpp"
#include "runtime/observe/trace.hpp"

namespace troupe {

void delivery_tally::add(const answer& a, nanos now) {
  const record& r = *a.request;
  const bool late = !a.dead && now > r.target;
  const bool dead = a.dead && !a.parked;
  if (!lines_.empty()) {
    line& l = lines_.back();
    if (l.batch == r.batch && l.model == r.model && l.code == a.code && l.cls == r.cls && l.dead == dead) {
      ++l.count;
      l.late += late;
      l.rows += r.rows;
      if (r.trace && l.trace.empty()) l.trace = r.trace->id();
      return;
    }
  }
  lines_.push_back({r.batch, r.model, a.code, dead, r.batch->via, r.cls, now - r.batch->arrived, 1,
                    static_cast<std::size_t>(late), r.rows, r.trace ? r.trace->id() : std::string()});
}

void delivery_tally::report(observe::metrics& metrics) {
  for (const line& l : lines_)
    metrics.answered({l.model, l.via, l.cls, l.code, l.dead, l.count, l.late, l.rows,
                      static_cast<double>(l.took) * 1e-9, l.trace});
  lines_.clear();
}

}  // namespace troupe

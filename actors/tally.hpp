#pragma once
// Counts delivered answers by what their metrics share, so that a drain of thousands of delivery reports
// costs a handful of metric updates.

#include <string>
#include <vector>

#include "messages/messages.hpp"

namespace troupe::observe {
class metrics;
}

namespace troupe {

class delivery_tally {
 public:
  void add(const answer& a, nanos now);
  /// Reports what was added since the last call.
  void report(observe::metrics& metrics);

 private:
  struct line {
    const record_batch* batch;
    const model::loaded_model* model;
    error_code code;
    bool dead;
    door via;
    std::uint8_t cls;
    nanos took;
    std::size_t count;
    std::size_t late;
    std::size_t rows;
    std::string trace;  ///< id of one of them that is traced
  };
  std::vector<line> lines_;
};

}  // namespace troupe

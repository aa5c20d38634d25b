#pragma once
// Gathers what is wrong with the parts of a file, so that all of it is told at once.

#include <string>

#include "runtime/model/model.hpp"

namespace troupe::model {

class load_mistakes {
 public:
  /// Notes the load_error of one part; the next ones are looked at all the same.
  template <class F>
  void attempt(F part) {
    try {
      part();
    } catch (const load_error& e) {
      lines_ += (lines_.empty() ? "" : "\n") + std::string(e.what());
    }
  }
  /// Throws a load_error with all that was noted, a line each, if there is anything.
  void end() const {
    if (!lines_.empty()) throw load_error(lines_);
  }

 private:
  std::string lines_;
};

}  // namespace troupe::model

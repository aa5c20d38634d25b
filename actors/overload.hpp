#pragma once
// Requests that were refused because more come than can be scored: counted by one actor, told by a line in
// the log now and then, which names the class and the option that refused them.

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "messages/batch.hpp"

namespace troupe {

class overload {
 public:
  /// `option` refused `count` more. `cls` is empty for those that were not read.
  void refused(std::string_view component, std::string_view option, std::string_view cls, std::size_t count,
               nanos now);

 private:
  static constexpr nanos pause = 30'000'000'000;
  struct spell {
    nanos next = 0;
    std::size_t count = 0;
  };
  std::map<std::pair<std::string, std::string>, spell> spells_;
};

}  // namespace troupe

#include "actors/overload.hpp"

#include "runtime/observe/log.hpp"

namespace troupe {

void overload::refused(std::string_view component, std::string_view option, std::string_view cls,
                       std::size_t count, nanos now) {
  if (count == 0) return;
  auto& s = spells_[{std::string(option), std::string(cls)}];
  s.count += count;
  if (now < s.next) return;
  s.next = now + pause;
  observe::fields more = {{"option", std::string(option)},
                          {"count", std::to_string(std::exchange(s.count, 0))}};
  if (!cls.empty()) more.emplace_back("class", cls);
  observe::log(observe::level::warn, component, "overload",
               "requests are refused: more come than can be scored", more);
}

}  // namespace troupe

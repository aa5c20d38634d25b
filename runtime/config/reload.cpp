#include "runtime/config/reload.hpp"

#include <utility>

#include "runtime/config/option_list.hpp"

namespace troupe::config {
namespace {

std::string classes_text(settings& s) {
  std::string all;
  for (auto& c : s.classes) {
    all += c.name;
    for (const auto& field : bind(c)) all += "," + field.get();
    all += ";";
  }
  return all;
}

}  // namespace

std::vector<change> changes(settings before, settings now) {
  std::vector<change> found;
  const auto old_list = bind(before);
  const auto new_list = bind(now);
  for (std::size_t i = 0; i < old_list.size(); ++i) {
    const option& o = old_list[i].doc;
    change c{o.key, {}, {}, o.live};
    bool same = true;
    if (o.type == value_type::map) {
      same = before.kafka.properties == now.kafka.properties;
    } else if (o.type == value_type::classes) {
      same = classes_text(before) == classes_text(now);
    } else if (o.type == value_type::rollouts) {
      same = before.rollout == now.rollout;
    } else {
      c.before = old_list[i].get();
      c.now = new_list[i].get();
      same = c.before == c.now;
      if (o.secret) c.before = c.now = "***";
    }
    if (!same) found.push_back(std::move(c));
  }
  return found;
}

settings with_live(settings in_force, settings now) {
  auto old_list = bind(in_force);
  const auto new_list = bind(now);
  for (std::size_t i = 0; i < old_list.size(); ++i)
    if (old_list[i].doc.live && old_list[i].set) old_list[i].set(new_list[i].get());
  in_force.rollout = std::move(now.rollout);
  return in_force;
}

}  // namespace troupe::config

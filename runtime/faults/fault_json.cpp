#include "runtime/faults/fault_json.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/config/units.hpp"

namespace troupe::faults {
namespace {

using json = nlohmann::ordered_json;

std::string time_text(nanos n) {
  constexpr nanos millisecond = 1'000'000;
  return config::format_duration(std::max<nanos>(0, n) / millisecond * millisecond);
}

/// What was asked for beside the name and the duration; without what changes nothing.
json fields_of(const fault& f) {
  json j = json::object();
  const kind_info& of = info(f.what);
  for (std::size_t i = 0; i < of.field_count; ++i) {
    const std::string key(name_of(of.fields[i]));
    switch (of.fields[i]) {
      case field::actor:
        j[key] = f.actor;
        break;
      case field::model:
        if (!f.model.empty()) j[key] = f.model;
        break;
      case field::version:
        if (!f.version.empty()) j[key] = f.version;
        break;
      case field::probability:
        j[key] = f.probability;
        break;
      case field::delay:
        j[key] = config::format_duration(f.delay);
        break;
      case field::every:
        if (f.every > 0) j[key] = config::format_duration(f.every);
        break;
      case field::shift:
        j[key] = (f.shift < 0 ? "-" : "") + config::format_duration(f.shift < 0 ? -f.shift : f.shift);
        break;
      case field::size:
        j[key] = config::format_size(f.size);
        break;
    }
  }
  return j;
}

json json_of(const report& r, nanos now) {
  const bool over = !r.ended.empty();
  json j = {{"id", r.id}, {"fault", info(r.what.what).name}, {"state", over ? "ended" : "active"}};
  j["point"] = name_of(info(r.what.what).at);
  j.update(fields_of(r.what));
  if (!at_once(r.what)) j["duration"] = config::format_duration(r.what.duration);
  if (over) {
    j["ended"] = r.ended;
    j["lasted"] = time_text(r.until - r.began);
  } else {
    j["remaining"] = time_text(r.until - now);
  }
  j["strikes"] = r.strikes;
  return j;
}

std::string dump(const json& j) {
  return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

std::string report_json(const report& r, nanos now) {
  return dump(json_of(r, now));
}

std::string reports_json(const std::vector<report>& all, nanos now) {
  json list = json::array();
  for (const auto& r : all) list.push_back(json_of(r, now));
  return dump(json({{"faults", list}}));
}

std::string fields_json(const fault& f) {
  return dump(fields_of(f));
}

std::string in_words(const fault& f) {
  std::string text(info(f.what).name);
  std::string more;
  const json fields = fields_of(f);
  for (const auto& [key, value] : fields.items()) {
    if (key == "probability" && f.probability >= 1) continue;
    more += (more.empty() ? "" : ", ") + key + " " +
            (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return more.empty() ? text : text + " (" + more + ")";
}

}  // namespace troupe::faults

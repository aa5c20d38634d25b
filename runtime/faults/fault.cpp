#include "runtime/faults/fault.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "runtime/config/units.hpp"
#include "runtime/policy/nearest.hpp"

namespace troupe::faults {
namespace {

using nlohmann::json;

constexpr nanos second = 1'000'000'000;
constexpr nanos shortest = 10'000'000;  // of a fault, and of the pause between two strikes

constexpr kind_info make(kind what, std::string_view name, point at, std::string_view does) {
  return {what, name, at, {}, 0, does};
}
template <class... Fields>
constexpr kind_info make(kind what, std::string_view name, point at, std::string_view does, Fields... f) {
  return {what, name, at, {f...}, sizeof...(f), does};
}

constexpr std::array table = {
    make(kind::actor_crash, "actor_crash", point::actor, "an actor ends with an exception", field::actor,
         field::every),
    make(kind::shard_delay, "shard_delay", point::score, "a batch is scored late", field::model,
         field::version, field::probability, field::delay),
    make(kind::shard_fail, "shard_fail", point::score, "the engine fails on every request of a batch",
         field::model, field::version, field::probability),
    make(kind::shard_hang, "shard_hang", point::score, "a batch is not scored before the fault ends",
         field::model, field::version, field::probability),
    make(kind::redis_cut, "redis_cut", point::cache, "connections to Redis break, new ones are refused"),
    make(kind::redis_slow, "redis_slow", point::cache, "Redis' answers come late", field::delay),
    make(kind::redis_corrupt, "redis_corrupt", point::cache, "answers of Redis are garbled",
         field::probability),
    make(kind::kafka_cut, "kafka_cut", point::link, "connections to Kafka break, new ones are refused"),
    make(kind::kafka_slow, "kafka_slow", point::link, "the brokers' answers come late", field::delay),
    make(kind::kafka_corrupt, "kafka_corrupt", point::link, "the framing of brokers' answers is garbled",
         field::probability),
    make(kind::registry_cut, "registry_cut", point::registry,
         "connections to the registry break, new ones are refused"),
    make(kind::registry_slow, "registry_slow", point::registry, "the registry's answers come late",
         field::delay),
    make(kind::registry_corrupt, "registry_corrupt", point::registry, "answers of the registry are garbled",
         field::probability),
    make(kind::report_drop, "report_drop", point::produce,
         "delivery reports are lost, then read as not delivered", field::probability),
    make(kind::report_duplicate, "report_duplicate", point::produce, "delivery reports come twice",
         field::probability),
    make(kind::rebalance_storm, "rebalance_storm", point::consume,
         "the consumer leaves its group and joins it again", field::every),
    make(kind::clock_jump, "clock_jump", point::process,
         "the wall clock that tells how old a record is stands off", field::shift),
    make(kind::memory_pressure, "memory_pressure", point::process, "memory is taken and touched",
         field::size),
    make(kind::freeze, "freeze", point::process, "the whole process stands still (SIGSTOP)"),
};

constexpr std::array<std::string_view, 8> field_names = {"actor", "model", "version", "probability",
                                                         "delay", "every", "shift",   "size"};
constexpr std::array<std::string_view, 8> point_names = {"actor",    "score",   "cache",   "link",
                                                         "registry", "produce", "consume", "process"};

[[noreturn]] void bad(std::string_view key, const std::string& what) {
  throw bad_fault({{std::string(key), what}});
}

std::string text_of(std::string_view key, const json& v) {
  if (v.is_string()) return v.get<std::string>();
  if (v.is_number()) return v.dump();
  bad(key, "expected a text");
}

/// Whose bound it is: " (this node's faults.max_duration)".
std::string owner(const limits& bounds, std::string_view option) {
  return (bounds.of_a_node ? " (this node's " : " (the most that a node can set as its ") +
         std::string(option) + ")";
}

nanos duration_of(std::string_view key, const json& v, nanos least, nanos most, std::string_view whose = {}) {
  const auto n = v.is_string() || (v.is_number_integer() && v == 0) ? config::parse_duration(text_of(key, v))
                                                                    : std::nullopt;
  if (!n || *n < least || *n > most)
    bad(key, "expected a duration from " + config::format_duration(least) + " to " +
                 config::format_duration(most) + std::string(whose) +
                 (n ? "" : ", written like 200ms or 30s") + ", not " + v.dump());
  return *n;
}

nanos shift_of(const json& v) {
  std::string text = v.is_string() ? v.get<std::string>() : std::string();
  const bool back = text.starts_with("-");
  if (back || text.starts_with("+")) text.erase(0, 1);
  const auto n = config::parse_duration(text);
  constexpr nanos most = 366 * 24 * 3'600 * second;
  if (!n || *n == 0 || *n > most)
    bad("shift", "expected a duration from -" + config::format_duration(most) + " to " +
                     config::format_duration(most) + (n ? "" : ", written like 1h or -5m") +
                     (n && *n == 0 ? ", and not 0" : ", not " + v.dump()));
  return back ? -*n : *n;
}

void set(fault& f, field which, std::string_view key, const json& v, const limits& bounds) {
  switch (which) {
    case field::actor:
      f.actor = text_of(key, v);
      break;
    case field::model:
      f.model = text_of(key, v);
      break;
    case field::version:
      f.version = text_of(key, v);
      if (f.version.size() > 1 && f.version[0] == 'v' &&
          f.version.find_first_not_of("0123456789", 1) == std::string::npos)
        f.version.erase(0, 1);
      break;
    case field::probability:
      if (!v.is_number() || !(v.get<double>() > 0) || !(v.get<double>() <= 1))
        bad(key, "expected a number above 0, at most 1, not " + v.dump());
      f.probability = v.get<double>();
      break;
    case field::delay:
      f.delay = duration_of(key, v, 1'000'000, 60 * second);
      break;
    case field::every:
      f.every = duration_of(key, v, 10 * shortest, bounds.max_duration, owner(bounds, "faults.max_duration"));
      break;
    case field::shift:
      f.shift = shift_of(v);
      break;
    case field::size: {
      const auto n =
          v.is_string() || v.is_number_unsigned() ? config::parse_size(text_of(key, v)) : std::nullopt;
      if (!n || *n == 0 || *n > bounds.max_size)
        bad(key, "expected a size from 1 to " + config::format_size(bounds.max_size) +
                     owner(bounds, "faults.max_memory") + (n ? "" : ", written like 256MiB") + ", not " +
                     v.dump());
      f.size = *n;
      break;
    }
  }
}

const kind_info& named(const json& v) {
  std::vector<std::string> known;
  for (const auto& k : table) known.emplace_back(k.name);
  const std::string name = v.is_string() ? v.get<std::string>() : v.dump();
  for (const auto& k : table)
    if (k.name == name) return k;
  bad("fault", "unknown: " + shown(name) + "; " + meant(name, known) + "known: " + listed(known));
}

std::string in_one_line(const std::vector<field_mistake>& all) {
  std::string text;
  for (const auto& m : all)
    text += (text.empty() ? "" : "; ") + m.field + (m.field.empty() ? "" : ": ") + m.what;
  return text;
}

/// The kind alone, so that what does not depend on it can be looked at where it is none.
const kind_info* kind_of(const json& wanted, std::vector<field_mistake>& wrong) {
  try {
    return &named(wanted["fault"]);
  } catch (const bad_fault& e) {
    wrong = e.all;
    return nullptr;
  }
}

}  // namespace

bad_fault::bad_fault(std::vector<field_mistake> mistakes)
    : std::invalid_argument(in_one_line(mistakes)), all(std::move(mistakes)) {}

std::string shown(std::string_view name) {
  return std::string(name.substr(0, 64));
}

std::string meant(std::string_view word, const std::vector<std::string>& known) {
  const std::string near = policy::nearest(shown(word), known, 3);
  return near.empty() ? std::string() : "did you mean " + near + "? ";
}

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t most = 30;
  std::string all;
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) all += (i == 0 ? "" : ", ") + names[i];
  return names.size() > most ? all + " and " + std::to_string(names.size() - most) + " more" : all;
}

std::span<const kind_info> kinds() {
  return table;
}

const kind_info& info(kind what) {
  return table.at(static_cast<std::size_t>(what) - 1);
}

bool at_once(const fault& f) {
  return f.what == kind::actor_crash && f.every == 0;
}

std::string_view name_of(point p) {
  return point_names[static_cast<std::size_t>(p)];
}

std::string_view name_of(field f) {
  return field_names[static_cast<std::size_t>(f)];
}

fault parse_fault(std::string_view text, const limits& bounds, const std::vector<std::string>& beside) {
  const json wanted = json::parse(text, nullptr, false);
  if (!wanted.is_object() || !wanted.contains("fault")) {
    std::vector<std::string> known;
    for (const auto& k : table) known.emplace_back(k.name);
    bad("", R"(expected {"fault": "NAME", ...}; known: )" + listed(known));
  }
  std::vector<field_mistake> wrong;
  const kind_info* of = kind_of(wanted, wrong);
  fault f;
  f.duration = std::min(f.duration, bounds.max_duration);
  std::vector<std::string> allowed = {"fault", "duration"};
  std::span<const field> mine;
  if (of) {
    f.what = of->what;
    mine = std::span(of->fields).first(of->field_count);
    for (const field one : mine) allowed.emplace_back(name_of(one));
    allowed.insert(allowed.end(), beside.begin(), beside.end());
  }
  if (f.what == kind::rebalance_storm) f.every = usual_storm;
  for (const auto& [key, value] : wanted.items()) {
    try {
      if (key == "duration") {
        f.duration =
            duration_of(key, value, shortest, bounds.max_duration, owner(bounds, "faults.max_duration"));
      } else if (key != "fault" && of) {
        const auto at = std::find(field_names.begin(), field_names.end(), key);
        const auto which = static_cast<field>(at - field_names.begin());
        if (at == field_names.end() || std::find(mine.begin(), mine.end(), which) == mine.end())
          bad(shown(key), "no field of " + std::string(of->name) + "; " + meant(key, allowed) +
                              "allowed: " + listed(allowed));
        set(f, which, key, value, bounds);
      }
    } catch (const bad_fault& e) {
      wrong.insert(wrong.end(), e.all.begin(), e.all.end());
    }
  }
  // A field that was refused is not missing too.
  const auto refused = [&wrong](std::string_view key) {
    return std::any_of(wrong.begin(), wrong.end(), [key](const field_mistake& m) { return m.field == key; });
  };
  const auto need = [&](const char* key, bool there, const char* what) {
    if (!there && !refused(key)) wrong.push_back({key, what});
  };
  if (f.what == kind::actor_crash)
    need("actor", !f.actor.empty(), "missing: a name from /admin/tree, or random");
  if (f.what == kind::clock_jump) need("shift", f.shift != 0, "missing: such as 1h or -5m");
  if (f.what == kind::memory_pressure) need("size", f.size != 0, "missing: such as 256MiB");
  if (!refused("model")) need("version", f.version.empty() || !f.model.empty(), "needs a model beside it");
  if (!wrong.empty()) throw bad_fault(std::move(wrong));
  return f;
}

}  // namespace troupe::faults

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/fault/client.hpp"
#include "runtime/config/units.hpp"
#include "runtime/faults/fault.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

std::string details(const json& f) {
  std::string all;
  for (const char* key : {"actor", "model", "version", "probability", "delay", "every", "shift", "size"})
    if (f.contains(key) && f[key] != 1.0)  // of a probability: always
      all += (all.empty() ? "" : " ") + std::string(key) + "=" +
             (f[key].is_string() ? f[key].get<std::string>() : f[key].dump());
  return all;
}

/// A duration as the node writes it, for people: 28s563ms is 28.6 s.
std::string for_people(const std::string& duration) {
  const auto n = config::parse_duration(duration);
  return n ? span_text(static_cast<double>(*n) * 1e-9) : duration;
}

/// How one ended; empty while it is active.
std::string end_of(const json& f) {
  if (!f.contains("ended")) return {};
  const std::string lasted = f.value("lasted", "0");
  return f["ended"].get<std::string>() + (lasted == "0" ? "" : " after " + for_people(lasted));
}

}  // namespace

int fault_list(const fault_options& o) {
  const std::string got = fault_client(o).get("/admin/faults");
  if (o.common.json) {
    std::printf("%s", got.c_str());
    return ok;
  }
  const json all = json::parse(got);
  std::printf("%4s  %-18s %-8s %8s %9s  %s\n", "ID", "FAULT", "STATE", "LEFT", "STRIKES", "FIELDS; END");
  for (const auto& f : all.at("faults")) {
    const std::string fields = details(f);
    const std::string end = end_of(f);
    std::printf("%4llu  %-18s %-8s %8s %9llu  %s%s%s\n", f.at("id").get<unsigned long long>(),
                f.at("fault").get<std::string>().c_str(), f.at("state").get<std::string>().c_str(),
                f.contains("remaining") ? for_people(f["remaining"]).c_str() : "-",
                f.at("strikes").get<unsigned long long>(), fields.c_str(),
                fields.empty() || end.empty() ? "" : "; ", end.c_str());
  }
  return ok;
}

int fault_inject(const fault_options& o) {
  json body = {{"fault", o.name}};
  const std::pair<const char*, const std::string*> fields[] = {
      {"actor", &o.actor}, {"model", &o.model}, {"version", &o.version}, {"delay", &o.delay},
      {"every", &o.every}, {"shift", &o.shift}, {"size", &o.size},       {"duration", &o.duration}};
  for (const auto& [key, text] : fields)
    if (!text->empty()) body[key] = *text;
  if (!o.probability.empty()) {
    body["probability"] = json::parse(o.probability, nullptr, false);
    if (!body["probability"].is_number()) body["probability"] = o.probability;  // its reader says so
  }
  try {
    (void)faults::parse_fault(body.dump(), faults::widest);
  } catch (const faults::bad_fault& e) {
    std::string lines;
    for (const auto& m : e.all)
      lines += (lines.empty() ? "" : "\n") + (m.field == "fault" ? "NAME" : "--" + m.field) + ": " + m.what;
    throw usage_error(lines);
  }
  const std::string got = fault_client(o).post("/admin/faults", body.dump());
  if (o.common.json) {
    std::printf("%s", got.c_str());
    return ok;
  }
  const json f = json::parse(got);
  if (f.contains("ended"))
    std::printf("%s: done, %s\n", o.name.c_str(), details(f).c_str());
  else
    std::printf("%s: fault %llu for %s; end it earlier with troupe fault stop %llu\n", o.name.c_str(),
                f.at("id").get<unsigned long long>(), f.at("duration").get<std::string>().c_str(),
                f.at("id").get<unsigned long long>());
  return ok;
}

int fault_stop(const fault_options& o) {
  if (o.all && !o.id.empty())
    throw usage_error("ID and --all: give one of them, " + o.id +
                      " for that fault alone or --all for every one");
  if (!o.all && o.id.empty())
    throw usage_error("which fault? give its ID (troupe fault list shows them), or --all");
  if (o.id.find_first_not_of("0123456789") != std::string::npos)
    throw usage_error("ID: expected a number as troupe fault list shows it, not " + o.id);
  const std::string got = fault_client(o).remove(o.all ? "/admin/faults" : "/admin/faults/" + o.id);
  if (o.common.json)
    std::printf("%s", got.c_str());
  else
    std::printf("stopped: %llu\n", json::parse(got).at("stopped").get<unsigned long long>());
  return ok;
}

}  // namespace troupe::cli

// The features of a model.yaml, as preprocess.hpp says.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <utility>

#include "runtime/model/load_mistakes.hpp"
#include "runtime/model/preprocess.hpp"

namespace troupe::model {
namespace {

constexpr std::size_t most_category_bytes = 256;

class reader {
 public:
  reader(const std::filesystem::path& file, load_mistakes& wrong) : file_(file), wrong_(wrong) {}

  /// What is wrong with its keys is noted, each.
  [[nodiscard]] preprocessing::feature feature(const YAML::Node& n) const;

  [[noreturn]] void fail(const YAML::Node& at, const std::string& what) const {
    throw load_error(file_.string() + ":" + std::to_string(at.Mark().line + 1) + ": " + what);
  }

 private:
  [[nodiscard]] double number(const YAML::Node& n, const std::string& key) const {
    double x = 0;
    if (!n.IsScalar() || !YAML::convert<double>::decode(n, x) || !std::isfinite(x))
      fail(n, key + " is not a finite number; write one");
    return x;
  }
  void categories(const YAML::Node& n, const std::string& key, cell_rule& rule) const;
  [[nodiscard]] double category(const YAML::Node& n, const std::string& key, const cell_rule& rule) const {
    const double at = n.IsScalar() ? rule.number_of(n.Scalar()) : cell_rule::none;
    if (std::isnan(at)) fail(n, key + " is none of the categories; write " + rule.allowed());
    return at;
  }

  /// Reads the key where it is there; what is wrong with it is noted.
  template <class F>
  void each(const YAML::Node& map, const char* key, F read) const {
    if (const YAML::Node n = map[key]) wrong_.attempt([&] { read(n); });
  }

  std::filesystem::path file_;
  load_mistakes& wrong_;
};

void reader::categories(const YAML::Node& n, const std::string& key, cell_rule& rule) const {
  if (!n.IsSequence() || n.size() == 0) fail(n, key + " is not a list of texts; write [red, green]");
  std::set<std::string> seen;
  for (const auto& each : n) {
    if (!each.IsScalar()) fail(each, key + " holds what is no text; put it into quotes");
    if (each.Scalar().size() > most_category_bytes)
      fail(each,
           key + " holds a text of more than " + std::to_string(most_category_bytes) + " bytes; shorten it");
    if (!seen.insert(each.Scalar()).second)
      fail(each, key + " holds '" + each.Scalar() + "' twice; take one out");
    rule.categories.push_back(each.Scalar());
  }
  rule.index();
}

preprocessing::feature reader::feature(const YAML::Node& n) const {
  constexpr std::string_view known[] = {"name", "default", "minimum",    "maximum", "outside",
                                        "mean", "scale",   "categories", "encode",  "unknown"};
  constexpr std::string_view keys =
      "name, default, minimum, maximum, outside, mean, scale, categories, encode, unknown";
  preprocessing::feature made;
  if (n.IsScalar()) {
    made.name = n.Scalar();
    if (made.name.empty()) fail(n, "features holds an empty name; write one");
    return made;
  }
  if (!n.IsMap()) fail(n, "features is a list of names and mappings; write a name or {name: ...}");
  std::set<std::string> seen;
  for (const auto& entry : n)
    wrong_.attempt([&] {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
      if (std::find(std::begin(known), std::end(known), key) == std::end(known))
        fail(entry.first, "unknown key " + key + " of a feature; it can hold " + std::string(keys));
      if (!seen.insert(key).second) fail(entry.first, key + " is there twice; take one out");
    });
  if (!n["name"] || !n["name"].IsScalar() || n["name"].Scalar().empty())
    fail(n, "a feature has no name; add name: ...");
  made.name = n["name"].Scalar();
  const std::string of = "feature " + made.name + ": ";
  auto rule = std::make_shared<cell_rule>();
  if (n["categories"]) {
    for (const char* key : {"minimum", "maximum", "outside", "mean", "scale"})
      each(n, key, [&](const YAML::Node& v) {
        fail(v, of + key + " is of numbers, and it has categories; take one of them out");
      });
    wrong_.attempt([&] {
      categories(n["categories"], of + "categories", *rule);
      each(n, "default", [&](const YAML::Node& v) { rule->missing = category(v, of + "default", *rule); });
      each(n, "unknown", [&](const YAML::Node& u) {
        const bool category_called_so = u.IsScalar() && !std::isnan(rule->number_of(u.Scalar()));
        if (category_called_so || !u.IsScalar() || (u.Scalar() != "reject" && u.Scalar() != "ignore"))
          rule->unknown = category(u, of + "unknown (reject, ignore or a category)", *rule);
        else if (u.Scalar() == "ignore")
          rule->unknown = -1;
      });
    });
    each(n, "encode", [&](const YAML::Node& e) {
      if (!e.IsScalar() || (e.Scalar() != "ordinal" && e.Scalar() != "one_hot"))
        fail(e, of + "encode is ordinal or one_hot; write one of them");
      made.one_hot = e.Scalar() == "one_hot";
    });
    made.rule = std::move(rule);
    return made;
  }
  for (const char* key : {"encode", "unknown"})
    each(n, key, [&](const YAML::Node& v) {
      fail(v, of + key + " is of categories, and it has none; add categories: [...]");
    });
  wrong_.attempt([&] {  // a default is looked at within bounds that are right
    if (n["minimum"]) rule->minimum = number(n["minimum"], of + "minimum");
    if (n["maximum"]) rule->maximum = number(n["maximum"], of + "maximum");
    if (rule->minimum > rule->maximum) fail(n["minimum"], of + "minimum is above maximum; exchange them");
    if (!n["default"]) return;
    const double x = number(n["default"], of + "default");
    if (x < rule->minimum || x > rule->maximum)
      fail(n["default"], of + "default is outside of the bounds; write a number " + rule->allowed());
    rule->missing = x;
  });
  each(n, "outside", [&](const YAML::Node& o) {
    if (!o.IsScalar() || (o.Scalar() != "reject" && o.Scalar() != "clip"))
      fail(o, of + "outside is reject or clip; write one of them");
    if (!n["minimum"] && !n["maximum"]) fail(o, of + "outside of no bounds; add minimum: or maximum:");
    rule->clip = o.Scalar() == "clip";
  });
  each(n, "mean", [&](const YAML::Node& v) { made.mean = number(v, of + "mean"); });
  each(n, "scale", [&](const YAML::Node& v) {
    made.scale = number(v, of + "scale");
    if (made.scale == 0) fail(v, of + "scale is 0; take it out, or write what x - mean is divided by");
  });
  if (n["minimum"] || n["maximum"] || n["default"]) made.rule = std::move(rule);
  return made;
}

}  // namespace

std::unique_ptr<const preprocessing> read_preprocessing(std::string_view text,
                                                        const std::filesystem::path& file) {
  load_mistakes wrong;
  const reader r(file, wrong);
  const YAML::Node root = YAML::Load(std::string(text));
  if (!root.IsMap()) return nullptr;
  const YAML::Node list = root["features"];
  if (!list || !list.IsSequence() ||
      std::none_of(list.begin(), list.end(), [](const auto& n) { return n.IsMap(); }))
    return nullptr;
  std::vector<preprocessing::feature> made;
  std::set<std::string> seen;
  for (const auto& each : list)
    wrong.attempt([&] {
      made.push_back(r.feature(each));
      if (!seen.insert(made.back().name).second)
        r.fail(each, "feature " + made.back().name + " is there twice; take one out");
    });
  wrong.end();
  try {
    return std::make_unique<const preprocessing>(std::move(made));
  } catch (const load_error& e) {
    r.fail(list, e.what());
  }
}

}  // namespace troupe::model

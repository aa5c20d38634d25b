#include "runtime/model/skops.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/model/build.hpp"
#include "runtime/model/npy.hpp"
#include "runtime/model/zip.hpp"

namespace troupe::model {
namespace {

using nlohmann::json;

constexpr int most_nesting = 16;
constexpr std::size_t most_schema_bytes = 256U << 20;

[[noreturn]] void refuse(const std::string& what) {
  throw load_error(what);
}

bool is(const json& node, const char* key, std::string_view value) {
  const auto at = node.find(key);
  return at != node.end() && at->is_string() && at->get_ref<const std::string&>() == value;
}

const json& member(const json& node, const char* key) {
  if (!node.is_object()) refuse("schema.json is broken: no object where one belongs");
  const auto at = node.find(key);
  if (at == node.end()) refuse(std::string("schema.json is broken: ") + key + " is missing");
  return *at;
}

/// An array of numbers and its shape.
struct numbers {
  std::vector<std::size_t> shape;
  std::vector<double> values;
};

/// One fitted object: its class and its attributes.
class object {
 public:
  explicit object(const json& node) : node_(&node) {
    if (!node.is_object() || !node.contains("__class__") || !node["__class__"].is_string())
      refuse("schema.json is broken: no object where one belongs");
    name_ = node["__class__"].get<std::string>();
    const auto module = node.find("__module__");
    if (module != node.end() && module->is_string()) module_ = module->get<std::string>();
  }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] bool from_sklearn() const { return module_.starts_with("sklearn."); }
  [[nodiscard]] std::string full_name() const { return (module_ + "." + name_).substr(0, 128); }
  /// Null if it has no such attribute.
  [[nodiscard]] const json* find(const char* attribute) const {
    const json* at = node_;
    for (int i = 0; i < 2; ++i) {  // an object's content is a dict node, whose content is the dict
      const auto content = at->find("content");
      if (content == at->end() || !content->is_object()) return nullptr;
      at = &*content;
      if (!at->contains("__class__")) break;
    }
    const auto found = at->find(attribute);
    return found == at->end() ? nullptr : &*found;
  }
  [[nodiscard]] const json& get(const char* attribute) const {
    const json* const found = find(attribute);
    if (!found) refuse(name_ + " has no " + attribute + "; has it been fitted?");
    return *found;
  }

 private:
  const json* node_;
  std::string name_;
  std::string module_;
};

/// A value that schema.json holds as JSON text; discarded where the node is something else.
json plain(const json& node) {
  if (!node.is_object() || !is(node, "__loader__", "JsonNode")) return json(json::value_t::discarded);
  const json& content = member(node, "content");
  if (!content.is_string()) return json(json::value_t::discarded);
  const auto& text = content.get_ref<const std::string&>();
  if (text == "NaN") return json(std::numeric_limits<double>::quiet_NaN());
  if (text == "Infinity") return json(std::numeric_limits<double>::infinity());
  if (text == "-Infinity") return json(-std::numeric_limits<double>::infinity());
  if (text.size() > 65'536) return json(json::value_t::discarded);
  return json::parse(text, nullptr, false);
}

bool is_list(const json& node) {
  return is(node, "__loader__", "ListNode") || is(node, "__loader__", "TupleNode");
}

/// The nodes of a list, a tuple, or an array of objects.
std::vector<const json*> items(const json& node, const char* what) {
  const bool array = is(node, "__loader__", "NdArrayNode") && is(node, "type", "json");
  if (!node.is_object() || (!is_list(node) && !array) || !member(node, "content").is_array())
    refuse(std::string(what) + " is not a list");
  std::vector<const json*> out;
  for (const json& each : node["content"]) out.push_back(&each);
  return out;
}

/// "1.9.1" -> 1009.
int version_of(const object& o) {
  const json* const node = o.find("_sklearn_version");
  const json text = node ? plain(*node) : json();
  int major = 0;
  int minor = 0;
  if (!text.is_string() ||
      std::sscanf(text.get_ref<const std::string&>().c_str(), "%3d.%3d", &major, &minor) != 2)
    return 0;
  return major * 1000 + minor;
}

class reader {
 public:
  reader(std::string_view file, const graph_hints& hints, const onnx::limits& most)
      : zip_(file, most.file_bytes), hints_(hints), most_(most) {}

  compiled_graph run() {
    if (!zip_.contains("schema.json")) {
      refuse(
          "has no schema.json: it is not a file of skops; write it with skops.io.dump(model, 'model.skops')");
    }
    const std::string text = zip_.read("schema.json");
    if (text.size() > most_schema_bytes) refuse("schema.json is too large");
    // What is nested deeper than any model is refused before it is built.
    schema_ = json::parse(
        text, [](int depth, json::parse_event_t, json&) { return depth < 512; }, false);
    if (schema_.is_discarded() || !schema_.is_object()) refuse("schema.json is not JSON");
    const object top(schema_);
    pipeline_builder b(static_cast<std::size_t>(width_of(top, 0)), most_);
    build_ = &b;
    const std::uint32_t result = last(top, b.rows(), 0);
    std::vector<std::string> names = names_of(top, 0);
    return b.finish(result, kind_, std::move(output_), std::move(names), hints_);
  }

 private:
  // -- values -------------------------------------------------------------------------------------------

  const npy::array& array_of(const json& node, const char* what) {
    if (!node.is_object() || !is(node, "__loader__", "NdArrayNode") || !is(node, "type", "numpy")) {
      refuse(std::string(what) + " is not an array of numbers");
    }
    const json& name = member(node, "file");
    if (!name.is_string()) refuse("schema.json is broken: file is no name");
    const auto& key = name.get_ref<const std::string&>();
    const auto at = arrays_.find(key);
    if (at != arrays_.end()) return at->second;
    return arrays_.emplace(key, npy::array(zip_.read(key))).first->second;
  }

  numbers numbers_of(const json& node, const char* what) {
    const json value = plain(node);
    if (value.is_number()) return {{}, {value.get<double>()}};
    if (node.is_object() && is_list(node)) {
      numbers out;
      for (const json* each : items(node, what)) {
        const numbers one = numbers_of_scalar(*each, what);
        out.values.push_back(one.values[0]);
      }
      out.shape = {out.values.size()};
      return out;
    }
    const npy::array& a = array_of(node, what);
    return {a.shape(), a.numbers()};
  }

  numbers numbers_of_scalar(const json& node, const char* what) {
    const json value = plain(node);
    if (value.is_number()) return {{}, {value.get<double>()}};
    const npy::array& a = array_of(node, what);
    if (a.size() != 1) refuse(std::string(what) + " is not one number");
    return {{}, a.numbers()};
  }

  double number(const object& o, const char* name) { return numbers_of_scalar(o.get(name), name).values[0]; }

  /// Exactly `count` finite numbers.
  std::vector<double> finite(const object& o, const char* name, std::size_t count) {
    std::vector<double> v = numbers_of(o.get(name), name).values;
    if (v.size() != count) {
      refuse(o.name() + ": " + name + " has " + std::to_string(v.size()) + " entries, not " +
             std::to_string(count));
    }
    for (const double x : v) {
      if (!std::isfinite(x)) refuse(o.name() + ": " + name + " is not finite");
    }
    return v;
  }

  std::string text(const object& o, const char* name, const char* otherwise) {
    const json* const node = o.find(name);
    const json value = node ? plain(*node) : json();
    return value.is_string() ? value.get<std::string>() : otherwise;
  }

  bool truth(const object& o, const char* name, bool otherwise) {
    const json* const node = o.find(name);
    const json value = node ? plain(*node) : json();
    return value.is_boolean() ? value.get<bool>() : otherwise;
  }

  /// The attribute is there, and not None.
  static bool set(const object& o, const char* name) {
    const json* const node = o.find(name);
    return node && !plain(*node).is_null();
  }

  std::vector<std::string> texts(const json& node, const char* what) {
    if (is(node, "__loader__", "NdArrayNode") && is(node, "type", "numpy"))
      return array_of(node, what).texts();
    std::vector<std::string> out;
    for (const json* each : items(node, what)) {
      const json value = plain(*each);
      if (value.is_string()) {
        out.push_back(value.get<std::string>());
      } else if (value.is_number_integer()) {
        out.push_back(value.dump());
      } else if (value.is_boolean()) {
        out.emplace_back(value.get<bool>() ? "True" : "False");
      } else {
        refuse(std::string(what) + " has an entry that is no text");
      }
    }
    return out;
  }

  // -- the features ------------------------------------------------------------------------------------

  /// The steps of a pipeline that do something, by the nodes of their objects.
  std::vector<const json*> steps(const object& pipe) {
    std::vector<const json*> out;
    for (const json* step : items(pipe.get("steps"), "steps")) {
      const auto parts = items(*step, "a step");
      if (parts.size() != 2) refuse("a step of the Pipeline is no pair");
      const json value = plain(*parts[1]);
      if (value.is_null() || (value.is_string() && value == "passthrough")) continue;
      out.push_back(parts[1]);
    }
    if (out.empty()) refuse("the Pipeline has no steps");
    return out;
  }

  double width_of(const object& o, int depth) {
    if (depth > most_nesting) refuse("its pipelines are nested too deep");
    if (o.name() == "Pipeline" && o.from_sklearn()) return width_of(object(*steps(o)[0]), depth + 1);
    const double n = number(o, "n_features_in_");
    if (!(n >= 1) || n > static_cast<double>(most_.features))
      refuse(o.name() + ": n_features_in_ is out of range");
    return n;
  }

  std::vector<std::string> names_of(const object& o, int depth) {
    if (o.name() == "Pipeline" && depth <= most_nesting) return names_of(object(*steps(o)[0]), depth + 1);
    const json* const node = o.find("feature_names_in_");
    return node ? texts(*node, "feature_names_in_") : std::vector<std::string>();
  }

  // -- transformers --------------------------------------------------------------------------------------

  std::uint32_t same_width(step_ptr s, std::uint32_t from) {
    return build_->add(std::move(s), {from}, build_->width_of(from));
  }

  std::uint32_t by_constant(arithmetic op, std::vector<double> k, std::uint32_t from) {
    return same_width(with_constant(op, std::move(k), false, false), from);
  }

  std::uint32_t transform(const object& o, std::uint32_t x, int depth) {
    if (depth > most_nesting) refuse("its pipelines are nested too deep");
    const std::string& name = o.name();
    const std::size_t width = build_->width_of(x);
    if (!o.from_sklearn()) refuse_class(o);
    if (name == "Pipeline") {
      for (const json* step : steps(o)) x = transform(object(*step), x, depth + 1);
      return x;
    }
    if (name == "ColumnTransformer") return columns_of(o, x, depth + 1);
    if (name == "FunctionTransformer") {
      if (set(o, "func") && !encodes_)
        refuse("FunctionTransformer with a function is not built in; only data is read");
      return x;
    }
    if (const json* const n = o.find("n_features_in_");
        n && numbers_of_scalar(*n, "n_features_in_").values[0] != static_cast<double>(width)) {
      refuse(name + " was fitted on another number of columns than it gets, " + std::to_string(width));
    }
    if (name == "StandardScaler") {
      if (truth(o, "with_mean", true)) x = by_constant(arithmetic::sub, finite(o, "mean_", width), x);
      if (truth(o, "with_std", true)) x = by_constant(arithmetic::div, finite(o, "scale_", width), x);
      return x;
    }
    if (name == "RobustScaler") {
      if (truth(o, "with_centering", true)) x = by_constant(arithmetic::sub, finite(o, "center_", width), x);
      if (truth(o, "with_scaling", true)) x = by_constant(arithmetic::div, finite(o, "scale_", width), x);
      return x;
    }
    if (name == "MaxAbsScaler") {
      x = by_constant(arithmetic::div, finite(o, "scale_", width), x);
      return truth(o, "clip", false) ? same_width(clip(-1, 1), x) : x;
    }
    if (name == "MinMaxScaler") {
      x = by_constant(arithmetic::mul, finite(o, "scale_", width), x);
      x = by_constant(arithmetic::add, finite(o, "min_", width), x);
      if (!truth(o, "clip", false)) return x;
      const auto range = numbers_of(o.get("feature_range"), "feature_range").values;
      if (range.size() != 2) refuse("MinMaxScaler: feature_range is no pair");
      return same_width(clip(range[0], range[1]), x);
    }
    if (name == "Normalizer") {
      const std::string kind = text(o, "norm", "l2");
      if (kind != "l1" && kind != "l2" && kind != "max")
        refuse("Normalizer: norm " + kind.substr(0, 16) + " is not built in");
      return same_width(normalizer(kind == "l1"   ? norm::l1
                                   : kind == "l2" ? norm::l2
                                                  : norm::max_abs,
                                   false),
                        x);
    }
    if (name == "SimpleImputer") return impute(o, x);
    if (name == "OneHotEncoder") return encode_one_hot(o, x);
    if (name == "OrdinalEncoder") return encode_ordinal(o, x);
    refuse_class(o);
  }

  std::uint32_t impute(const object& o, std::uint32_t x) {
    const std::size_t width = build_->width_of(x);
    if (truth(o, "add_indicator", false)) refuse("SimpleImputer with add_indicator is not built in");
    double replaced = std::numeric_limits<double>::quiet_NaN();
    if (const json* const node = o.find("missing_values")) {
      const json value = plain(*node);
      if (value.is_string() || value.is_null())
        refuse("SimpleImputer: missing_values is neither NaN nor a number");
      replaced = numbers_of_scalar(*node, "missing_values").values[0];
    }
    numbers fill = numbers_of(o.get("statistics_"), "statistics_");
    if (fill.values.size() != width) refuse("SimpleImputer: statistics_ does not fit its columns");
    std::vector<std::uint32_t> kept;
    std::vector<double> values;
    for (std::size_t c = 0; c < width; ++c) {
      if (std::isnan(fill.values[c])) continue;  // a column that had no value when it was fitted is left out
      if (!std::isfinite(fill.values[c])) refuse("SimpleImputer: statistics_ is not finite");
      kept.push_back(static_cast<std::uint32_t>(c));
      values.push_back(fill.values[c]);
    }
    if (kept.empty()) refuse("SimpleImputer leaves no columns");
    if (kept.size() < width) x = build_->add(pick(kept), {x}, kept.size());
    return same_width(imputer(std::move(values), replaced), x);
  }

  /// Of texts: a request's text becomes its number, which the encoder then sees.
  std::vector<category_list> categories(const object& o, std::uint32_t x) {
    const std::size_t width = build_->width_of(x);
    const bool refused = text(o, "handle_unknown", "error") == "error";
    std::vector<std::shared_ptr<const cell_rule>> rules;
    std::vector<category_list> out;
    for (const json* each : items(o.get("categories_"), "categories_")) {
      category_list& list = out.emplace_back();
      auto& own = rules.emplace_back();
      const bool array = is(*each, "type", "numpy");
      if (array && !array_of(*each, "categories_").holds_texts()) {
        list.values = array_of(*each, "categories_").numbers();
      } else {
        auto rule = std::make_shared<cell_rule>();
        if (array) {
          rule->categories = array_of(*each, "categories_").texts();
        } else {
          for (const json* one : items(*each, "categories_")) {
            const json value = plain(*one);
            if (!value.is_string()) refuse(o.name() + ": not all categories of a column are texts");
            rule->categories.push_back(value.get<std::string>());
          }
        }
        for (std::size_t k = 0; k < rule->categories.size(); ++k)
          list.values.push_back(static_cast<double>(k));
        if (!refused) rule->unknown = -1;
        rule->index();
        own = std::move(rule);
      }
      if (list.values.empty()) refuse(o.name() + ": a column has no categories");
      if (list.values.size() > 100'000) refuse(o.name() + ": a column has more than 100,000 categories");
    }
    if (out.size() != width) refuse(o.name() + ": categories_ does not fit its columns");
    for (const char* name : {"min_frequency", "max_categories"}) {
      if (set(o, name)) refuse(o.name() + " with " + name + " is not built in");
    }
    build_->take_texts(rules, x);
    return out;
  }

  std::uint32_t encode_one_hot(const object& o, std::uint32_t x) {
    const std::size_t width = build_->width_of(x);
    std::vector<category_list> of = categories(o, x);
    std::vector<int> dropped(width, -1);
    if (set(o, "drop")) {
      const std::string how = text(o, "drop", "a list");
      if (how != "first" && how != "if_binary")
        refuse("OneHotEncoder: drop as " + how.substr(0, 32) +
               " is not built in; 'first' and 'if_binary' are");
      for (std::size_t c = 0; c < width; ++c) {
        if (how == "first" || of[c].values.size() == 2) dropped[c] = 0;
      }
    }
    std::size_t columns = 0;
    for (std::size_t c = 0; c < width; ++c) columns += of[c].values.size() - (dropped[c] == 0 ? 1 : 0);
    const std::string unknown = text(o, "handle_unknown", "error");
    if (unknown != "error" && unknown != "ignore")
      refuse("OneHotEncoder: handle_unknown " + unknown.substr(0, 32) + " is not built in");
    if (unknown == "error") build_->require_known(of, x);
    return build_->add(one_hot(std::move(of), std::move(dropped)), {x}, columns);
  }

  std::uint32_t encode_ordinal(const object& o, std::uint32_t x) {
    std::vector<category_list> of = categories(o, x);
    const double none = std::numeric_limits<double>::quiet_NaN();
    const auto value = [&](const char* name) { return set(o, name) ? number(o, name) : none; };
    const std::string unknown = text(o, "handle_unknown", "error");
    if (unknown == "error") build_->require_known(of, x);
    return same_width(ordinal(std::move(of), value("encoded_missing_value"), value("unknown_value")), x);
  }

  std::uint32_t columns_of(const object& o, std::uint32_t x, int depth) {
    const std::size_t width = build_->width_of(x);
    if (number(o, "n_features_in_") != static_cast<double>(width))
      refuse("ColumnTransformer was fitted on another number of columns than it gets");
    if (set(o, "transformer_weights")) refuse("ColumnTransformer with transformer_weights is not built in");
    std::vector<std::string> names;
    if (const json* const node = o.find("feature_names_in_")) names = texts(*node, "feature_names_in_");
    std::vector<std::uint32_t> parts;
    std::size_t columns = 0;
    for (const json* each : items(o.get("transformers_"), "transformers_")) {
      const auto entry = items(*each, "a transformer");
      if (entry.size() != 3) refuse("an entry of the ColumnTransformer is not of three parts");
      const json how = plain(*entry[1]);
      if (how.is_string() && how == "drop") continue;
      std::vector<std::uint32_t> which = choose(*entry[2], names, width);
      if (which.empty()) continue;
      const std::size_t count = which.size();
      std::uint32_t part = build_->add(pick(std::move(which)), {x}, count);
      if (!how.is_string() || how != "passthrough") part = transform(object(*entry[1]), part, depth);
      columns += build_->width_of(part);
      parts.push_back(part);
    }
    if (parts.empty()) refuse("the ColumnTransformer leaves no columns");
    if (parts.size() == 1) return parts[0];
    const std::size_t count = parts.size();
    return build_->add(concat(count), std::move(parts), columns);
  }

  std::vector<std::uint32_t> choose(const json& node, const std::vector<std::string>& names,
                                    std::size_t width) {
    std::vector<std::uint32_t> out;
    const auto by_number = [&](double c) {
      if (c < 0) c += static_cast<double>(width);
      if (!(c >= 0) || c >= static_cast<double>(width) || c != std::floor(c))
        refuse("ColumnTransformer: a column does not exist");
      out.push_back(static_cast<std::uint32_t>(c));
    };
    const auto by_name = [&](const std::string& name) {
      const auto at = std::find(names.begin(), names.end(), name);
      if (at == names.end()) refuse("ColumnTransformer: there is no column '" + name.substr(0, 64) + "'");
      out.push_back(static_cast<std::uint32_t>(at - names.begin()));
      if (out.back() >= width) refuse("ColumnTransformer: a column does not exist");
    };
    const json single = plain(node);
    if (single.is_string()) {
      by_name(single.get<std::string>());
    } else if (single.is_number()) {
      by_number(single.get<double>());
    } else if (is(node, "__loader__", "NdArrayNode") && is(node, "type", "numpy")) {
      const npy::array& a = array_of(node, "columns");
      if (a.size() > width) refuse("ColumnTransformer: more columns than there are");
      const std::vector<double> entries = a.numbers();
      for (std::size_t i = 0; i < entries.size(); ++i) {
        if (!a.holds_booleans()) {
          by_number(entries[i]);
        } else if (entries[i] != 0) {
          by_number(static_cast<double>(i));
        }
      }
    } else {
      const bool list = is_list(node) || is(node, "__loader__", "NdArrayNode");
      if (!list)
        refuse(
            "ColumnTransformer: columns chosen by a slice or a function are not built in; name them in a "
            "list");
      const auto entries = items(node, "columns");
      for (std::size_t i = 0; i < entries.size(); ++i) {
        const json value = plain(*entries[i]);
        if (value.is_string()) {
          by_name(value.get<std::string>());
        } else if (value.is_boolean()) {
          if (value.get<bool>()) by_number(static_cast<double>(i));
        } else {
          by_number(numbers_of_scalar(*entries[i], "a column").values[0]);
        }
      }
    }
    return out;
  }

  [[noreturn]] static void refuse_class(const object& o) {
    refuse(o.full_name() + " is not built in; export the model as model.onnx instead");
  }

  // -- models --------------------------------------------------------------------------------------------

  std::uint32_t last(const object& o, std::uint32_t x, int depth) {
    if (depth > most_nesting) refuse("its pipelines are nested too deep");
    const std::string& name = o.name();
    if (!o.from_sklearn()) refuse_class(o);
    if (name == "Pipeline") {
      const auto all = steps(o);
      for (std::size_t i = 0; i + 1 < all.size(); ++i) x = transform(object(*all[i]), x, depth + 1);
      return last(object(*all.back()), x, depth + 1);
    }
    if (number(o, "n_features_in_") != static_cast<double>(build_->width_of(x)))
      refuse(name + " was fitted on another number of columns than it gets");
    static const std::string_view linear_models[] = {
        "LinearRegression", "Ridge", "Lasso", "ElasticNet", "RidgeCV", "LassoCV", "ElasticNetCV"};
    if (std::find(std::begin(linear_models), std::end(linear_models), name) != std::end(linear_models))
      return add_linear(o, x);
    if (name == "LogisticRegression" || name == "LogisticRegressionCV") return add_logistic(o, x);
    kind_ = "forest";
    if (name == "DecisionTreeRegressor" || name == "DecisionTreeClassifier" || name == "ExtraTreeRegressor" ||
        name == "ExtraTreeClassifier" || name == "RandomForestRegressor" ||
        name == "RandomForestClassifier" || name == "ExtraTreesRegressor" || name == "ExtraTreesClassifier") {
      return add_forest(o, x);
    }
    if (name == "GradientBoostingRegressor" || name == "GradientBoostingClassifier") return add_boosted(o, x);
    if (name == "HistGradientBoostingRegressor" || name == "HistGradientBoostingClassifier")
      return add_histogram_boosted(o, x);
    refuse_class(o);
  }

  void classify(const object& o) {
    output_.kind = task::classification;
    output_.classes = texts(o.get("classes_"), "classes_");
    if (output_.classes.size() < 2 || output_.classes.size() > most_.outputs)
      refuse(o.name() + " has " + std::to_string(output_.classes.size()) + " classes");
  }

  affine read_linear(const object& o, std::uint32_t x) {
    affine a;
    a.inputs = build_->width_of(x);
    numbers coef = numbers_of(o.get("coef_"), "coef_");
    a.outputs = coef.shape.size() == 2 ? coef.shape[0] : 1;
    if (a.outputs == 0 || a.outputs > most_.outputs || coef.values.size() != a.outputs * a.inputs)
      refuse(o.name() + ": coef_ does not fit its columns");
    a.weights = std::move(coef.values);
    a.bias = numbers_of(o.get("intercept_"), "intercept_").values;
    if (a.bias.size() == 1) a.bias.resize(a.outputs, a.bias[0]);
    if (a.bias.size() != a.outputs) refuse(o.name() + ": intercept_ does not fit coef_");
    const auto finite_all = [](const std::vector<double>& v) {
      return std::all_of(v.begin(), v.end(), [](double c) { return std::isfinite(c); });
    };
    if (!finite_all(a.weights) || !finite_all(a.bias)) refuse(o.name() + ": a coefficient is not finite");
    return a;
  }

  std::uint32_t add_linear(const object& o, std::uint32_t x) {
    kind_ = "linear";
    return build_->add_model(read_linear(o, x), post_transform::none, false, x, hints_.explain);
  }

  std::uint32_t add_logistic(const object& o, std::uint32_t x) {
    kind_ = "linear";
    classify(o);
    affine a = read_linear(o, x);
    const std::size_t classes = output_.classes.size();
    const std::string how = text(o, "multi_class", "auto");
    const bool each = how == "ovr" || how == "warn" ||
                      (how != "multinomial" && (classes == 2 || text(o, "solver", "lbfgs") == "liblinear"));
    if (classes == 2) {
      if (a.outputs != 1) refuse("LogisticRegression: coef_ does not fit its classes");
      if (!each) {  // softmax of -d and d
        for (double& w : a.weights) w *= 2;
        for (double& w : a.bias) w *= 2;
      }
      return build_->add_model(std::move(a), post_transform::logistic, true, x, hints_.explain);
    }
    if (a.outputs != classes) refuse("LogisticRegression: coef_ does not fit its classes");
    return build_->add_model(std::move(a), each ? post_transform::one_vs_rest : post_transform::softmax,
                             false, x, hints_.explain);
  }

  ensemble new_ensemble(std::uint32_t x) {
    ensemble e;
    e.width = build_->width_of(x);
    e.float_input = true;
    return e;
  }

  /// The positions of children in the ensemble; UINT32_MAX for what is not a node.
  std::vector<std::uint32_t> children(const npy::array& nodes, const char* field, std::size_t offset) {
    std::vector<std::uint32_t> out;
    for (const double c : nodes.numbers(field)) {
      const bool good = c >= 0 && c < static_cast<double>(nodes.size());
      out.push_back(good ? static_cast<std::uint32_t>(offset + static_cast<std::size_t>(c)) : UINT32_MAX);
    }
    return out;
  }

  std::size_t new_tree(ensemble& e, const npy::array& nodes) {
    const std::size_t offset = e.nodes.size();
    if (nodes.size() == 0) refuse("a tree has no nodes");
    if (nodes.size() > most_.tree_nodes - std::min(offset, most_.tree_nodes))
      refuse("more than " + std::to_string(most_.tree_nodes) + " nodes, the limit");
    e.roots.push_back(static_cast<std::uint32_t>(offset));
    e.nodes.resize(offset + nodes.size());
    return offset;
  }

  void set_split(ensemble& e, std::size_t at, double column, double threshold, std::uint32_t left,
                 std::uint32_t right, bool missing_left) {
    if (!(column >= 0) || column >= static_cast<double>(e.width))
      refuse("a tree asks for a column that does not exist");
    if (left == UINT32_MAX || right == UINT32_MAX) refuse("a child does not exist");
    e.nodes[at] = {threshold, static_cast<std::uint32_t>(column), left, right, split::leq, missing_left};
  }

  /// One sklearn.tree._tree.Tree. `leaf`: sets the leaf out of its values, of which each node has `width`.
  template <class Leaf>
  void add_tree(ensemble& e, const object& tree, std::size_t width, Leaf leaf) {
    const npy::array& nodes = array_of(tree.get("nodes"), "nodes");
    const npy::array& values = array_of(tree.get("values"), "values");
    const std::size_t offset = new_tree(e, nodes);
    const std::size_t count = nodes.size();
    if (values.size() != count * width || (values.shape().empty() || values.shape()[0] != count))
      refuse("the values of a tree do not fit its nodes");
    const auto left = children(nodes, "left_child", offset);
    const auto right = children(nodes, "right_child", offset);
    const auto column = nodes.numbers("feature");
    const auto threshold = nodes.numbers("threshold");
    const auto cover = nodes.numbers("weighted_n_node_samples");
    const auto missing =
        nodes.has("missing_go_to_left") ? nodes.numbers("missing_go_to_left") : std::vector<double>(count, 0);
    const auto value = values.numbers();
    for (std::size_t i = 0; i < count; ++i) {
      if (left[i] == UINT32_MAX && right[i] == UINT32_MAX) {
        leaf(e.nodes[offset + i], &value[i * width]);
      } else {
        set_split(e, offset + i, column[i], threshold[i], left[i], right[i], missing[i] != 0);
      }
    }
    e.cover.insert(e.cover.end(), cover.begin(), cover.end());
  }

  static bool takes_missing(const object& o) {
    if (set(o, "monotonic_cst")) return false;
    const json* const criterion = o.find("criterion");
    if (criterion && plain(*criterion) == "absolute_error") return false;
    const int version = version_of(o);
    const bool extra = o.name().starts_with("Extra");
    return version >= (extra ? 1006 : o.name().starts_with("Random") ? 1004 : 1003);
  }

  std::uint32_t add_forest(const object& o, std::uint32_t x) {
    const bool classifier = o.name().ends_with("Classifier");
    const double targets = number(o, "n_outputs_");
    if (!(targets >= 1) || targets > static_cast<double>(most_.outputs))
      refuse(o.name() + ": n_outputs_ is out of range");
    ensemble e = new_ensemble(x);
    e.handles_missing = takes_missing(o);
    std::size_t width = static_cast<std::size_t>(targets);
    if (classifier) {
      if (width != 1) refuse(o.name() + " with several targets is not built in");
      classify(o);
      width = output_.classes.size();
      e.outputs = width;
      e.sums = width == 2 ? 1 : width;
    } else {
      e.outputs = e.sums = width;
    }
    std::vector<double> shares(width);
    const auto leaf = [&](tree_node& n, const double* values) {
      if (!classifier) return e.set_leaf(n, values, width);
      // Counts before scikit-learn 1.3, shares since.
      double sum = 0;
      for (std::size_t k = 0; k < width; ++k) sum += values[k];
      for (std::size_t k = 0; k < width; ++k) shares[k] = sum != 0 ? values[k] / sum : 0;
      e.set_leaf(n, shares.data() + (width == 2 ? 1 : 0), width == 2 ? 1 : width);
    };
    if (o.find("tree_")) {
      add_tree(e, object(o.get("tree_")), width, leaf);
    } else {
      for (const json* each : items(o.get("estimators_"), "estimators_"))
        add_tree(e, object(object(*each).get("tree_")), width, leaf);
      e.scale = 1 / static_cast<double>(e.roots.size());
    }
    return build_->add_model(std::move(e), x, hints_.explain);
  }

  /// Boosted trees add to a score a class, but to one where there are two.
  std::size_t boosted_sums(const object& o, ensemble& e) {
    if (o.name().ends_with("Classifier")) {
      classify(o);
      e.outputs = output_.classes.size();
    }
    e.sums = e.outputs == 2 ? 1 : e.outputs;
    e.transform = e.outputs == 1   ? post_transform::none
                  : e.outputs == 2 ? post_transform::logistic
                                   : post_transform::softmax;
    e.base.assign(e.sums, 0);
    return e.sums;
  }

  std::uint32_t add_boosted(const object& o, std::uint32_t x) {
    ensemble e = new_ensemble(x);
    const std::size_t sums = boosted_sums(o, e);
    const std::string loss = text(o, "loss", "");
    const double rate = number(o, "learning_rate");
    const double factor = loss == "exponential" ? 2 : 1;  // its link is half the log-odds
    set_start(o, e, factor);
    std::vector<double> weights(sums);
    for (const json* row : items(o.get("estimators_"), "estimators_")) {
      // A two-dimensional array of objects: a list of lists, whatever node the inner ones are.
      std::vector<const json*> of_row;
      if (row->is_array()) {
        for (const json& each : *row) of_row.push_back(&each);
      } else {
        of_row = items(*row, "estimators_");
      }
      if (of_row.size() != sums) refuse(o.name() + ": estimators_ does not fit its classes");
      for (std::size_t k = 0; k < sums; ++k) {
        add_tree(e, object(object(*of_row[k]).get("tree_")), 1, [&](tree_node& n, const double* values) {
          std::fill(weights.begin(), weights.end(), 0.0);
          weights[k] = factor * (rate * values[0]);
          e.set_leaf(n, weights.data(), sums);
        });
      }
    }
    return build_->add_model(std::move(e), x, hints_.explain);
  }

  /// What GradientBoosting starts from: a constant, or the log-odds of the shares of the classes.
  void set_start(const object& o, ensemble& e, double factor) {
    const json& node = o.get("init_");
    if (const json value = plain(node); value.is_string()) {
      if (value == "zero") return;
      refuse(o.name() + ": init_ is not built in");
    }
    const object init(node);
    if (init.name() == "DummyRegressor") {
      e.base = finite(init, "constant_", 1);
      return;
    }
    if (init.name() != "DummyClassifier" || text(init, "strategy", "") != "prior")
      refuse(o.name() + " that starts from " + init.full_name() + " is not built in");
    std::vector<double> prior = finite(init, "class_prior_", e.outputs);
    const double least = std::numeric_limits<double>::epsilon();
    for (double& p : prior) p = std::clamp(p, least, 1 - least);
    if (e.sums == 1) {
      const double odds = std::log(prior[1] / (1 - prior[1]));
      e.base[0] = factor * (factor == 2 ? odds / 2 : odds);
      return;
    }
    for (double& p : prior) p = std::log(p);
    double mean = 0;
    for (const double p : prior) mean += p / static_cast<double>(prior.size());
    for (std::size_t k = 0; k < e.sums; ++k) e.base[k] = prior[k] - mean;
  }

  std::uint32_t add_histogram_boosted(const object& o, std::uint32_t x) {
    if (set(o, "_preprocessor")) {
      const object front(o.get("_preprocessor"));
      if (front.name() != "ColumnTransformer") refuse(o.name() + ": _preprocessor is not built in");
      encodes_ = true;
      x = transform(front, x, 1);
      encodes_ = false;
    }
    ensemble e = new_ensemble(x);
    e.float_input = false;
    e.handles_missing = true;
    category_splits sets(e.width, most_.features);
    const std::size_t sums = boosted_sums(o, e);
    const object loss(o.get("_loss"));
    if (loss.name() == "HalfGammaLoss" || loss.name() == "HalfPoissonLoss")
      e.transform = post_transform::exponential;
    e.base = finite(o, "_baseline_prediction", sums);
    std::vector<double> weights(sums);
    for (const json* row : items(o.get("_predictors"), "_predictors")) {
      const auto of_row = items(*row, "_predictors");
      if (of_row.size() != sums) refuse(o.name() + ": _predictors does not fit its classes");
      for (std::size_t k = 0; k < sums; ++k) {
        const object tree(*of_row[k]);
        const npy::array& nodes = array_of(tree.get("nodes"), "nodes");
        const std::size_t offset = new_tree(e, nodes);
        const auto left = children(nodes, "left", offset);
        const auto right = children(nodes, "right", offset);
        const auto column = nodes.numbers("feature_idx");
        const auto threshold = nodes.numbers("num_threshold");
        const auto is_leaf = nodes.numbers("is_leaf");
        const auto missing = nodes.numbers("missing_go_to_left");
        const auto value = nodes.numbers("value");
        const auto cover = nodes.numbers("count");
        const auto categorical = nodes.has("is_categorical") ? nodes.numbers("is_categorical")
                                                             : std::vector<double>(nodes.size(), 0);
        std::vector<double> set_of;
        numbers bitsets;
        if (std::any_of(categorical.begin(), categorical.end(), [](double c) { return c != 0; })) {
          // Without an encoder in front of them, codes that no tree knows would count as missing.
          if (!set(o, "_preprocessor"))
            refuse(o.name() + " with categorical features, of scikit-learn before 1.4, is not built in");
          set_of = nodes.numbers("bitset_idx");
          bitsets = numbers_of(tree.get("raw_left_cat_bitsets"), "raw_left_cat_bitsets");
        }
        for (std::size_t i = 0; i < nodes.size(); ++i) {
          if (is_leaf[i] != 0) {
            std::fill(weights.begin(), weights.end(), 0.0);
            weights[k] = value[i];
            e.set_leaf(e.nodes[offset + i], weights.data(), sums);
            continue;
          }
          set_split(e, offset + i, column[i], threshold[i], left[i], right[i], missing[i] != 0);
          if (categorical[i] != 0)
            sets.add(e.nodes[offset + i], static_cast<std::uint32_t>(column[i]),
                     read_set(o, bitsets, set_of[i], missing[i] != 0));
        }
        e.cover.insert(e.cover.end(), cover.begin(), cover.end());
      }
    }
    x = build_->add_sets(std::move(sets), e, x);
    return build_->add_model(std::move(e), x, hints_.explain);
  }

  /// The codes that go to the left: row `at` of the bits.
  static category_set read_set(const object& o, const numbers& all, double at, bool missing_left) {
    if (all.shape.size() != 2 || !(at >= 0) || at >= static_cast<double>(all.shape[0]))
      refuse(o.name() + ": a split by categories asks for a set that does not exist");
    category_set s;
    s.missing_left = missing_left;
    const std::size_t words = all.shape[1];
    const double* const from = all.values.data() + static_cast<std::size_t>(at) * words;
    for (std::size_t i = 0; i < words; ++i) {
      if (!(from[i] >= 0) || from[i] > UINT32_MAX)
        refuse(o.name() + ": raw_left_cat_bitsets is out of range");
      s.bits.push_back(static_cast<std::uint32_t>(from[i]));
    }
    return s;
  }

  zip::archive zip_;
  const graph_hints& hints_;
  const onnx::limits& most_;
  json schema_;
  std::map<std::string, npy::array> arrays_;
  pipeline_builder* build_ = nullptr;
  output_spec output_;
  std::string_view kind_ = "forest";
  bool encodes_ = false;  ///< among the steps of HistGradientBoosting's own, whose functions only check
};

}  // namespace

compiled_graph read_skops(std::string_view file, const graph_hints& hints, const onnx::limits& most) {
  return reader(file, hints, most).run();
}

}  // namespace troupe::model

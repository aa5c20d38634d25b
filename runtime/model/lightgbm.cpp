#include "runtime/model/lightgbm.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/model/build.hpp"

namespace troupe::model {
namespace {

// decision_type: a bit for categories, a bit for the default side, then the kind of missing value.
constexpr unsigned categorical = 1;
constexpr unsigned default_left = 2;
enum class missing_kind : unsigned { none = 0, zero = 1, nan = 2 };

[[noreturn]] void refuse(const std::string& what) {
  throw load_error(what);
}

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (end > at) out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

double number_of(std::string_view word, std::string_view key) {
  double value = 0;
  const auto [end, failed] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (failed == std::errc::result_out_of_range)
    return 0;  // too small for a double; the large ones are written so
  if (failed != std::errc() || end != word.data() + word.size())
    refuse(std::string(key) + " has an entry that is no number");
  return value;
}

/// The key=value lines of the head, or of one tree.
class block {
 public:
  [[nodiscard]] bool has(std::string_view key) const { return lines_.contains(key); }
  void add(std::string_view key, std::string_view value) { lines_.emplace(key, value); }
  void clear() { lines_.clear(); }

  [[nodiscard]] std::string_view text(std::string_view key) const {
    const auto at = lines_.find(key);
    return at == lines_.end() ? std::string_view() : at->second;
  }
  [[nodiscard]] std::vector<double> numbers(std::string_view key, std::size_t size) const {
    if (!has(key)) refuse("a tree has no " + std::string(key));
    std::vector<double> out;
    for (const auto word : words(text(key))) out.push_back(number_of(word, key));
    if (out.size() != size) {
      refuse(std::string(key) + " of a tree has " + std::to_string(out.size()) + " entries, not " +
             std::to_string(size));
    }
    return out;
  }
  [[nodiscard]] std::size_t count(std::string_view key, std::size_t least, std::size_t most) const {
    if (!has(key)) refuse("it has no " + std::string(key) + "; is it a model of LightGBM?");
    const double value = number_of(text(key), key);
    if (!(value >= static_cast<double>(least)) || value > static_cast<double>(most) ||
        value != std::floor(value))
      refuse(std::string(key) + " is out of range");
    return static_cast<std::size_t>(value);
  }

 private:
  std::unordered_map<std::string_view, std::string_view> lines_;
};

class reader {
 public:
  reader(const graph_hints& hints, const onnx::limits& most) : hints_(hints), most_(most) {}

  compiled_graph run(std::string_view file) {
    if (!file.starts_with("tree\n") && !file.starts_with("tree\r\n"))
      refuse("does not begin with 'tree'; write it with Booster.save_model('model.txt')");
    block lines;
    bool in_tree = false;
    bool ended = false;
    bool average = false;
    for (std::size_t at = 0; at < file.size() && !ended;) {
      const std::size_t end = std::min(file.find('\n', at), file.size());
      std::string_view line = file.substr(at, end - at);
      at = end + 1;
      if (line.ends_with('\r')) line.remove_suffix(1);
      ended = line == "end of trees";
      if (line.starts_with("Tree=") || ended) {
        if (in_tree) {
          add_tree(lines);
        } else {
          read_head(lines);
        }
        lines.clear();
        in_tree = true;
        continue;
      }
      if (line == "average_output") average = true;
      const std::size_t equals = line.find('=');
      if (equals != std::string_view::npos) lines.add(line.substr(0, equals), line.substr(equals + 1));
    }
    if (!ended) refuse("ends before 'end of trees'");
    if (average) e_.scale /= std::max(1.0, static_cast<double>(e_.roots.size() / e_.sums));
    if (!covered_) e_.cover.clear();
    pipeline_builder b(e_.width, most_);
    const std::uint32_t x = b.add_sets(std::move(*sets_), e_, b.rows());
    const std::uint32_t result = b.add_model(std::move(e_), x, hints_.explain);
    return b.finish(result, "forest", std::move(output_), std::move(names_), hints_);
  }

 private:
  void read_head(const block& head) {
    const std::string_view version = head.text("version");
    if (version != "v3" && version != "v4")
      refuse("version " + std::string(version.substr(0, 16)) + " is not built in; v3 and v4 are");
    e_.width = head.count("max_feature_idx", 0, most_.features - 1) + 1;
    sets_.emplace(e_.width, most_.features);
    e_.sums = head.count("num_tree_per_iteration", 1, most_.outputs);
    e_.outputs = e_.sums;
    e_.handles_missing = true;
    for (const auto name : words(head.text("feature_names"))) names_.emplace_back(name);
    const auto parts = words(head.text("objective"));
    const std::string_view name = parts.empty() ? "none" : parts[0];
    double sigmoid = 1;
    for (const auto part : parts) {
      if (part.starts_with("sigmoid:")) sigmoid = number_of(part.substr(8), "sigmoid");
      if (part == "sqrt") refuse("objective regression with reg_sqrt is not built in");
    }
    static const std::string_view plain[] = {"regression", "regression_l1", "huber",       "fair", "quantile",
                                             "mape",       "lambdarank",    "rank_xendcg", "none", "custom"};
    if (std::find(std::begin(plain), std::end(plain), name) != std::end(plain)) return;
    if (name == "poisson" || name == "gamma" || name == "tweedie") {
      e_.transform = post_transform::exponential;
    } else if (name == "cross_entropy") {
      e_.transform = post_transform::logistic;
    } else if (name == "binary") {
      if (e_.sums != 1) refuse("num_tree_per_iteration is out of range");
      e_.transform = post_transform::logistic;
      e_.outputs = 2;
      e_.scale = sigmoid;
    } else if (name == "multiclass") {
      e_.transform = post_transform::softmax;
    } else if (name == "multiclassova") {
      e_.transform = post_transform::logistic;
      e_.scale = sigmoid;
    } else {
      refuse("objective " + std::string(name.substr(0, 64)) + " is not built in");
    }
    if (name == "binary" || name == "multiclass" || name == "multiclassova") {
      output_.kind = task::classification;
      for (std::size_t k = 0; k < e_.outputs; ++k) output_.classes.push_back(std::to_string(k));
    }
  }

  /// The categories that go to the left, of the split whose threshold is `which`.
  static category_set read_set(const std::vector<double>& bounds, const std::vector<double>& all,
                               double which) {
    if (!(which >= 0) || which >= static_cast<double>(bounds.size()) - 1 || which != std::floor(which))
      refuse("a split by categories asks for a set that does not exist");
    const double begin = bounds[static_cast<std::size_t>(which)];
    const double end = bounds[static_cast<std::size_t>(which) + 1];
    if (!(begin >= 0) || !(begin <= end) || end > static_cast<double>(all.size()) ||
        begin != std::floor(begin) || end != std::floor(end))
      refuse("cat_boundaries is out of range");
    category_set s;
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      if (!(all[i] >= 0) || all[i] > UINT32_MAX || all[i] != std::floor(all[i]))
        refuse("cat_threshold is out of range");
      s.bits.push_back(static_cast<std::uint32_t>(all[i]));
    }
    return s;
  }

  void add_tree(const block& tree) {
    const std::size_t leaves = tree.count("num_leaves", 1, most_.tree_nodes / 2);
    if (tree.has("is_linear") && tree.text("is_linear") != "0")
      refuse("trees with linear leaves are not built in");
    const std::size_t inner = leaves - 1;
    const std::size_t first = e_.nodes.size();
    if (first + inner + leaves > most_.tree_nodes)
      refuse("more than " + std::to_string(most_.tree_nodes) + " nodes, the limit");
    const auto value = tree.numbers("leaf_value", leaves);
    const std::size_t output = e_.roots.size() % e_.sums;
    std::vector<double> weights(e_.sums);
    const auto leaf_at = [&](std::size_t i) { return first + inner + i; };
    // The text of a tree that is one leaf has no more than its value in older files.
    std::vector<double> feature, threshold, kind, left, right, bounds, members;
    if (tree.has("cat_boundaries")) {
      bounds = tree.numbers("cat_boundaries", words(tree.text("cat_boundaries")).size());
      members = tree.numbers("cat_threshold", words(tree.text("cat_threshold")).size());
    }
    if (inner > 0) {
      feature = tree.numbers("split_feature", inner);
      threshold = tree.numbers("threshold", inner);
      kind = tree.numbers("decision_type", inner);
      left = tree.numbers("left_child", inner);
      right = tree.numbers("right_child", inner);
    }
    e_.nodes.resize(first + inner + leaves);
    for (std::size_t i = 0; i < leaves; ++i) {
      std::fill(weights.begin(), weights.end(), 0.0);
      weights[output] = value[i];
      e_.set_leaf(e_.nodes[leaf_at(i)], weights.data(), weights.size());
    }
    // Nodes are numbered from 0, leaves from -1 downwards.
    const auto place = [&](double c) {
      if (c >= 0 && c < static_cast<double>(inner))
        return static_cast<std::uint32_t>(first + static_cast<std::size_t>(c));
      if (c < 0 && -c <= static_cast<double>(leaves))
        return static_cast<std::uint32_t>(leaf_at(static_cast<std::size_t>(-c - 1)));
      refuse("a child does not exist");
    };
    for (std::size_t i = 0; i < inner; ++i) {
      if (!(feature[i] >= 0) || feature[i] >= static_cast<double>(e_.width))
        refuse("a tree asks for a feature that does not exist");
      if (!(kind[i] >= 0) || kind[i] > 15) refuse("decision_type is out of range");
      const auto bits = static_cast<unsigned>(kind[i]);
      const auto column = static_cast<std::uint32_t>(feature[i]);
      if (bits & categorical) {
        tree_node& n = e_.nodes[first + i];
        n.yes = place(left[i]);
        n.no = place(right[i]);
        sets_->add(n, column, read_set(bounds, members, threshold[i]));
        continue;
      }
      const bool by_default = (bits & default_left) != 0;
      const bool as_zero = 0 <= threshold[i];
      bool missing = by_default;
      switch (static_cast<missing_kind>(bits >> 2)) {
        case missing_kind::none:
          missing = as_zero;
          break;
        case missing_kind::nan:
          break;
        case missing_kind::zero:
          if (by_default != as_zero)
            refuse("a split that takes 0 for missing is not built in; train with zero_as_missing=false");
          break;
        default:
          refuse("decision_type is out of range");
      }
      e_.nodes[first + i] = {threshold[i], column, place(left[i]), place(right[i]), split::leq, missing};
    }
    e_.roots.push_back(static_cast<std::uint32_t>(first));
    if (inner > 0 && tree.has("internal_count") && tree.has("leaf_count")) {
      const auto of_inner = tree.numbers("internal_count", inner);
      const auto of_leaves = tree.numbers("leaf_count", leaves);
      e_.cover.insert(e_.cover.end(), of_inner.begin(), of_inner.end());
      e_.cover.insert(e_.cover.end(), of_leaves.begin(), of_leaves.end());
    } else {
      if (inner > 0) covered_ = false;
      e_.cover.resize(e_.nodes.size(), 0);
    }
  }

  const graph_hints& hints_;
  const onnx::limits& most_;
  ensemble e_;
  std::optional<category_splits> sets_;
  output_spec output_;
  std::vector<std::string> names_;
  bool covered_ = true;
};

}  // namespace

compiled_graph read_lightgbm(std::string_view file, const graph_hints& hints, const onnx::limits& most) {
  return reader(hints, most).run(file);
}

}  // namespace troupe::model

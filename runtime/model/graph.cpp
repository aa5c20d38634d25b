#include "runtime/model/graph.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "runtime/model/onnx_trees.hpp"
#include "runtime/model/pipeline.hpp"
#include "runtime/model/shap.hpp"

namespace troupe::model {
namespace {

[[noreturn]] void refuse(const onnx::node& n, const std::string& what) {
  throw load_error("operator " + std::string(n.op.substr(0, 64)) + ": " + what);
}

std::string in_quotes(std::string_view name) {
  std::string text("'");
  text.append(name.substr(0, 64)).push_back('\'');
  return text;
}

bool is_classifier(std::string_view op) {
  return op == "TreeEnsembleClassifier" || op == "LinearClassifier";
}

class compiler {
 public:
  compiler(const onnx::graph& g, const graph_hints& hints, const onnx::limits& most)
      : g_(g), hints_(hints), most_(most) {}

  compiled_graph run() {
    for (const onnx::tensor& t : g_.initializers) constants_.emplace(t.name, &t);
    for (const onnx::node& n : g_.nodes) {
      for (std::size_t i = 0; i < n.outputs.size(); ++i) {
        if (n.outputs[i].empty()) continue;
        if (!producers_.emplace(n.outputs[i], std::pair(&n, i)).second) {
          throw load_error("two operators write " + in_quotes(n.outputs[i]));
        }
      }
    }
    choose_result();
    for (const onnx::node& n : g_.nodes) {
      for (const auto name : n.inputs) ++readers_[name];
    }
    ++readers_[result_];
    add_inputs();
    slice();
    for (const onnx::node& n : g_.nodes) {
      if (needed_.contains(&n)) add(n);
    }
    return finish();
  }

 private:
  struct value {
    const onnx::tensor* constant = nullptr;
    std::uint32_t slot = 0;
    bool is_float = true;  ///< else double
  };

  // -- what the graph answers
  // ------------------------------------------------------------------------------------

  void choose_result() {
    std::vector<std::string_view> found;
    for (const onnx::value_info& o : g_.outputs) {
      const auto producer = producers_.find(o.name);
      const bool zip = producer != producers_.end() && producer->second.first->op == "ZipMap";
      using enum onnx::element;
      if (zip || o.type == float32 || o.type == float64) {
        found.push_back(o.name);
      } else if (o.type == int64 || o.type == int32 || o.type == string || o.type == boolean) {
        has_label_ = true;
      } else {
        throw load_error("output " + in_quotes(o.name) +
                         " is neither a tensor of floats nor a label; export without it");
      }
    }
    if (found.empty()) {
      throw load_error(has_label_ ? "its only output is a label; export it with probabilities"
                                  : "it has no output");
    }
    if (found.size() > 1) {
      throw load_error("it has " + std::to_string(found.size()) + " outputs of floats (" +
                       in_quotes(found[0]) + ", " + in_quotes(found[1]) + "); export it with one");
    }
    result_ = found[0];
    // Behind operators that only pass probabilities on, is there a classifier?
    std::string_view at = result_;
    for (std::size_t steps = 0; steps <= g_.nodes.size(); ++steps) {
      const auto producer = producers_.find(at);
      if (producer == producers_.end()) return;
      const onnx::node& n = *producer->second.first;
      if (is_classifier(n.op)) {
        classifier_ = &n;
        return;
      }
      if (n.op != "ZipMap" && n.op != "Identity" && n.op != "Normalizer" && n.op != "Cast") return;
      if (n.op == "ZipMap") zip_ = &n;
      if (n.inputs.empty()) return;
      at = n.inputs[0];
    }
  }

  /// The operators on the way to the result; labels and what follows from them are left out.
  void slice() {
    std::vector<std::string_view> left = {result_};
    while (!left.empty()) {
      const std::string_view name = left.back();
      left.pop_back();
      const auto producer = producers_.find(name);
      if (producer == producers_.end()) continue;
      const onnx::node& n = *producer->second.first;
      if (!needed_.insert(&n).second) continue;
      left.insert(left.end(), n.inputs.begin(), n.inputs.end());
    }
  }

  // -- what it takes
  // ---------------------------------------------------------------------------------------------

  void add_inputs() {
    std::vector<const onnx::value_info*> inputs;
    for (const onnx::value_info& i : g_.inputs) {
      if (!constants_.contains(i.name)) inputs.push_back(&i);
    }
    if (inputs.empty()) throw load_error("it has no input");
    for (const onnx::value_info* i : inputs) {
      if (i->type != onnx::element::float32 && i->type != onnx::element::float64) {
        throw load_error("input " + in_quotes(i->name) +
                         " is not a tensor of floats; export it with float inputs");
      }
      std::int64_t width = 1;
      if (i->dims.size() == 2) {
        width = i->dims[1];
      } else if (i->dims.size() != 1 || !i->has_shape) {
        throw load_error("input " + in_quotes(i->name) +
                         " is not a table of rows; its shape has to be [N, features]");
      }
      if (width < 0 && inputs.size() == 1) width = static_cast<std::int64_t>(hints_.features.size());
      if (width <= 0) {
        throw load_error("input " + in_quotes(i->name) +
                         " has no fixed number of columns; list them as features: in model.yaml");
      }
      if (static_cast<std::uint64_t>(width) > most_.features - width_) {
        throw load_error("a row has more than " + std::to_string(most_.features) + " features, the limit");
      }
      const auto columns = static_cast<std::size_t>(width);
      const bool is_float = i->type == onnx::element::float32;
      const std::uint32_t s = new_slot(columns);
      if (!values_.emplace(i->name, value{nullptr, s, is_float}).second) {
        throw load_error("two inputs are called " + in_quotes(i->name));
      }
      ++names_of_slot_[s];
      engine_->sources.push_back({s, width_, is_float});
      for (std::size_t c = 0; inputs.size() > 1 && c < columns; ++c) {
        names_.emplace_back(i->name);
        if (columns > 1) names_.back().append("_").append(std::to_string(c));
      }
      width_ += columns;
    }
    named_ = !names_.empty();
    if (!hints_.features.empty()) {
      take_names(hints_.features, "model.yaml");
    } else if (!named_) {
      take_metadata_names();
    }
    for (std::size_t c = 0; !named_ && c < width_; ++c) names_.emplace_back("f").append(std::to_string(c));
    std::unordered_set<std::string_view> seen;
    for (const std::string& n : names_) {
      if (!seen.insert(n).second) throw load_error("two features are called " + in_quotes(n));
    }
  }

  void take_names(std::vector<std::string> names, const char* from) {
    if (names.size() != width_) {
      throw load_error(std::string(from) + " names " + std::to_string(names.size()) +
                       " features, the graph takes " + std::to_string(width_));
    }
    names_ = std::move(names);
    named_ = true;
  }

  /// metadata_props: feature_names, a JSON list or a list with commas.
  void take_metadata_names() {
    for (const auto& [key, text] : g_.metadata) {
      if (key != "feature_names" || text.empty()) continue;
      std::vector<std::string> names;
      if (text[0] == '[') {
        const auto list = nlohmann::json::parse(text, nullptr, false);
        if (!list.is_array()) return;
        for (const auto& each : list) {
          if (!each.is_string()) return;
          names.push_back(each.get<std::string>());
        }
      } else {
        for (std::size_t at = 0; at <= text.size();) {
          const std::size_t end = std::min(text.find(',', at), text.size());
          names.emplace_back(text.substr(at, end - at));
          at = end + 1;
        }
      }
      take_names(std::move(names), "the metadata entry feature_names");
      return;
    }
  }

  // -- operators
  // -------------------------------------------------------------------------------------------------

  std::uint32_t new_slot(std::size_t width) { return engine_->add_slot(width, most_.features * 64); }

  [[nodiscard]] std::size_t width_of(const value& v) const { return engine_->slots[v.slot].width; }

  value input(const onnx::node& n, std::size_t i) {
    if (i >= n.inputs.size() || n.inputs[i].empty()) refuse(n, "input " + std::to_string(i) + " is missing");
    const std::string_view name = n.inputs[i];
    if (const auto at = values_.find(name); at != values_.end()) return at->second;
    if (const auto at = constants_.find(name); at != constants_.end()) {
      return {at->second, 0, at->second->type == onnx::element::float32};
    }
    if (const auto at = producers_.find(name);
        at != producers_.end() && is_classifier(at->second.first->op)) {
      refuse(n, "works on a label; export the model with probabilities only");
    }
    refuse(n, "input " + in_quotes(name) + " is not there");
  }

  value data(const onnx::node& n, std::size_t i) {
    const value v = input(n, i);
    if (v.constant) refuse(n, "on a constant in place of rows is not built in");
    return v;
  }

  const onnx::tensor& constant(const onnx::node& n, std::size_t i) {
    const value v = input(n, i);
    if (!v.constant) refuse(n, "input " + std::to_string(i) + " has to be a constant");
    return *v.constant;
  }

  void emit(const onnx::node& n, step_ptr s, const std::vector<value>& from, std::size_t width, bool is_float,
            std::size_t output = 0) {
    if (output >= n.outputs.size() || n.outputs[output].empty()) {
      refuse(n, "output " + std::to_string(output) + " is missing");
    }
    operation o;
    for (const value& v : from) o.inputs.push_back(v.slot);
    const bool reuse = s->in_place() && width_of(from[0]) == width && last_use(n, from[0].slot);
    o.output = new_slot(reuse ? 0 : width);
    if (reuse) engine_->slots[o.output] = engine_->slots[from[0].slot];
    o.run = std::move(s);
    engine_->operations.push_back(std::move(o));
    define(n, output, {nullptr, engine_->operations.back().output, is_float});
  }

  void define(const onnx::node& n, std::size_t output, value v) {
    if (!values_.emplace(n.outputs[output], v).second)
      refuse(n, "writes " + in_quotes(n.outputs[output]) + " again");
    ++names_of_slot_[v.slot];
  }

  void same(const onnx::node& n) {
    if (n.outputs.empty() || n.outputs[0].empty()) refuse(n, "output 0 is missing");
    define(n, 0, data(n, 0));
  }

  /// Nothing but `n` reads that slot, under this name or another: its memory may take the next one.
  [[nodiscard]] bool last_use(const onnx::node& n, std::uint32_t s) const {
    if (names_of_slot_.at(s) != 1) return false;
    return std::any_of(n.inputs.begin(), n.inputs.end(), [&](std::string_view name) {
      const auto v = values_.find(name);
      return v != values_.end() && v->second.slot == s && readers_.at(name) == 1;
    });
  }

  void add(const onnx::node& n) {
    const bool ml = n.domain == "ai.onnx.ml";
    if (!ml && !n.domain.empty() && n.domain != "ai.onnx") refuse_operator(n);
    const std::string_view op = n.op;
    if (ml) {
      if (op == "TreeEnsembleRegressor" || op == "TreeEnsembleClassifier") return add_trees(n);
      if (op == "LinearRegressor" || op == "LinearClassifier") return add_linear(n);
      if (op == "Scaler") return add_scaler(n);
      if (op == "Imputer") return add_imputer(n);
      if (op == "Normalizer") return add_normalizer(n);
      if (op == "ArrayFeatureExtractor") return add_pick(n);
      if (op == "ZipMap") return same(n);
      if (op == "Binarizer") {
        const value x = data(n, 0);
        const auto* t = n.find("threshold");
        return emit(n, binarizer(t ? static_cast<double>(t->f) : 0), {x}, width_of(x), x.is_float);
      }
      refuse_operator(n);
    }
    if (op == "Identity") return same(n);
    if (op == "Constant") return add_constant(n);
    if (op == "Cast") return add_cast(n);
    if (op == "Add") return add_arithmetic(n, arithmetic::add);
    if (op == "Sub") return add_arithmetic(n, arithmetic::sub);
    if (op == "Mul") return add_arithmetic(n, arithmetic::mul);
    if (op == "Div") return add_arithmetic(n, arithmetic::div);
    if (op == "MatMul" || op == "Gemm") return add_matrix(n);
    if (op == "Concat") return add_concat(n);
    if (op == "Gather") return add_pick(n);
    if (op == "Reshape" || op == "Flatten") return add_reshape(n);
    if (op == "Relu" || op == "Sigmoid" || op == "Tanh") {
      const value x = data(n, 0);
      network_ = true;
      const auto how = op == "Relu"   ? activation::relu
                       : op == "Tanh" ? activation::tanh
                                      : activation::sigmoid;
      if (how == activation::relu && follows_open(n, x)) {
        open_->then_relu();
        open_ = nullptr;
        linear_end_ = none;
        return into_open(n, x);
      }
      return emit(n, activate(how, x.is_float), {x}, width_of(x), x.is_float);
    }
    if (op == "Softmax") {
      const value x = data(n, 0);
      need_axis(n, -1);
      return emit(n, softmax_step(), {x}, width_of(x), x.is_float);
    }
    refuse_operator(n);
  }

  [[noreturn]] static void refuse_operator(const onnx::node& n) {
    const bool standard = n.domain.empty() || n.domain == "ai.onnx" || n.domain == "ai.onnx.ml";
    const std::string domain = standard ? "" : std::string(n.domain.substr(0, 64)) + ".";
    throw load_error("operator " + domain + std::string(n.op.substr(0, 64)) +
                     " is not built in; export the model without it");
  }

  static void need_axis(const onnx::node& n, std::int64_t by_default) {
    const auto* a = n.find("axis");
    const std::int64_t axis = a ? a->i : by_default;
    if (axis != 1 && axis != -1) refuse(n, "axis " + std::to_string(axis) + " is not built in; 1 is");
  }

  void add_trees(const onnx::node& n) {
    const value x = data(n, 0);
    forest f(read_trees(n, width_of(x), x.is_float, most_));
    const std::size_t width = f.outputs();
    has_trees_ = true;
    emit(n, trees(std::move(f)), {x}, width, true, is_classifier(n.op) ? 1 : 0);
  }

  /// The operator that comes next is a linear model.
  void last_linear(const affine& a) {
    if (!hints_.explain) return;
    linear_ = a;
    linear_at_ = linear_end_ = engine_->operations.size();
  }

  static std::vector<double> floats(const onnx::node& n, std::string_view name) {
    const auto* a = n.find(name);
    return a ? std::vector<double>(a->floats.begin(), a->floats.end()) : std::vector<double>();
  }

  static std::vector<double> per_column(const onnx::node& n, std::string_view name, std::size_t width) {
    auto list = floats(n, name);
    if (list.size() != 1 && list.size() != width) {
      refuse(n, std::string(name) + " has " + std::to_string(list.size()) + " entries for " +
                    std::to_string(width) + " columns");
    }
    return list;
  }

  void add_linear(const onnx::node& n) {
    const value x = data(n, 0);
    const bool classifier = is_classifier(n.op);
    affine a;
    a.inputs = width_of(x);
    a.weights = floats(n, "coefficients");
    a.bias = floats(n, "intercepts");
    a.outputs = a.weights.size() / a.inputs;
    if (a.outputs == 0 || a.outputs * a.inputs != a.weights.size() || a.outputs > most_.outputs) {
      refuse(n,
             std::to_string(a.weights.size()) + " coefficients for " + std::to_string(a.inputs) + " columns");
    }
    if (!a.bias.empty() && a.bias.size() != a.outputs) {
      refuse(n, std::to_string(a.bias.size()) + " intercepts for " + std::to_string(a.outputs) + " outputs");
    }
    const post_transform how = post_transform_of(n);
    const std::size_t outputs = a.outputs;
    last_linear(a);
    if (classifier && outputs == 1 && labels_of(n).size() == 2) {
      return emit(n, linear_binary(std::move(a), how), {x}, 2, true, 1);
    }
    emit(n, linear(std::move(a), how, false), {x}, outputs, true, classifier ? 1 : 0);
  }

  void add_scaler(const onnx::node& n) {
    const value x = data(n, 0);
    const std::size_t width = width_of(x);
    emit(n, scaler(per_column(n, "offset", width), per_column(n, "scale", width)), {x}, width, true);
  }

  void add_imputer(const onnx::node& n) {
    const value x = data(n, 0);
    const auto* replaced = n.find("replaced_value_float");
    if (n.find("imputed_value_floats") == nullptr) refuse(n, "only values of floats are built in");
    emit(n,
         imputer(per_column(n, "imputed_value_floats", width_of(x)),
                 replaced ? static_cast<double>(replaced->f) : 0.0),
         {x}, width_of(x), x.is_float);
  }

  void add_normalizer(const onnx::node& n) {
    const value x = data(n, 0);
    const auto* a = n.find("norm");
    const std::string_view name = a ? a->s : "MAX";
    if (name != "MAX" && name != "L1" && name != "L2")
      refuse(n, "norm " + in_quotes(name) + " is not built in");
    emit(n,
         normalizer(name == "MAX"  ? norm::max
                    : name == "L1" ? norm::l1
                                   : norm::l2),
         {x}, width_of(x), true);
  }

  void add_constant(const onnx::node& n) {
    const auto* a = n.find("value");
    if (!a || a->t.empty()) refuse(n, "only constants that are tensors are built in");
    if (n.outputs.empty()) refuse(n, "output 0 is missing");
    constants_.insert_or_assign(n.outputs[0], &a->t[0]);
  }

  void add_cast(const onnx::node& n) {
    const value x = data(n, 0);
    const auto* to = n.find("to");
    const auto type = static_cast<onnx::element>(to ? to->i : 0);
    if (type == onnx::element::float64 || (type == onnx::element::float32 && x.is_float)) {
      same(n);
      values_.find(n.outputs[0])->second.is_float = type == onnx::element::float32;
    } else if (type == onnx::element::float32) {
      emit(n, round_to_float(), {x}, width_of(x), true);
    } else {
      refuse(n, "only float and double are built in as a type to cast to");
    }
  }

  static std::size_t row_size(const onnx::node& n, const onnx::tensor& t) {
    const bool row = t.dims.size() < 2 || (t.dims.size() == 2 && t.dims[0] == 1);
    if (!row || t.numbers.empty() || t.type == onnx::element::int64) {
      refuse(n, "constant " + in_quotes(t.name) + " is not one row of floats");
    }
    return t.numbers.size();
  }

  void add_arithmetic(const onnx::node& n, arithmetic op) {
    const value a = input(n, 0);
    const value b = input(n, 1);
    if (a.is_float != b.is_float || (a.constant && b.constant))
      refuse(n, "its two inputs do not fit each other");
    const value& x = a.constant ? b : a;
    const std::size_t w = width_of(x);
    const std::size_t k = a.constant   ? row_size(n, *a.constant)
                          : b.constant ? row_size(n, *b.constant)
                                       : width_of(b);
    if (k != w && k != 1 && w != 1) {
      refuse(n, std::to_string(w) + " columns and " + std::to_string(k) + " do not fit each other");
    }
    const std::size_t width = std::max(w, k);
    if (!a.constant && !b.constant) return emit(n, with_column(op, a.is_float), {a, b}, width, a.is_float);
    const onnx::tensor& t = a.constant ? *a.constant : *b.constant;
    if (t.type != onnx::element::float32 && t.type != onnx::element::float64) {
      refuse(n, "constant " + in_quotes(t.name) + " is not of floats");
    }
    const bool joins = op == arithmetic::add && w == t.numbers.size() && !open_added_ && follows_open(n, x);
    // A bias on its own still belongs to the linear model before it.
    if (op == arithmetic::add && linear_end_ + 1 == engine_->operations.size() &&
        x.slot == engine_->operations.back().output && t.numbers.size() == linear_.outputs &&
        w == linear_.outputs) {
      linear_.bias.resize(linear_.outputs);
      for (std::size_t i = 0; i < linear_.outputs; ++i) linear_.bias[i] += t.numbers[i];
      if (!joins) ++linear_end_;
    }
    if (joins) {
      open_->then_add(t.numbers);
      open_added_ = true;
      return into_open(n, x);
    }
    emit(n, with_constant(op, t.numbers, a.constant != nullptr, x.is_float), {x}, width, x.is_float);
  }

  static double real(const onnx::node& n, std::string_view name, double otherwise) {
    const auto* a = n.find(name);
    return a ? static_cast<double>(a->f) : otherwise;
  }

  void add_matrix(const onnx::node& n) {
    const value x = data(n, 0);
    const onnx::tensor& w = constant(n, 1);
    const bool gemm = n.op == "Gemm";
    const auto* turned = gemm ? n.find("transB") : nullptr;
    const bool by_output = turned && turned->i != 0;
    if (const auto* t = n.find("transA"); gemm && t && t->i != 0) refuse(n, "transA is not built in");
    if (w.dims.empty() || w.dims.size() > 2 || w.numbers.empty()) {
      refuse(n, "constant " + in_quotes(w.name) + " is not a matrix of floats");
    }
    affine a;
    a.inputs = width_of(x);
    const auto rows = static_cast<std::size_t>(w.dims[0]);
    const std::size_t across = w.numbers.size() / rows;
    a.outputs = by_output ? rows : across;
    if ((by_output ? across : rows) != a.inputs || a.outputs > most_.outputs) {
      refuse(n, "a matrix of " + std::to_string(rows) + " x " + std::to_string(across) + " for " +
                    std::to_string(a.inputs) + " columns");
    }
    const double alpha = gemm ? real(n, "alpha", 1) : 1;
    a.weights.resize(a.inputs * a.outputs);
    for (std::size_t k = 0; k < a.outputs; ++k) {
      for (std::size_t c = 0; c < a.inputs; ++c) {
        a.weights[k * a.inputs + c] = alpha * w.numbers[by_output ? k * a.inputs + c : c * a.outputs + k];
      }
    }
    if (gemm && n.inputs.size() > 2 && !n.inputs[2].empty()) {
      const onnx::tensor& c = constant(n, 2);
      const std::size_t size = row_size(n, c);
      if (size != 1 && size != a.outputs) refuse(n, "its constant C does not fit");
      const double beta = real(n, "beta", 1);
      for (std::size_t k = 0; k < a.outputs; ++k) a.bias.push_back(beta * c.numbers[size == 1 ? 0 : k]);
    }
    const std::size_t outputs = a.outputs;
    last_linear(a);
    if (outputs < 3)
      return emit(n, linear(std::move(a), post_transform::none, x.is_float), {x}, outputs, x.is_float);
    auto made = dense(a, x.is_float);
    layer* const open = made.get();
    emit(n, std::move(made), {x}, outputs, x.is_float);
    open_ = open;
    open_at_ = engine_->operations.size() - 1;
    open_added_ = false;
  }

  /// `x` comes from the layer that still takes what follows it, and goes nowhere but to `n`.
  [[nodiscard]] bool follows_open(const onnx::node& n, const value& x) const {
    return open_ != nullptr && open_at_ + 1 == engine_->operations.size() &&
           engine_->operations.back().output == x.slot && last_use(n, x.slot);
  }

  /// What `n` does is done by the open layer: its output is the layer's.
  void into_open(const onnx::node& n, const value& x) {
    if (n.outputs.empty() || n.outputs[0].empty()) refuse(n, "output 0 is missing");
    define(n, 0, x);
    --names_of_slot_[x.slot];  // nothing reads the first name any more
  }

  void add_concat(const onnx::node& n) {
    need_axis(n, 0);
    std::vector<value> from;
    std::size_t width = 0;
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      from.push_back(data(n, i));
      width += width_of(from[i]);
      if (from[i].is_float != from[0].is_float) refuse(n, "its inputs are of two types");
    }
    if (from.empty()) refuse(n, "input 0 is missing");
    emit(n, concat(from.size()), from, width, from[0].is_float);
  }

  void add_pick(const onnx::node& n) {
    const value x = data(n, 0);
    if (n.op == "Gather") need_axis(n, 0);
    const onnx::tensor& t = constant(n, 1);
    const auto width = static_cast<std::int64_t>(width_of(x));
    std::vector<std::uint32_t> which;
    for (std::int64_t c : t.ints) {
      if (c < 0 && n.op == "Gather") c += width;
      if (c < 0 || c >= width) refuse(n, "column " + std::to_string(c) + " of " + std::to_string(width));
      which.push_back(static_cast<std::uint32_t>(c));
    }
    if (which.empty() || which.size() > most_.features) refuse(n, "picks no columns, or too many");
    const std::size_t count = which.size();
    emit(n, pick(std::move(which)), {x}, count, x.is_float);
  }

  /// Rows stay rows: the shape is [N, width] already.
  void add_reshape(const onnx::node& n) {
    const value x = data(n, 0);
    const auto width = static_cast<std::int64_t>(width_of(x));
    if (n.op == "Flatten") {
      need_axis(n, 1);
      return same(n);
    }
    const auto& shape = constant(n, 1).ints;
    const bool one = shape.size() == 1 && shape[0] == -1 && width == 1;
    const bool two =
        shape.size() == 2 && ((shape[0] == -1 && (shape[1] == width || shape[1] == 0)) ||
                              (shape[0] == 0 && (shape[1] == -1 || shape[1] == width || shape[1] == 0)));
    if (!one && !two) refuse(n, "to another number of columns is not built in");
    same(n);
  }

  // -- the whole
  // -------------------------------------------------------------------------------------------------

  static std::vector<std::string> labels_of(const onnx::node& n) {
    std::vector<std::string> labels;
    for (const char* name : {"classlabels_strings", "classlabels_int64s", "classlabels_ints"}) {
      const auto* a = n.find(name);
      if (!a || !labels.empty()) continue;
      for (const auto text : a->strings) labels.emplace_back(text);
      for (const auto number : a->ints) labels.push_back(std::to_string(number));
    }
    return labels;
  }

  output_spec describe(std::size_t width) const {
    output_spec out;
    out.width = width;
    if (!classifier_ && !has_label_ && hints_.classes.empty()) return out;
    out.kind = task::classification;
    if (!hints_.classes.empty()) {
      out.classes = hints_.classes;
    } else {
      if (classifier_) out.classes = labels_of(*classifier_);
      if (zip_ && out.classes.size() != width) out.classes = labels_of(*zip_);
      for (std::size_t k = 0; !classifier_ && out.classes.size() < width; ++k)
        out.classes.push_back(std::to_string(k));
    }
    if (out.classes.size() != width) {
      throw load_error(std::to_string(out.classes.size()) + " class names for " + std::to_string(width) +
                       " probabilities; list them as classes: in model.yaml");
    }
    return out;
  }

  compiled_graph finish() {
    const auto at = values_.find(result_);
    if (at == values_.end())
      throw load_error("output " + in_quotes(result_) + " is not written by any operator");
    engine_->result = at->second.slot;
    const auto& operations = engine_->operations;
    if (operations.empty() || operations.back().output != engine_->result) {
      throw load_error("the graph only passes its input on; there is nothing to score");
    }
    engine_->name = has_trees_ ? "forest" : network_ ? "network" : "linear";
    const std::size_t width = engine_->slots[engine_->result].width;
    if (width > most_.outputs)
      throw load_error("it has more than " + std::to_string(most_.outputs) + " outputs");
    compiled_graph made;
    made.output = describe(width);
    const std::vector<bool> missing = missing_allowed(*engine_, std::vector<double>(width_, 1.0));
    std::vector<feature> features;
    for (std::size_t c = 0; c < width_; ++c) features.push_back({std::move(names_[c]), missing[c]});
    made.schema = schema(std::move(features), named_);
    if (hints_.explain) explain(made);
    made.engine = std::move(engine_);
    return made;
  }

  void explain(compiled_graph& made) {
    if (!has_trees_ && linear_end_ + 1 == engine_->operations.size()) {
      try {
        made.explain = explain_linear(*engine_, linear_at_, width_, std::move(linear_));
      } catch (const load_error& error) {
        made.unexplained = error.what();
      }
      return;
    }
    made.unexplained =
        has_trees_
            ? "ONNX does not keep how many training rows came by each node of a tree, which explanations "
              "need; put model.skops, model.json (XGBoost) or model.txt (LightGBM) in its place"
            : "explanations are built in for trees and linear models";
  }

  const onnx::graph& g_;
  const graph_hints& hints_;
  const onnx::limits& most_;
  std::unique_ptr<pipeline> engine_ = std::make_unique<pipeline>();
  std::unordered_map<std::string_view, const onnx::tensor*> constants_;
  std::unordered_map<std::string_view, std::pair<const onnx::node*, std::size_t>> producers_;
  std::unordered_map<std::string_view, value> values_;
  std::unordered_map<std::string_view, std::size_t> readers_;
  std::unordered_map<std::uint32_t, std::size_t> names_of_slot_;
  std::unordered_set<const onnx::node*> needed_;
  std::string_view result_;
  const onnx::node* classifier_ = nullptr;
  const onnx::node* zip_ = nullptr;
  bool has_label_ = false;
  bool has_trees_ = false;
  bool network_ = false;
  affine linear_;
  static constexpr std::size_t none = SIZE_MAX - 1;
  std::size_t linear_at_ = none;
  std::size_t linear_end_ = none;
  layer* open_ = nullptr;  ///< the last operation, where it can take more upon itself
  std::size_t open_at_ = none;
  bool open_added_ = false;
  bool named_ = false;
  std::size_t width_ = 0;
  std::vector<std::string> names_;
};

}  // namespace

compiled_graph compile(const onnx::graph& g, const graph_hints& hints, const onnx::limits& most) {
  return compiler(g, hints, most).run();
}

compiled_graph compile(std::string_view file, const graph_hints& hints, const onnx::limits& most) {
  return compile(onnx::read(file, most), hints, most);
}

}  // namespace troupe::model

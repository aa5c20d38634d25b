#pragma once
// Writes ONNX files for tests: just enough of protobuf's wire format to say what a graph holds.

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe::model::test {

class proto {
 public:
  proto& varint(std::uint32_t field, std::int64_t value) {
    number(field << 3);
    number(static_cast<std::uint64_t>(value));
    return *this;
  }
  proto& real(std::uint32_t field, float value) {
    number(field << 3 | 5U);
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  proto& bytes(std::uint32_t field, std::string_view value) {
    number(field << 3 | 2U);
    number(value.size());
    text_.append(value);
    return *this;
  }
  proto& part(std::uint32_t field, const proto& p) { return bytes(field, p.text_); }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  void number(std::uint64_t value) {
    for (; value >= 128; value >>= 7) text_.push_back(static_cast<char>(value | 128U));
    text_.push_back(static_cast<char>(value));
  }
  std::string text_;
};

enum : std::int64_t { of_float = 1, of_int64 = 7, of_double = 11 };

inline proto attribute(std::string_view name, std::int64_t value) {
  return proto().bytes(1, name).varint(3, value);
}
inline proto attribute(std::string_view name, float value) {
  return proto().bytes(1, name).real(2, value);
}
inline proto attribute(std::string_view name, std::string_view value) {
  return proto().bytes(1, name).bytes(4, value);
}
inline proto attribute(std::string_view name, const char* value) {
  return attribute(name, std::string_view(value));
}
inline proto attribute(std::string_view name, const std::vector<float>& values) {
  proto p;
  p.bytes(1, name).bytes(7, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  return p;
}
inline proto attribute(std::string_view name, const std::vector<std::int64_t>& values) {
  proto p;
  p.bytes(1, name);
  for (const auto v : values) p.varint(8, v);
  return p;
}
inline proto attribute(std::string_view name, const std::vector<std::string>& values) {
  proto p;
  p.bytes(1, name);
  for (const auto& v : values) p.bytes(9, v);
  return p;
}

template <class T>
proto constant(std::string_view name, std::int64_t type, const std::vector<std::int64_t>& dims,
               const std::vector<T>& data) {
  proto p;
  for (const auto d : dims) p.varint(1, d);
  p.varint(2, type).bytes(8, name);
  p.bytes(9, {reinterpret_cast<const char*>(data.data()), data.size() * sizeof(T)});
  return p;
}
/// A constant as an attribute's value.
inline proto tensor_attribute(std::string_view name, const proto& tensor) {
  return proto().bytes(1, name).part(5, tensor);
}

inline proto node(std::string_view domain, std::string_view op, const std::vector<std::string>& inputs,
                  const std::vector<std::string>& outputs, const std::vector<proto>& attributes = {}) {
  proto p;
  for (const auto& i : inputs) p.bytes(1, i);
  for (const auto& o : outputs) p.bytes(2, o);
  p.bytes(4, op);
  for (const auto& a : attributes) p.part(5, a);
  p.bytes(7, domain);
  return p;
}

/// An input or output of shape [N, columns]; -1 columns: not said.
inline proto table(std::string_view name, std::int64_t type, std::int64_t columns) {
  proto shape;
  shape.part(1, proto().bytes(2, "N"));
  shape.part(1, columns < 0 ? proto() : proto().varint(1, columns));
  return proto().bytes(1, name).part(2, proto().part(1, proto().varint(1, type).part(2, shape)));
}

struct file {
  std::vector<proto> nodes;
  std::vector<proto> inputs;
  std::vector<proto> outputs;
  std::vector<proto> constants;
  std::vector<std::pair<std::string, std::string>> metadata;

  [[nodiscard]] std::string text() const {
    proto graph;
    for (const auto& n : nodes) graph.part(1, n);
    for (const auto& c : constants) graph.part(5, c);
    for (const auto& i : inputs) graph.part(11, i);
    for (const auto& o : outputs) graph.part(12, o);
    proto model;
    model.varint(1, 8).part(7, graph);
    for (const auto& [key, value] : metadata) model.part(14, proto().bytes(1, key).bytes(2, value));
    return model.text();
  }
};

constexpr std::string_view ml = "ai.onnx.ml";

/// A tree ensemble as lists, the way the operator holds it.
struct tree_lists {
  std::vector<std::int64_t> trees, ids, features, yes, no, missing;
  std::vector<float> values;
  std::vector<std::string> modes;
  std::vector<std::int64_t> leaf_trees, leaf_ids, leaf_outputs;
  std::vector<float> leaf_weights;

  void branch(std::int64_t tree, std::int64_t id, std::int64_t feature, std::string mode, float value,
              std::int64_t if_true, std::int64_t if_false, bool missing_is_true = false) {
    trees.push_back(tree), ids.push_back(id), features.push_back(feature), modes.push_back(std::move(mode));
    values.push_back(value), yes.push_back(if_true), no.push_back(if_false),
        missing.push_back(missing_is_true);
  }
  void leaf(std::int64_t tree, std::int64_t id, std::int64_t output, float weight) {
    branch(tree, id, 0, "LEAF", 0, 0, 0);
    share(tree, id, output, weight);
  }
  void share(std::int64_t tree, std::int64_t id, std::int64_t output, float weight) {
    leaf_trees.push_back(tree), leaf_ids.push_back(id), leaf_outputs.push_back(output),
        leaf_weights.push_back(weight);
  }

  [[nodiscard]] std::vector<proto> attributes(const std::string& prefix) const {
    std::vector<proto> all = {attribute("nodes_treeids", trees),
                              attribute("nodes_nodeids", ids),
                              attribute("nodes_featureids", features),
                              attribute("nodes_truenodeids", yes),
                              attribute("nodes_falsenodeids", no),
                              attribute("nodes_values", values),
                              attribute("nodes_modes", modes),
                              attribute(prefix + "_treeids", leaf_trees),
                              attribute(prefix + "_nodeids", leaf_ids),
                              attribute(prefix + "_ids", leaf_outputs),
                              attribute(prefix + "_weights", leaf_weights)};
    for (const auto m : missing) {
      if (m) {
        all.push_back(attribute("nodes_missing_value_tracks_true", missing));
        break;
      }
    }
    return all;
  }

  /// X [N, width] -> TreeEnsembleRegressor -> Y.
  [[nodiscard]] file regressor(std::int64_t width, std::int64_t targets = 1, std::vector<proto> more = {},
                               std::int64_t type = of_float) const {
    auto all = attributes("target");
    all.push_back(attribute("n_targets", targets));
    all.insert(all.end(), more.begin(), more.end());
    return {{node(ml, "TreeEnsembleRegressor", {"X"}, {"Y"}, all)},
            {table("X", type, width)},
            {table("Y", of_float, targets)},
            {},
            {}};
  }
  /// X [N, width] -> TreeEnsembleClassifier -> label, Y.
  [[nodiscard]] file classifier(std::int64_t width, std::vector<std::int64_t> labels,
                                std::vector<proto> more = {}) const {
    auto all = attributes("class");
    all.push_back(attribute("classlabels_int64s", labels));
    all.insert(all.end(), more.begin(), more.end());
    return {{node(ml, "TreeEnsembleClassifier", {"X"}, {"label", "Y"}, all)},
            {table("X", of_float, width)},
            {table("label", of_int64, 1), table("Y", of_float, static_cast<std::int64_t>(labels.size()))},
            {},
            {}};
  }
};

}  // namespace troupe::model::test

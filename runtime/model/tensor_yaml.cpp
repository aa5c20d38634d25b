#include "runtime/model/tensor_yaml.hpp"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <string>

#include "runtime/model/tensor.hpp"

namespace troupe::model {
namespace {

constexpr std::size_t most_side = 4096;
constexpr std::size_t most_classes = 1'000'000;

class reader {
 public:
  explicit reader(const std::filesystem::path& file) : file_(file) {}

  [[noreturn]] void fail(const YAML::Node& at, const std::string& what) const {
    throw load_error(file_.string() + ": line " + std::to_string(at.Mark().line + 1) + ": " + what);
  }

  void only(const YAML::Node& map, const std::string& key,
            std::initializer_list<std::string_view> known) const {
    std::string keys;
    for (const auto k : known) keys.append(keys.empty() ? "" : ", ").append(k);
    if (!map.IsMap()) fail(map, key + " is not a mapping; it can hold " + keys);
    for (const auto& entry : map) {
      const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "?";
      bool found = false;
      for (const auto k : known) found |= k == name;
      if (!found) fail(entry.first, "unknown key " + key + "." + name + "; it can hold " + keys);
    }
  }

  [[nodiscard]] double number(const YAML::Node& n, const std::string& key) const {
    double x = 0;
    if (!n.IsScalar() || !YAML::convert<double>::decode(n, x) || !std::isfinite(x))
      fail(n, key + " is not a number");
    return x;
  }

  [[nodiscard]] std::size_t count(const YAML::Node& n, const std::string& key, std::size_t least,
                                  std::size_t most) const {
    const double x = number(n, key);
    if (x != std::floor(x) || x < static_cast<double>(least) || x > static_cast<double>(most))
      fail(n, key + " is a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    return static_cast<std::size_t>(x);
  }

  [[nodiscard]] bool truth(const YAML::Node& n, const std::string& key) const {
    bool x = false;
    if (!n.IsScalar() || !YAML::convert<bool>::decode(n, x)) fail(n, key + " is true or false");
    return x;
  }

  /// The place of the node's text in `words`.
  [[nodiscard]] std::size_t one_of(const YAML::Node& n, const std::string& key,
                                   std::initializer_list<std::string_view> words) const {
    std::string all;
    std::size_t i = 0;
    for (const auto w : words) {
      if (n.IsScalar() && n.Scalar() == w) return i;
      all.append(i++ ? ", " : "").append(w);
    }
    fail(n, key + " is one of " + all);
  }

  [[nodiscard]] std::array<double, 3> channels(const YAML::Node& n, const std::string& key,
                                               std::size_t count) const {
    std::array<double, 3> made{};
    if (n.IsSequence()) {
      if (n.size() != count) fail(n, key + " is a number, or a list of " + std::to_string(count));
      for (std::size_t i = 0; i < count; ++i) made[i] = number(n[i], key);
    } else {
      made.fill(number(n, key));
    }
    return made;
  }

  [[nodiscard]] input_step image(const YAML::Node& n) const;
  [[nodiscard]] input_step bytes(const YAML::Node& n) const;
  [[nodiscard]] std::vector<std::string> classes(const YAML::Node& n) const;

 private:
  const std::filesystem::path& file_;
};

input_step reader::image(const YAML::Node& n) const {
  only(n, "input",
       {"type", "size", "fit", "resize", "filter", "channels", "layout", "mean", "scale", "max_pixels"});
  input_step s;
  s.is = input_step::kind::image;
  image_step& i = s.image;
  const YAML::Node size = n["size"];
  if (!size) fail(n, "input.size is missing: [height, width]");
  if (!size.IsSequence() || size.size() != 2) fail(size, "input.size is [height, width]");
  i.height = count(size[0], "input.size", 1, most_side);
  i.width = count(size[1], "input.size", 1, most_side);
  if (n["fit"])
    i.how = std::array{fit::crop, fit::stretch,
                       fit::pad}[one_of(n["fit"], "input.fit", {"crop", "stretch", "pad"})];
  if (n["resize"]) {
    if (i.how != fit::crop) fail(n["resize"], "input.resize is of fit: crop");
    i.resize = count(n["resize"], "input.resize", std::max(i.height, i.width), most_side);
  }
  if (n["filter"]) i.bicubic = one_of(n["filter"], "input.filter", {"bilinear", "bicubic"}) == 1;
  if (n["channels"]) {
    const auto c = one_of(n["channels"], "input.channels", {"RGB", "BGR", "L"});
    i.bgr = c == 1;
    i.channels = c == 2 ? 1 : 3;
  }
  if (n["layout"]) i.channels_last = one_of(n["layout"], "input.layout", {"NCHW", "NHWC"}) == 1;
  if (n["mean"]) i.mean = channels(n["mean"], "input.mean", i.channels);
  if (n["scale"]) i.scale = channels(n["scale"], "input.scale", i.channels);
  for (std::size_t c = 0; c < i.channels; ++c)
    if (i.scale[c] == 0) fail(n["scale"], "input.scale is 0: values are divided by it");
  if (n["max_pixels"]) i.max_pixels = count(n["max_pixels"], "input.max_pixels", 1, 1'000'000'000);
  return s;
}

input_step reader::bytes(const YAML::Node& n) const {
  only(n, "input", {"type", "first", "last", "padding", "strip", "window"});
  input_step s;
  s.is = input_step::kind::bytes;
  bytes_step& b = s.bytes;
  if (n["first"]) b.first = count(n["first"], "input.first", 0, 1'000'000);
  if (n["last"]) b.last = count(n["last"], "input.last", 0, 1'000'000);
  if (b.first + b.last == 0) fail(n, "input.first and input.last are both 0: say how many bytes are taken");
  if (n["padding"]) b.padding = number(n["padding"], "input.padding");
  if (n["strip"]) b.strip = truth(n["strip"], "input.strip");
  if (n["window"]) b.window = count(n["window"], "input.window", 1, 1'000'000'000);
  return s;
}

std::vector<std::string> reader::classes(const YAML::Node& n) const {
  if (!n.IsScalar() || n.Scalar().empty() || n.Scalar().find('/') != std::string::npos)
    fail(n, "classes_file is the name of a file beside this one");
  const auto file = file_.parent_path() / n.Scalar();
  std::ifstream in(file);
  if (!in) fail(n, "classes_file " + file.string() + " cannot be read");
  std::vector<std::string> list;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) fail(n, file.string() + ": line " + std::to_string(list.size() + 1) + " is empty");
    list.push_back(std::move(line));
    if (list.size() > most_classes) fail(n, file.string() + " has more than 1000000 lines");
  }
  if (list.empty()) fail(n, file.string() + " is empty");
  return list;
}

}  // namespace

void read_tensor_hints(std::string_view text, const std::filesystem::path& file, graph_hints& hints) {
  const reader r(file);
  const YAML::Node root = YAML::Load(std::string(text));
  if (!root.IsMap()) return;
  if (const YAML::Node n = root["input"]) {
    if (!n.IsMap() || !n["type"]) r.fail(n, "input is a mapping with a type: image or bytes");
    hints.input = r.one_of(n["type"], "input.type", {"image", "bytes"}) == 0 ? r.image(n) : r.bytes(n);
  }
  if (const YAML::Node n = root["shapes"]) {
    if (!n.IsMap())
      r.fail(n, "shapes is a mapping of an input's name to the shape of a row, [128] for instance");
    for (const auto& entry : n) {
      const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
      const YAML::Node list = entry.second;
      if (name.empty() || !list.IsSequence())
        r.fail(entry.first,
               "shapes is a mapping of an input's name to the shape of a row, [128] for instance");
      auto& shape = hints.shapes[name];
      for (const auto& d : list)
        shape.push_back(static_cast<std::int64_t>(r.count(d, "shapes." + name, 1, onnx::limits{}.cells)));
    }
  }
  if (const YAML::Node n = root["outputs"]) {
    if (!n.IsSequence() || n.size() == 0) r.fail(n, "outputs is a list of names");
    for (const auto& o : n) {
      if (!o.IsScalar() || o.Scalar().empty()) r.fail(o, "outputs is a list of names");
      hints.outputs.push_back(o.Scalar());
    }
  }
  if (const YAML::Node n = root["softmax"]) hints.softmax = r.truth(n, "softmax");
  if (const YAML::Node n = root["top_k"]) hints.top_k = r.count(n, "top_k", 1, onnx::limits{}.outputs);
  if (const YAML::Node n = root["classes_file"]) {
    if (!hints.classes.empty()) r.fail(n, "classes and classes_file are both there; keep one of them");
    hints.classes = r.classes(n);
  }
}

}  // namespace troupe::model

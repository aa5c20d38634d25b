#include "runtime/model/tensor_yaml.hpp"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>

#include "runtime/model/load_mistakes.hpp"
#include "runtime/model/tensor.hpp"

namespace troupe::model {
namespace {

constexpr std::size_t most_side = 4096;
constexpr std::size_t most_classes = 1'000'000;

class reader {
 public:
  reader(const std::filesystem::path& file, load_mistakes& wrong) : file_(file), wrong_(wrong) {}

  /// Reads one part; what is wrong with it is noted.
  template <class F>
  void attempt(F part) const {
    wrong_.attempt(std::move(part));
  }
  /// The same of a key of the mapping, where it is there.
  template <class F>
  void each(const YAML::Node& map, const char* key, F read) const {
    if (const YAML::Node n = map[key]) attempt([&] { read(n, "input." + std::string(key)); });
  }

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
      if (!found)
        attempt([&] { fail(entry.first, "unknown key " + key + "." + name + "; it can hold " + keys); });
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
  load_mistakes& wrong_;
};

input_step reader::image(const YAML::Node& n) const {
  only(n, "input",
       {"type", "size", "fit", "resize", "filter", "channels", "layout", "mean", "scale", "max_pixels"});
  input_step s;
  s.is = input_step::kind::image;
  image_step& i = s.image;
  attempt([&] {
    const YAML::Node size = n["size"];
    if (!size) fail(n, "input.size is missing: [height, width]");
    if (!size.IsSequence() || size.size() != 2) fail(size, "input.size is [height, width]");
    i.height = count(size[0], "input.size", 1, most_side);
    i.width = count(size[1], "input.size", 1, most_side);
  });
  each(n, "fit", [&](const YAML::Node& v, const std::string& key) {
    i.how = std::array{fit::crop, fit::stretch, fit::pad}[one_of(v, key, {"crop", "stretch", "pad"})];
  });
  each(n, "resize", [&](const YAML::Node& v, const std::string& key) {
    if (i.how != fit::crop) fail(v, key + " is of fit: crop");
    i.resize = count(v, key, std::max(i.height, i.width), most_side);
  });
  each(n, "filter", [&](const YAML::Node& v, const std::string& key) {
    i.bicubic = one_of(v, key, {"bilinear", "bicubic"}) == 1;
  });
  each(n, "channels", [&](const YAML::Node& v, const std::string& key) {
    const auto c = one_of(v, key, {"RGB", "BGR", "L"});
    i.bgr = c == 1;
    i.channels = c == 2 ? 1 : 3;
  });
  each(n, "layout", [&](const YAML::Node& v, const std::string& key) {
    i.channels_last = one_of(v, key, {"NCHW", "NHWC"}) == 1;
  });
  each(n, "mean",
       [&](const YAML::Node& v, const std::string& key) { i.mean = channels(v, key, i.channels); });
  each(n, "scale", [&](const YAML::Node& v, const std::string& key) {
    i.scale = channels(v, key, i.channels);
    for (std::size_t c = 0; c < i.channels; ++c)
      if (i.scale[c] == 0) fail(v, key + " is 0: values are divided by it");
  });
  each(n, "max_pixels",
       [&](const YAML::Node& v, const std::string& key) { i.max_pixels = count(v, key, 1, 1'000'000'000); });
  return s;
}

input_step reader::bytes(const YAML::Node& n) const {
  only(n, "input", {"type", "first", "last", "padding", "strip", "window"});
  input_step s;
  s.is = input_step::kind::bytes;
  bytes_step& b = s.bytes;
  attempt([&] {
    if (n["first"]) b.first = count(n["first"], "input.first", 0, 1'000'000);
    if (n["last"]) b.last = count(n["last"], "input.last", 0, 1'000'000);
    if (b.first + b.last == 0) fail(n, "input.first and input.last are both 0: say how many bytes are taken");
  });
  each(n, "padding", [&](const YAML::Node& v, const std::string& key) { b.padding = number(v, key); });
  each(n, "strip", [&](const YAML::Node& v, const std::string& key) { b.strip = truth(v, key); });
  each(n, "window",
       [&](const YAML::Node& v, const std::string& key) { b.window = count(v, key, 1, 1'000'000'000); });
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
  load_mistakes wrong;
  const reader r(file, wrong);
  const YAML::Node root = YAML::Load(std::string(text));
  if (!root.IsMap()) return;
  const auto read = [&](const char* key, const auto& part) {
    if (const YAML::Node n = root[key]) wrong.attempt([&] { part(n); });
  };
  read("input", [&](const YAML::Node& n) {
    if (!n.IsMap() || !n["type"]) r.fail(n, "input is a mapping with a type: image or bytes");
    hints.input = r.one_of(n["type"], "input.type", {"image", "bytes"}) == 0 ? r.image(n) : r.bytes(n);
  });
  read("shapes", [&](const YAML::Node& n) {
    constexpr const char* expected =
        "shapes is a mapping of an input's name to the shape of a row, [128] for instance";
    if (!n.IsMap()) r.fail(n, expected);
    for (const auto& entry : n)
      wrong.attempt([&] {
        const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
        const YAML::Node list = entry.second;
        if (name.empty() || !list.IsSequence()) r.fail(entry.first, expected);
        auto& shape = hints.shapes[name];
        for (const auto& d : list)
          shape.push_back(static_cast<std::int64_t>(r.count(d, "shapes." + name, 1, onnx::limits{}.cells)));
      });
  });
  read("outputs", [&](const YAML::Node& n) {
    if (!n.IsSequence() || n.size() == 0) r.fail(n, "outputs is a list of names");
    for (const auto& o : n) {
      if (!o.IsScalar() || o.Scalar().empty()) r.fail(o, "outputs is a list of names");
      hints.outputs.push_back(o.Scalar());
    }
  });
  read("softmax", [&](const YAML::Node& n) { hints.softmax = r.truth(n, "softmax"); });
  read("top_k", [&](const YAML::Node& n) { hints.top_k = r.count(n, "top_k", 1, onnx::limits{}.outputs); });
  read("classes_file", [&](const YAML::Node& n) {
    if (!hints.classes.empty()) r.fail(n, "classes and classes_file are both there; keep one of them");
    hints.classes = r.classes(n);
  });
  wrong.end();
}

}  // namespace troupe::model

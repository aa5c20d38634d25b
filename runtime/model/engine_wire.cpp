#include "runtime/model/engine_wire.hpp"

#include <nlohmann/json.hpp>

#include "runtime/model/onnx.hpp"

namespace troupe::model::wire {
namespace {

using json = nlohmann::json;

json to_json(const input_step& s) {
  json j = {{"is", static_cast<int>(s.is)}};
  if (s.is == input_step::kind::image) {
    const image_step& i = s.image;
    j["image"] = {{"height", i.height},
                  {"width", i.width},
                  {"channels", i.channels},
                  {"bgr", i.bgr},
                  {"channels_last", i.channels_last},
                  {"bicubic", i.bicubic},
                  {"how", static_cast<int>(i.how)},
                  {"resize", i.resize},
                  {"mean", i.mean},
                  {"scale", i.scale},
                  {"max_pixels", i.max_pixels}};
  }
  if (s.is == input_step::kind::bytes) {
    const bytes_step& b = s.bytes;
    j["bytes"] = {{"first", b.first},
                  {"last", b.last},
                  {"padding", b.padding},
                  {"strip", b.strip},
                  {"window", b.window}};
  }
  return j;
}

input_step step_from(const json& j) {
  input_step s;
  s.is = static_cast<input_step::kind>(j.at("is").get<int>());
  if (j.contains("image")) {
    const json& i = j["image"];
    s.image = {i.at("height"),
               i.at("width"),
               i.at("channels"),
               i.at("bgr"),
               i.at("channels_last"),
               i.at("bicubic"),
               static_cast<fit>(i.at("how").get<int>()),
               i.at("resize"),
               i.at("mean"),
               i.at("scale"),
               i.at("max_pixels")};
  }
  if (j.contains("bytes")) {
    const json& b = j["bytes"];
    s.bytes = {b.at("first"), b.at("last"), b.at("padding"), b.at("strip"), b.at("window")};
  }
  return s;
}

bool sensible(const onnxruntime::table_spec& s) {
  const onnx::limits most;
  std::size_t cells = 0;
  for (const auto& i : s.inputs) {
    if (i.begin != cells || i.size == 0 || i.size > most.cells || i.holds > tensor_input::kind::bytes)
      return false;
    std::size_t size = 1;
    for (const auto d : i.shape) {
      if (d <= 0 || static_cast<std::size_t>(d) > most.cells) return false;
      size *= static_cast<std::size_t>(d);
      if (size > most.cells) return false;
    }
    if (size != i.size) return false;
    cells += i.size;
    if (cells > most.cells) return false;
  }
  std::size_t width = 0;
  for (const auto& p : s.parts) {
    if (p.width == 0 || p.width > most.outputs) return false;
    width += p.width;
  }
  return s.columns > 0 && s.columns <= (s.inputs.empty() ? most.features : most.cells) && s.width > 0 &&
         s.width <= most.outputs && (s.inputs.empty() || cells == s.columns) &&
         (s.parts.empty() || width == s.width) && (s.names.empty() || s.names.size() == s.columns) &&
         (s.classes.empty() || s.classes.size() == s.width);
}

}  // namespace

std::string text_of(const work& w) {
  return json{{"library", w.session.library.string()},
              {"threads", w.session.threads},
              {"providers", w.session.providers},
              {"columns", w.hints.columns},
              {"shapes", w.hints.shapes},
              {"outputs", w.hints.outputs},
              {"softmax", w.hints.softmax},
              {"step", to_json(w.hints.step)}}
      .dump();
}

work work_from(std::string_view text) {
  try {
    const json j = json::parse(text);
    work w;
    w.session.library = j.at("library").get<std::string>();
    w.session.threads = j.at("threads").get<int>();
    w.session.providers = j.at("providers").get<std::vector<std::string>>();
    w.hints.columns = j.at("columns").get<std::size_t>();
    w.hints.shapes = j.at("shapes").get<std::map<std::string, std::vector<std::int64_t>>>();
    w.hints.outputs = j.at("outputs").get<std::vector<std::string>>();
    w.hints.softmax = j.at("softmax").get<bool>();
    w.hints.step = step_from(j.at("step"));
    return w;
  } catch (const json::exception& e) {
    throw load_error(std::string("the job cannot be read: ") + e.what());
  }
}

std::string text_of(const onnxruntime::table_spec& s) {
  json inputs = json::array();
  for (const auto& i : s.inputs)
    inputs.push_back({i.name, static_cast<int>(i.holds), i.shape, i.begin, i.size});
  json parts = json::array();
  for (const auto& p : s.parts) parts.push_back({p.name, p.width});
  return json{
      {"columns", s.columns}, {"names", s.names}, {"width", s.width}, {"classification", s.classification},
      {"classes", s.classes}, {"inputs", inputs}, {"parts", parts}}
      .dump();
}

onnxruntime::table_spec spec_from(std::string_view text) {
  try {
    const json j = json::parse(text);
    onnxruntime::table_spec s;
    s.columns = j.at("columns").get<std::size_t>();
    s.names = j.at("names").get<std::vector<std::string>>();
    s.width = j.at("width").get<std::size_t>();
    s.classification = j.at("classification").get<bool>();
    s.classes = j.at("classes").get<std::vector<std::string>>();
    for (const json& i : j.at("inputs"))
      s.inputs.push_back(
          {i.at(0).get<std::string>(), static_cast<tensor_input::kind>(i.at(1).get<std::uint8_t>()),
           i.at(2).get<std::vector<std::int64_t>>(), i.at(3).get<std::size_t>(), i.at(4).get<std::size_t>()});
    for (const json& p : j.at("parts"))
      s.parts.push_back({p.at(0).get<std::string>(), p.at(1).get<std::size_t>()});
    if (sensible(s)) return s;
  } catch (const json::exception&) {
  }
  throw load_error("the engine process described its model in no sensible way");
}

}  // namespace troupe::model::wire

#include "runtime/door/openapi.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

#include "runtime/codec/feature_rows.hpp"
#include "runtime/codec/tensor_rows.hpp"
#include "runtime/codec/v2_rows.hpp"
#include "runtime/door/assets.hpp"
#include "runtime/model/cell_rule.hpp"
#include "runtime/model/model.hpp"

namespace troupe::serving {
namespace {

using json = nlohmann::ordered_json;
using pointer = json::json_pointer;

constexpr std::size_t most_models = 50;        // that are shown with examples
constexpr std::size_t most_features = 200;     // of a model that are described
constexpr std::size_t most_elements = 20'000;  // of an example

// A PNG of 16 x 16 pixels.
constexpr std::string_view small_picture =
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAABlklEQVR42hXRURVEIQhFUSMYgQhGMAIRiGCEE8EIRiACEYhA"
    "BCLMG7/ZrMt1jMEcyGAN9kAHNjgDBnfwBj6IQQ5q0IMxJnMikzXZE53Y5EyY3Mmb+CQmOalJzw8IUxBhCVtQwYQjIFzhCS6E"
    "kEIJLR9YzIUs1mIvdGGLs2BxF2/hi1jkoha9PrCZG9mszd7oxjZnw+Zu3sY3sclNbXp/QJmKKEvZiiqmHAXlKk9xJZRUSmn9"
    "gDENMZaxDTXMOAbGNZ7hRhhplNH2gcM8yGEd9kEPdjgHDvfwDn6IQx7q0OcD/wK/Sr4jv9hfkG/1N/x/Fx44BCQU9Pc94zIv"
    "clmXfdGLXc79j9/Lu/glLnmpS98PPOZDHuuxH/qwx3n/5ffxHv6IRz7q0e8DznTEWc521DHn+D/KdZ7jTjjplNP+gWAGEqxg"
    "BxpYcOIf/AYv8CCCDCro+EAyE0lWshNNLDn5P/MmL/Ekkkwq6fxAMQspVrELLaw49S/lFq/wIoosquj6QDMbaVazG22sOf2v"
    "8Dav8SaabKrp5geIAnAQC3NfwAAAAABJRU5ErkJggg==";

/// A value that the model takes.
json example_cell(const model::loaded_model& m, std::size_t column) {
  const auto& feature = m.schema().features[column];
  if (!feature.rule) return 0;
  if (codec::takes_category(m, column)) return feature.rule->categories.front();
  const double x = std::clamp(0.0, feature.rule->minimum, feature.rule->maximum);
  if (x == std::floor(x) && std::abs(x) < 1e15) return static_cast<std::int64_t>(x);
  return x;
}

json describe_feature(const model::loaded_model& m, std::size_t column) {
  const auto& feature = m.schema().features[column];
  double missing = std::nan("");
  json one = {{"name", feature.name},
              {"missing", codec::take_number(m, column, missing).empty()},
              {"example", example_cell(m, column)}};
  if (!feature.rule) return one;
  if (codec::takes_category(m, column)) {
    one["categories"] = feature.rule->categories;
  } else if (!feature.rule->clip) {
    if (std::isfinite(feature.rule->minimum)) one["minimum"] = feature.rule->minimum;
    if (std::isfinite(feature.rule->maximum)) one["maximum"] = feature.rule->maximum;
  }
  return one;
}

json filled(const std::vector<std::int64_t>& shape, std::size_t from, const json& with) {
  if (from == shape.size()) return with;
  json list = json::array();
  for (std::int64_t i = 0; i < shape[from]; ++i) list.push_back(filled(shape, from + 1, with));
  return list;
}

json example_element(const model::tensor_input& in) {
  if (in.holds == model::tensor_input::kind::number) return 0;
  return in.holds == model::tensor_input::kind::text ? "text" : std::string(small_picture);
}

/// A request that `m` answers, in each form; null where one would be too large.
struct example {
  json row;     ///< of /score
  json inputs;  ///< of V2
  std::string csv;
};

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos && !text.empty()) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

example example_of(const model::loaded_model& m) {
  example e;
  const auto& schema = m.schema();
  if (schema.features.size() > most_elements) return e;
  if (!schema.inputs.empty()) {
    e.row = json::object();
    e.inputs = json::array();
    for (const auto& in : schema.inputs) {
      const json with = example_element(in);
      e.row[in.name] = filled(in.shape, 0, with);
      std::vector<std::int64_t> shape = in.shape;
      shape.insert(shape.begin(), 1);
      e.inputs.push_back({{"name", in.name},
                          {"shape", shape},
                          {"datatype", in.holds == model::tensor_input::kind::number ? "FP32" : "BYTES"},
                          {"data", json(std::vector<json>(in.size, with))}});
    }
    return e;
  }
  const std::size_t n = schema.features.size();
  json cells = json::array();
  bool texts = false;
  for (std::size_t i = 0; i < n; ++i) {
    cells.push_back(example_cell(m, i));
    texts |= cells.back().is_string();
    e.csv += (i ? "," : "") + csv_field(schema.features[i].name);
  }
  e.csv += '\n';
  for (std::size_t i = 0; i < n; ++i)
    e.csv +=
        (i ? "," : "") + (cells[i].is_string() ? csv_field(cells[i].get<std::string>()) : cells[i].dump());
  e.csv += '\n';
  if (schema.named && n <= most_features) {
    e.row = json::object();
    for (std::size_t i = 0; i < n; ++i) e.row[schema.features[i].name] = cells[i];
  } else {
    e.row = cells;
  }
  e.inputs = json::array();
  if (!texts) {
    e.inputs.push_back({{"name", codec::v2_tabular_input},
                        {"shape", {1, n}},
                        {"datatype", "FP32"},
                        {"data", std::move(cells)}});
    return e;
  }
  for (std::size_t i = 0; i < n; ++i)
    e.inputs.push_back({{"name", schema.features[i].name},
                        {"shape", {1}},
                        {"datatype", cells[i].is_string() ? "BYTES" : "FP32"},
                        {"data", json::array({cells[i]})}});
  return e;
}

/// What /score and /invocations take as a row.
json row_schema(const model::loaded_model& m) {
  const auto& schema = m.schema();
  const std::string description = "A row of the default model, " + m.name() + ".";
  if (!schema.inputs.empty()) {
    json names = json::array();
    for (const auto& in : schema.inputs) names.push_back(in.name);
    json by_name = {{"type", "object"}, {"required", names}, {"maxProperties", names.size()}};
    if (schema.inputs.size() > 1 && schema.features.size() > schema.inputs.size()) {
      by_name["description"] = description;
      return by_name;
    }
    return {{"description", description}};
  }
  const std::size_t n = schema.features.size();
  json list = {{"type", "array"}, {"minItems", n}, {"maxItems", n}};
  if (n > most_features) {
    list["description"] = description;
    return list;
  }
  json cells = json::array();
  json properties = json::object();
  json required = json::array();
  for (std::size_t i = 0; i < n; ++i) {
    const json f = describe_feature(m, i);
    json cell;
    if (f.contains("categories")) {
      cell["enum"] = f["categories"];
      if (f["missing"] == true) cell["enum"].push_back(nullptr);
      if (!std::isnan(schema.features[i].rule->unknown)) cell = {{"type", {"string", "null"}}};
    } else {
      cell["type"] = f["missing"] == true ? json({"number", "null"}) : json("number");
      for (const char* bound : {"minimum", "maximum"})
        if (f.contains(bound)) cell[bound] = f[bound];
    }
    if (f["missing"] == false) required.push_back(f["name"]);
    properties[schema.features[i].name] = cell;
    cells.push_back(std::move(cell));
  }
  list["prefixItems"] = std::move(cells);
  json object = {{"type", "object"},
                 {"properties", std::move(properties)},
                 {"required", std::move(required)},
                 {"additionalProperties", false}};
  return {{"description", description}, {"anyOf", {std::move(list), std::move(object)}}};
}

json describe(const model::loaded_model& m, bool is_default, const std::vector<std::string>& versions) {
  json one = {{"name", m.name()},
              {"version", m.version()},
              {"versions", versions},
              {"default", is_default},
              {"explains", m.explain() != nullptr},
              {"file", codec::takes_bytes(m)}};
  const auto& schema = m.schema();
  const auto& classes = m.output().classes;
  if (!classes.empty() && classes.size() <= most_features) one["classes"] = classes;
  if (!schema.inputs.empty()) {
    json inputs = json::array();
    for (const auto& in : schema.inputs) {
      using kind = model::tensor_input::kind;
      const char* holds = in.holds == kind::number ? "number" : in.holds == kind::text ? "text" : "bytes";
      inputs.push_back({{"name", in.name}, {"holds", holds}, {"shape", in.shape}});
    }
    one["inputs"] = std::move(inputs);
    return one;
  }
  json features = json::array();
  for (std::size_t i = 0; i < std::min(most_features, schema.features.size()); ++i)
    features.push_back(describe_feature(m, i));
  one["features"] = std::move(features);
  if (schema.features.size() > most_features) one["more"] = schema.features.size() - most_features;
  return one;
}

json files(std::string_view media) {
  json schema = {{"type", "string"}, {"format", "binary"}};
  if (media != "multipart/form-data") return {{"schema", std::move(schema)}};
  return {{"schema",
           {{"type", "object"},
            {"properties", {{"image", schema}, {"file", schema}}},
            {"minProperties", 1},
            {"maxProperties", 1}}}};
}

std::string base64(const unsigned char* bytes, std::size_t n) {
  std::string text((n + 2) / 3 * 4 + 1, '\0');
  text.resize(static_cast<std::size_t>(
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes, static_cast<int>(n))));
  return text;
}

/// 'sha256-...' of what stands between <tag> and </tag>.
std::string hash_of(std::string_view page, const std::string& tag) {
  const auto begin = page.find("<" + tag + ">") + tag.size() + 2;
  const auto text = page.substr(begin, page.find("</" + tag + ">") - begin);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("SHA-256 is not to be had from OpenSSL");
  return "'sha256-" + base64(digest, size) + "'";
}

bool is_exempt(const std::string& path, const json& tags, const guard::guard_terms& terms) {
  if (path == "/docs") return true;  // the page itself; it asks for a key
  if (tags == json::array({"health"})) return terms.exempt_health;
  if (path == "/metrics") return terms.exempt_metrics;
  return (path == "/openapi.json" || path == "/version") && terms.exempt_docs;
}

/// What the guard asks for and answers.
void add_security(json& doc, const guard::guard_terms& terms) {
  if (!terms.required && !terms.limited) return;
  json& components = doc.at("components");
  const json body = {
      {"application/json",
       {{"schema",
         {{"anyOf",
           {{{"$ref", "#/components/schemas/Error"}}, {{"$ref", "#/components/schemas/ScoreError"}}}}}}}}};
  if (terms.required) {
    components["securitySchemes"] = {
        {"apiKey",
         {{"type", "apiKey"},
          {"in", "header"},
          {"name", "X-API-Key"},
          {"description", "A key as `troupe key` makes it."}}},
        {"bearer",
         {{"type", "http"}, {"scheme", "bearer"}, {"description", "The same key, or a JSON Web Token."}}}};
    doc["security"] = {{{"apiKey", json::array()}}, {{"bearer", json::array()}}};
    components["responses"]["Unauthorized"] = {
        {"description", "No key or token, or one that is not good here."},
        {"headers", {{"WWW-Authenticate", {{"schema", {{"type", "string"}}}}}}},
        {"content", body}};
    components["responses"]["Forbidden"] = {
        {"description", "A model, class or command that this client may not use."}, {"content", body}};
  }
  if (terms.limited)
    components["responses"]["TooMany"] = {
        {"description", "The rate of the address or client, or the client's quota of the month, is used up."},
        {"headers",
         {{"Retry-After", {{"description", "Seconds."}, {"schema", {{"type", "integer"}, {"minimum", 1}}}}}}},
        {"content", body}};
  for (auto& [path, item] : doc.at("paths").items())
    for (auto& [method, operation] : item.items()) {
      if (method == "parameters") continue;
      if (is_exempt(path, operation.at("tags"), terms)) {
        if (terms.required) operation["security"] = json::array();
        continue;
      }
      const auto may_be = [&, &responses = operation.at("responses")](const char* status, const char* name) {
        if (!responses.contains(status))
          responses[status] = {{"$ref", std::string("#/components/responses/") + name}};
      };
      if (terms.required) may_be("401", "Unauthorized");
      if (terms.required) may_be("403", "Forbidden");
      if (terms.limited) may_be("429", "TooMany");
    }
}

}  // namespace

std::string openapi_document(const model::model_table& models, std::string_view version,
                             const guard::guard_terms& terms) {
  json doc = json::parse(openapi_source());
  doc["info"]["version"] = version;
  const model::loaded_model* const first = models.default_model();
  std::vector<const model::loaded_model*> shown;
  if (first) shown.push_back(first);
  for (const auto& m : models.all()) {
    const model::loaded_model* const production = models.find(m->name(), "").model;
    if (production && shown.size() < most_models &&
        std::find(shown.begin(), shown.end(), production) == shown.end())
      shown.push_back(production);
  }
  json& name_examples = doc.at(pointer("/components/parameters/model_name/examples"));
  json& version_examples = doc.at(pointer("/components/parameters/model_version/examples"));
  json& infer = doc.at(pointer("/components/requestBodies/Infer/content/application~1json/examples"));
  json& predict = doc.at(pointer(
      "/paths/~1v1~1models~1{model_name}:predict/post/requestBody/content/application~1json/examples"));
  json list = json::array();
  for (const auto* m : shown) {
    std::vector<std::string> versions;
    for (const auto& other : models.all())
      if (other->name() == m->name()) versions.push_back(other->version());
    name_examples[m->name()] = {{"value", m->name()}};
    if (m == first || !first) version_examples[m->version()] = {{"value", m->version()}};
    json entry = describe(*m, m == first, versions);
    if (auto e = example_of(*m); !e.inputs.is_null()) {
      infer[m->name()] = {{"summary", "model " + m->name()},
                          {"value", {{"id", "1"}, {"inputs", std::move(e.inputs)}}}};
      predict[m->name()] = {{"summary", "model " + m->name()},
                            {"value", {{"instances", json::array({e.row})}}}};
    }
    list.push_back(std::move(entry));
  }
  doc["x-models"] = std::move(list);
  json& score = doc.at(pointer("/paths/~1score/post/requestBody/content"));
  json& invocations = doc.at(pointer("/paths/~1invocations/post/requestBody/content"));
  if (first) {
    doc.at(pointer("/components/schemas/Row")) = row_schema(*first);
    const auto e = example_of(*first);
    if (!e.row.is_null()) {
      const json rows = json::array({e.row});
      score["application/json"]["examples"]["rows"] = {{"value", {{"data", rows}}}};
      invocations["application/json"]["examples"]["instances"] = {{"value", {{"instances", rows}}}};
      if (e.row.is_object() && first->schema().inputs.empty())
        invocations["application/json"]["examples"]["dataframe_records"] = {
            {"value", {{"dataframe_records", rows}}}};
      if (!e.csv.empty()) invocations["text/csv"]["examples"]["row"] = {{"value", e.csv}};
    }
    if (codec::takes_bytes(*first))
      for (const char* media : {"image/jpeg", "image/png", "application/octet-stream", "multipart/form-data"})
        score[media] = files(media);
  }
  add_security(doc, terms);
  return doc.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

http::response docs_reply() {
  static const std::string policy = [] {
    const auto page = docs_source();
    return "default-src 'none'; script-src " + hash_of(page, "script") + "; style-src " +
           hash_of(page, "style") +
           "; img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
           "frame-ancestors 'none'";
  }();
  http::response r;
  r.content_type = "text/html; charset=utf-8";
  r.body = docs_source();
  r.headers = {{"Content-Security-Policy", policy},
               {"X-Content-Type-Options", "nosniff"},
               {"Referrer-Policy", "no-referrer"},
               {"Cache-Control", "no-cache"}};
  return r;
}

bool wants_page(std::string_view accept) {
  constexpr std::string_view page = "text/html";
  const auto same = [](char a, char wanted) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + ('a' - 'A')) : a) == wanted;
  };
  return std::search(accept.begin(), accept.end(), page.begin(), page.end(), same) != accept.end();
}

}  // namespace troupe::serving

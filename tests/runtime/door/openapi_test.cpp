// The door's description of itself says what the door does.
#include "runtime/door/openapi.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "runtime/door/assets.hpp"
#include "runtime/door/paths.hpp"
#include "runtime/model/cell_rule.hpp"
#include "runtime/model/model.hpp"

namespace troupe::serving {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

std::shared_ptr<const model::loaded_model> made(std::string name, std::string version, model::schema schema,
                                                model::output_spec output = {}) {
  model::loaded_model::parts p;
  p.name = std::move(name);
  p.version = std::move(version);
  p.schema = std::move(schema);
  p.output = std::move(output);
  return std::make_shared<const model::loaded_model>(std::move(p));
}

model::schema columns() {
  auto age = std::make_shared<model::cell_rule>();
  age->minimum = 18;
  age->maximum = 120;
  auto colour = std::make_shared<model::cell_rule>();
  colour->categories = {"red", "blue"};
  colour->index();
  auto schema = model::schema({{"age", false, age}, {"bmi", true}, {"colour", false, colour}}, true);
  schema.rules = true;
  return schema;
}

json document(const std::string& default_model) {
  using model::tensor_input;
  std::vector<std::shared_ptr<const model::loaded_model>> all = {
      made("people", "1", columns()), made("people", "2", columns()),
      made("iris", "1", model::schema({{"a", false}, {"b", false}}, false),
           {model::task::classification, 2, {"yes", "no"}}),
      made("grid", "1",
           model::schema(std::vector<tensor_input>{{"ids", tensor_input::kind::number, {2, 3}, 0, 6},
                                                   {"name", tensor_input::kind::text, {}, 6, 1}})),
      made("photo", "1",
           model::schema(std::vector<tensor_input>{{"x", tensor_input::kind::bytes, {}, 0, 1}}))};
  model::model_table::options o;
  o.default_model = default_model;
  return json::parse(openapi_document(model::model_table(std::move(all), o), "9.8.7"));
}

TEST(OpenApi, HasEveryPathAndNoOther) {
  std::set<std::string> described;
  const json doc = document("people");
  for (const auto& [path, item] : doc["paths"].items())
    for (const auto& [method, operation] : item.items()) {
      if (method == "parameters") continue;
      std::string verb = method;
      for (char& c : verb) c = static_cast<char>(c - 'a' + 'A');
      std::string plain = path;
      for (const auto& [from, to] : {std::pair{"{model_name}", "{m}"}, std::pair{"{model_version}", "{v}"},
                                     std::pair{"{batch}", "{m}"}})
        if (const auto at = plain.find(from); at != std::string::npos)
          plain.replace(at, std::string(from).size(), to);
      described.insert(verb + " " + plain);
      EXPECT_TRUE(operation.contains("operationId")) << path;
      EXPECT_TRUE(operation["responses"].contains("200") || operation["responses"].contains("202")) << path;
    }
  const auto there = all_routes();
  EXPECT_EQ(described, std::set<std::string>(there.begin(), there.end()));
}

TEST(OpenApi, EveryReferenceLeadsSomewhere) {
  const json doc = document("people");
  const auto walk = [&](const auto& self, const json& at) -> void {
    if (at.is_object() && at.contains("$ref")) {
      const std::string to = at["$ref"];
      ASSERT_TRUE(to.starts_with("#/")) << to;
      EXPECT_TRUE(doc.contains(json::json_pointer(to.substr(1)))) << to;
    }
    if (at.is_structured())
      for (const json& below : at) self(self, below);
  };
  walk(walk, doc);
}

TEST(OpenApi, SaysWhatTheModelsTake) {
  const json doc = document("people");
  EXPECT_EQ(doc["info"]["version"], "9.8.7");
  ASSERT_EQ(doc["x-models"].size(), 4U);
  const json& first = doc["x-models"][0];
  EXPECT_EQ(first["name"], "people");
  EXPECT_EQ(first["version"], "2");
  EXPECT_EQ(first["versions"], json({"1", "2"}));
  EXPECT_EQ(first["default"], true);
  EXPECT_EQ(first["features"][0],
            json::parse(R"({"name":"age","missing":false,"example":18,"minimum":18,"maximum":120})"));
  EXPECT_EQ(first["features"][1]["missing"], true);
  EXPECT_EQ(first["features"][2]["categories"], json({"red", "blue"}));
  const json& examples =
      doc["components"]["requestBodies"]["Infer"]["content"]["application/json"]["examples"];
  EXPECT_EQ(examples["people"]["value"]["inputs"][2],
            json::parse(R"({"name":"colour","shape":[1],"datatype":"BYTES","data":["red"]})"));
  EXPECT_EQ(examples["iris"]["value"]["inputs"],
            json::parse(R"([{"name":"input","shape":[1,2],"datatype":"FP32","data":[0,0]}])"));
  EXPECT_EQ(examples["grid"]["value"]["inputs"][0],
            json::parse(R"({"name":"ids","shape":[1,2,3],"datatype":"FP32","data":[0,0,0,0,0,0]})"));
  const json& score = doc["paths"]["/score"]["post"]["requestBody"]["content"];
  EXPECT_EQ(score["application/json"]["examples"]["rows"]["value"],
            json::parse(R"({"data":[{"age":18,"bmi":0,"colour":"red"}]})"));
  EXPECT_FALSE(score.contains("image/png"));
  EXPECT_EQ(
      doc["paths"]["/invocations"]["post"]["requestBody"]["content"]["text/csv"]["examples"]["row"]["value"],
      "age,bmi,colour\n18,0,red\n");
  const json& row = doc["components"]["schemas"]["Row"]["anyOf"];
  EXPECT_EQ(row[0]["minItems"], 3);
  EXPECT_EQ(row[1]["required"], json({"age", "colour"}));
  EXPECT_EQ(row[1]["properties"]["colour"]["enum"], json({"red", "blue"}));
}

TEST(OpenApi, FilesWhereTheDefaultModelTakesThem) {
  const json content = document("photo")["paths"]["/score"]["post"]["requestBody"]["content"];
  for (const char* media : {"image/png", "image/jpeg", "application/octet-stream", "multipart/form-data"})
    EXPECT_TRUE(content.contains(media)) << media;
}

TEST(OpenApi, SaysWhatTheGuardAsksFor) {
  const json open = json::parse(openapi_document(model::model_table(), "1"));
  EXPECT_FALSE(open.contains("security"));
  EXPECT_FALSE(open["components"].contains("securitySchemes"));
  EXPECT_FALSE(open["paths"]["/score"]["post"]["responses"].contains("401"));
  guard::guard_terms terms;
  terms.required = terms.limited = true;
  const json doc = json::parse(openapi_document(model::model_table(), "1", terms));
  const json& schemes = doc["components"]["securitySchemes"];
  EXPECT_EQ(schemes["apiKey"]["name"], "X-API-Key");
  EXPECT_EQ(schemes["bearer"]["scheme"], "bearer");
  EXPECT_EQ(doc["security"], json::parse(R"([{"apiKey":[]},{"bearer":[]}])"));
  for (const char* status : {"401", "403", "429"}) {
    const json& there = doc["paths"]["/score"]["post"]["responses"];
    ASSERT_TRUE(there.contains(status));
    EXPECT_TRUE(doc.contains(json::json_pointer(there[status]["$ref"].get<std::string>().substr(1))));
  }
  const auto needs_none = [](const json& d, const char* path) {
    return d["paths"][path]["get"].value("security", json()) == json::array();
  };
  EXPECT_TRUE(needs_none(doc, "/health"));
  EXPECT_TRUE(needs_none(doc, "/docs"));
  EXPECT_FALSE(needs_none(doc, "/openapi.json"));
  EXPECT_FALSE(needs_none(doc, "/v2"));
  terms.exempt_docs = true;
  terms.exempt_health = terms.limited = false;
  const json other = json::parse(openapi_document(model::model_table(), "1", terms));
  EXPECT_TRUE(needs_none(other, "/openapi.json"));
  EXPECT_FALSE(needs_none(other, "/health"));
  EXPECT_FALSE(other["paths"]["/score"]["post"]["responses"].contains("429"));
}

TEST(OpenApi, WithoutModels) {
  const json doc = json::parse(openapi_document(model::model_table(), "1"));
  EXPECT_EQ(doc["x-models"], json::array());
}

TEST(DocsPage, CarriesAllThatItNeeds) {
  const auto page = docs_reply();
  EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  EXPECT_LT(page.body.size(), 60U * 1024);
  // No address of another machine, no attribute that the policy would forbid.
  for (const char* outside :
       {"http://", "https://", "src=", "@import", " url(", ":url(", " style=", " onclick=\"", "innerHTML"})
    EXPECT_EQ(page.body.find(outside), std::string::npos) << outside;
  const auto& [name, policy] = page.headers.at(0);
  EXPECT_EQ(name, "Content-Security-Policy");
  EXPECT_THAT(policy, HasSubstr("default-src 'none'; script-src 'sha256-"));
  EXPECT_THAT(policy, HasSubstr("style-src 'sha256-"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
}

TEST(DocsPage, IsForBrowsers) {
  EXPECT_TRUE(wants_page("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
  EXPECT_TRUE(wants_page("Text/HTML"));
  for (const char* accept : {"", "*/*", "application/json", "text/plain"})
    EXPECT_FALSE(wants_page(accept)) << accept;
}

}  // namespace
}  // namespace troupe::serving

// /score, /invocations and CSV.
#include "runtime/codec/score.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/codec/csv.hpp"
#include "v2_support.hpp"

namespace troupe::codec {
namespace {

using namespace troupe::codec::testing;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

enum class form { score, invocations, csv };

struct outcome {
  test_batch batch;
  request_fault fault;
  std::vector<double> values() const { return batch.values(0); }
};

outcome read(form f, const std::string& body, const char* model = "trio", tensor_limits most = {10, 30}) {
  outcome out;
  out.batch.batch->models = v2_models();
  record& r = out.batch.add({});
  r.model = out.batch.batch->models->find(model, "").model;
  json_reader reader;
  auto& batch = *out.batch.batch;
  out.fault = f == form::score         ? read_score(body, reader, r, batch, most)
              : f == form::invocations ? read_invocations(body, reader, r, batch, most)
                                       : read_csv(body, r, batch, most);
  return out;
}

TEST(Score, Requests) {
  const auto b = read(form::score, R"({"data":[[1,null,3],{"c":6,"a":4,"bmi":5}],"x":1})");
  ASSERT_EQ(b.fault.message, "");
  EXPECT_EQ(b.batch[0].rows, 2U);
  EXPECT_TRUE(b.batch[0].list);
  EXPECT_THAT(b.values(), ElementsAre(1, ::testing::IsNan(), 3, 4, 5, 6));
  struct row {
    const char* body;
    error_code code;
    const char* says;
  };
  for (const row& one :
       {row{"{", error_code::invalid_json,
            "the request is not valid JSON at line 1, column 2: the text ends before"},
        row{R"({"data":[[1,2,3]],"model":"iris"})", error_code::invalid_features,
            "'model' has no meaning here"},
        row{R"({"explain":true,"data":[[1,2,3]]})", error_code::invalid_features,
            "/v2/models/NAME/infer takes it"},
        row{"[]", error_code::invalid_json, "found a list"},
        row{"{}", error_code::invalid_json, "the request has no data"},
        row{R"({"data":7})", error_code::invalid_features, "data must be a list of rows"},
        row{R"({"data":[]})", error_code::invalid_features, "no rows"},
        row{R"({"data":[1,2,3]})", error_code::invalid_features, "a list of single values"},
        row{R"({"data":[[[1,2,3]]]})", error_code::invalid_features, "found a list"},
        row{R"({"data":[[1,2]]})", error_code::invalid_features, "data[0]: model trio version 3 takes 3"},
        row{R"({"data":[[1,2,NaN]]})", error_code::invalid_features, "data[0]: feature 'c'"}}) {
    const auto bad = read(form::score, one.body);
    EXPECT_EQ(bad.fault.code, one.code) << one.body;
    EXPECT_THAT(bad.fault.message, HasSubstr(one.says)) << one.body;
  }
  std::string rows = "[1,2,3]";
  for (int i = 1; i < 10; ++i) rows += ",[1,2,3]";
  EXPECT_FALSE(read(form::score, "{\"data\":[" + rows + "]}").fault);
  EXPECT_EQ(read(form::score, "{\"data\":[" + rows + ",[1,2,3]]}").fault.code, error_code::too_large);
  EXPECT_EQ(read(form::score, "{\"data\":[" + rows + "]}", "trio", {10, 29}).fault.code,
            error_code::too_large);
}

TEST(Invocations, EveryFormSaysTheSame) {
  for (const char* body :
       {R"({"instances":[[1,2,3],[4,5,6]]})",
        R"({"instances":[{"a":1,"bmi":2,"c":3},{"c":6,"a":4,"bmi":5}]})", R"({"inputs":[[1,2,3],[4,5,6]]})",
        R"({"inputs":{"c":[3,6],"a":[1,4],"bmi":[2,5]},"params":{}})",
        R"({"dataframe_split":{"columns":["c","a","bmi"],"index":[0,1],"data":[[3,1,2],[6,4,5]]}})",
        R"({"dataframe_split":{"data":[[1,2,3],[4,5,6]]}})",
        R"({"dataframe_records":[{"a":1,"bmi":2,"c":3},{"c":6,"a":4,"bmi":5}]})"}) {
    const auto b = read(form::invocations, body);
    EXPECT_EQ(b.fault.message, "") << body;
    EXPECT_THAT(b.values(), ElementsAre(1, 2, 3, 4, 5, 6)) << body;
    EXPECT_TRUE(b.batch[0].list);
  }
  const auto csv = read(form::csv, "c,a,bmi\r\n3,1,2\r\n6,4,5\r\n");
  EXPECT_EQ(csv.fault.message, "");
  EXPECT_THAT(csv.values(), ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST(Invocations, MissingColumnsAndCells) {
  EXPECT_THAT(read(form::invocations, R"({"inputs":{"a":[1,4],"c":[null,6]}})").fault.message,
              HasSubstr("inputs[0]: feature 'c' is missing"));
  EXPECT_THAT(read(form::invocations, R"({"inputs":{"a":[1],"c":[2]}})").values(),
              ElementsAre(1, ::testing::IsNan(), 2));
  EXPECT_THAT(read(form::invocations, R"({"dataframe_split":{"columns":["c","a"],"data":[[3,1]]}})").values(),
              ElementsAre(1, ::testing::IsNan(), 3));
  EXPECT_THAT(read(form::csv, "c,a,bmi\n3,1,\n").values(), ElementsAre(1, ::testing::IsNan(), 3));
  EXPECT_THAT(read(form::csv, "c,a\n3,1").values(), ElementsAre(1, ::testing::IsNan(), 3));
  EXPECT_THAT(read(form::csv, "size,colour\n,red\n9,\"green\"\n", "kinds").values(), ElementsAre(5, 0, 9, 1));
}

TEST(Invocations, Tensors) {
  EXPECT_THAT(read(form::invocations, R"({"inputs":{"g":[[[1,2],[3,4]],[[5,6],[7,8]]]}})", "grid").values(),
              ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(read(form::invocations, R"({"instances":[{"g":[[1,2],[3,4]]}]})", "grid").values(),
              ElementsAre(1, 2, 3, 4));
  // Without the line of names.
  EXPECT_THAT(read(form::csv, "1,2,3\n4,,6\n").values(), ElementsAre(1, 2, 3, 4, ::testing::IsNan(), 6));
  EXPECT_EQ(read(form::csv, "1,2,3\r\n4,5,6").batch[0].rows, 2U);
  EXPECT_THAT(read(form::csv, "9,green\n", "kinds").values(), ElementsAre(9, 1));
  EXPECT_THAT(read(form::csv, "g\n1\n", "grid").fault.message, HasSubstr("send JSON"));
}

TEST(Invocations, BrokenOnes) {
  struct row {
    form f;
    const char* body;
    const char* says;
  };
  for (const row& one :
       {row{form::invocations, "{}", "none of instances"},
        row{form::invocations, R"({"instances":7})", "a list of rows"},
        row{form::invocations, R"({"instances":[[1,2,3]],"inputs":[]})", "both instances and inputs"},
        row{form::invocations, R"({"inputs":{"a":[1],"c":[1,2]}})", "column 'c' has 2 values, another has 1"},
        row{form::invocations, R"({"inputs":{"a":1}})", "inputs.a must be a list"},
        row{form::invocations, R"({"inputs":{"a":[1],"a":[1]}})", "there twice"},
        row{form::invocations, R"({"inputs":{"q":[1]}})", "'q' is not a feature"},
        row{form::invocations, R"({"dataframe_split":[]})", "must be an object"},
        row{form::invocations, R"({"dataframe_split":{"columns":["a"]}})", "no data"},
        row{form::invocations, R"({"dataframe_split":{"columns":"a","data":[]}})", "columns must be a list"},
        row{form::invocations, R"({"dataframe_split":{"columns":["a",1],"data":[]}})", "columns[1]"},
        row{form::invocations, R"({"dataframe_split":{"columns":["a","c"],"data":[[1]]}})",
            "there are 2 columns, got 1"},
        row{form::csv, "", "empty"},
        row{form::csv, "a,q\n", "CSV line 1: 'q' is not a feature"},
        row{form::csv, "1,2\n", "CSV line 1: '1' is not a feature"},
        row{form::csv, "1,2,x\n", "CSV line 1: '1' is not a feature"},
        row{form::csv, "0,1,2\n7,8,9\n", "CSV line 1: '0' is not a feature"},
        row{form::csv, "1,2,\n", "CSV line 1: column 'c' is missing"},
        row{form::csv, "1,2,3\n1,x,3\n", "CSV line 2: column 'bmi' must be a finite number"},
        row{form::csv, ",,\n", "is not a feature"},
        row{form::csv, "a,a\n", "column 'a' is there twice"},
        row{form::csv, "a,bmi\n1,2\n", "column 'c' is missing"},
        row{form::csv, "a,c\n1,2\n1,x\n", "CSV line 3: column 'c' must be a finite number"},
        row{form::csv, "a,c\n1,nan\n", "must be a finite number"},
        row{form::csv, "a,c\n1,1e999\n", "must be a finite number"},
        row{form::csv, "a,c\n1, 2\n", "must be a finite number"},
        row{form::csv, "a,c\n1,0x2\n", "must be a finite number"},
        row{form::csv, "a,c\n1,\n", "CSV line 2: column 'c' is missing"},
        row{form::csv, "a,c\n1,2,3\n", "line 2: 3 fields, the header has 2"},
        row{form::csv, "a,c\n1,\"2\n", "not closed"},
        row{form::csv, "a,\xff\n", "not valid UTF-8"}}) {
    const auto b = read(one.f, one.body);
    EXPECT_THAT(b.fault.message, HasSubstr(one.says)) << one.body;
  }
  std::string csv = "a,c\n";
  for (int i = 0; i < 10; ++i) csv += "1,2\n";
  EXPECT_FALSE(read(form::csv, csv).fault);
  EXPECT_EQ(read(form::csv, csv + "1,2\n").fault.code, error_code::too_large);
}

TEST(Csv, Rfc4180) {
  const std::string text = "a,\"b \"\"x\"\"\",\"c,\r\nd\",\"\"\r\n1,,3,\"\"\"\"\n\"e\",f,g,h";
  csv_reader csv(text);
  std::vector<std::string_view> fields;
  ASSERT_TRUE(csv.next(fields));
  EXPECT_THAT(fields, ElementsAre("a", "b \"x\"", "c,\r\nd", ""));
  EXPECT_EQ(csv.line(), 1U);
  ASSERT_TRUE(csv.next(fields));
  EXPECT_THAT(fields, ElementsAre("1", "", "3", "\""));
  EXPECT_EQ(csv.line(), 3U);
  ASSERT_TRUE(csv.next(fields));
  EXPECT_THAT(fields, ElementsAre("e", "f", "g", "h"));
  EXPECT_FALSE(csv.next(fields));
  EXPECT_EQ(csv.error(), "");
  for (const auto& [bad, says] :
       {std::pair{"a,b\"c\n", "line 1: a quote"}, std::pair{"\"a\"b\n", "behind a closing quote"},
        std::pair{"a\rb\n", "carriage return"}, std::pair{"a,b\n\n", "line 2: 1 field,"},
        std::pair{"\"a\nb", "not closed"}}) {
    csv_reader reader(bad);
    while (reader.next(fields)) {
    }
    EXPECT_THAT(reader.error(), HasSubstr(says)) << bad;
  }
}

TEST(Score, Answers) {
  auto b = read(form::score, R"({"data":[[1,2],[3,4]]})", "iris");
  record& r = b.batch.batch->records[0];
  r.request_id = "\"r-1\"";
  const double outputs[] = {0.5, 0.25, 0.25, 0, 0, 1};
  score_writer writer;
  std::string out;
  ASSERT_TRUE(writer.score(out, r, outputs, {"blue", 1'234'567}));
  EXPECT_EQ(out,
            R"({"predictions":["setosa","virginica"],"metadata":{"model_name":"iris","model_version":"1",)"
            R"("deployment":"blue","request_id":"r-1","inference_time_ms":1.234,)"
            R"("timestamp":"2024-11-15T05:53:20.123Z","num_predictions":2}})");
  out.clear();
  ASSERT_TRUE(writer.invocations(out, r, outputs));
  EXPECT_EQ(out, R"({"predictions":["setosa","virginica"]})");
  EXPECT_EQ(score_error(r, error_code::deadline_exceeded, "too \"late\""),
            R"({"error":"too \"late\"","trace":"queue","metadata":{"request_id":"r-1",)"
            R"("timestamp":"2024-11-15T05:53:20.123Z","model_version":"1"}})");
  r.model = nullptr;
  EXPECT_EQ(json::parse(score_error(r, error_code::model_not_found, "x"))["metadata"]["model_version"],
            nullptr);
}

}  // namespace
}  // namespace troupe::codec

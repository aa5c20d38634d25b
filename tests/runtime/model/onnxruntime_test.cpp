// ONNX Runtime itself, where its library is (scripts/deps puts it there); skipped elsewhere. The graphs are
// scripts/make_onnx_fixtures.py's.
#include "runtime/model/onnxruntime.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/model/engine_choice.hpp"
#include "runtime/model/repository.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;
const fs::path data = fs::path(TROUPE_TEST_DIRECTORY) / "data";

std::string graph(const std::string& name) {
  std::ifstream in(data / "onnxruntime" / (name + ".onnx"), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

float elu(double x) {
  const auto f = static_cast<float>(x);
  return f > 0 ? f : std::expm1(f);
}

std::vector<double> score(const onnxruntime::table& t, const std::vector<std::vector<double>>& rows) {
  std::vector<const double*> at;
  for (const auto& r : rows) at.push_back(r.data());
  std::vector<double> out(rows.size() * t.spec().width, -77);
  t.score(at, out.data());
  return out;
}

std::string refusal(const std::string& file, const onnxruntime::session_options& how = {}) {
  try {
    const onnxruntime::table t(file, how, {});
  } catch (const load_error& e) {
    return e.what();
  }
  return "";
}

class OnnxRuntime : public testing::Test {
  void SetUp() override {
    if (!fs::exists(onnxruntime::library_path({}))) GTEST_SKIP() << "no ONNX Runtime: run scripts/deps";
  }
};

TEST(OnnxRuntimeLibrary, MissingOrNoneIsSaidInOneLine) {
  onnxruntime::session_options how;
  how.library = "/nowhere/libonnxruntime.so";
  EXPECT_NE(refusal("x", how).find("run scripts/deps, or set onnxruntime.library"), std::string::npos);
  how.library = "libm.so.6";
  EXPECT_NE(refusal("x", how).find("libm.so.6 is not ONNX Runtime"), std::string::npos);
}

TEST_F(OnnxRuntime, RowsOfEveryNumberOfRowsThatAGraphFixes) {
  const std::vector<std::vector<double>> rows = {{1, -1, 0.5},   {-2, 2, 0},   {3, -0.25, -3},
                                                 {0.125, 4, -4}, {-5, -6, -7}, {8, 9, -10}};
  for (const char* name : {"elu", "elu_one_row", "elu_four_rows"}) {
    const onnxruntime::table t(graph(name), {}, {});
    ASSERT_EQ(t.spec().columns, 3U) << name;
    ASSERT_EQ(t.spec().width, 3U) << name;
    EXPECT_FALSE(t.spec().classification);
    for (std::size_t n = 1; n <= rows.size(); ++n) {
      const auto out = score(t, {rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(n)});
      for (std::size_t i = 0; i < n * 3; ++i)
        EXPECT_NEAR(out[i], static_cast<double>(elu(rows[i / 3][i % 3])), 1e-6)
            << name << " " << n << " " << i;
    }
  }
}

TEST_F(OnnxRuntime, IntegersColumnsAndOpenWidths) {
  EXPECT_EQ(score(onnxruntime::table(graph("integers"), {}, {}), {{3, 4}, {5, 0}}),
            (std::vector<double>{3, 4, 5, 0}));
  const double third = 1.0 / 3;  // is not what a float would hold
  EXPECT_EQ(score(onnxruntime::table(graph("doubles"), {}, {}), {{-third, 1}}),
            (std::vector<double>{third, 1}));
  EXPECT_THROW(score(onnxruntime::table(graph("integers"), {}, {}), {{1e30, 4}}), model_error);
  EXPECT_THROW(score(onnxruntime::table(graph("integers"), {}, {}), {{NAN, 4}}), model_error);
  const onnxruntime::table columns(graph("columns"), {}, {});
  EXPECT_EQ(columns.spec().names, (std::vector<std::string>{"age", "height"}));
  EXPECT_EQ(score(columns, {{1, 2}, {3, 4}}), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_NE(refusal(graph("elu_open_width")).find("features: in model.yaml"), std::string::npos);
  EXPECT_EQ(score(onnxruntime::table(graph("elu_open_width"), {}, {.columns = 2}), {{1, 2}}),
            (std::vector<double>{1, 2}));
}

TEST_F(OnnxRuntime, ClassifiersByTensorAndByMap) {
  for (const char* name : {"probabilities", "maps"}) {
    const onnxruntime::table t(graph(name), {}, {});
    ASSERT_TRUE(t.spec().classification);
    ASSERT_EQ(t.spec().width, 3U);
    const auto out = score(t, {{3, 0, 0}, {0, 0, 5}});
    EXPECT_NEAR(out[0] + out[1] + out[2], 1, 1e-6);
    // A map is ordered by its keys: blue, green, red.
    const bool map = !t.spec().classes.empty();
    if (map) {
      EXPECT_EQ(t.spec().classes, (std::vector<std::string>{"blue", "green", "red"}));
    }
    EXPECT_GT(out[map ? 2 : 0], 0.8);
    EXPECT_GT(out[map ? 3 : 5], 0.9);
  }
}

TEST_F(OnnxRuntime, RefusalsNameWhatIsWrong) {
  EXPECT_NE(refusal(graph("general")).find("input a (float32 [N, 2, K]) leaves more open"),
            std::string::npos);
  EXPECT_NE(refusal("not a graph").find("ONNX Runtime: "), std::string::npos);
  onnxruntime::session_options how;
  how.providers = {"cuda"};
  EXPECT_NE(refusal(graph("elu"), how).find("has no cuda, only"), std::string::npos);
  how.providers = {"abacus"};
  EXPECT_NE(refusal(graph("elu"), how).find("there is no abacus"), std::string::npos);
}

TEST_F(OnnxRuntime, AFailingRowIsAModelError) {
  const onnxruntime::table t(graph("picky"), {}, {});
  EXPECT_EQ(score(t, {{2}, {1}}), (std::vector<double>{4, 2}));
  EXPECT_THROW(score(t, {{1}, {7}}), model_error);
  EXPECT_EQ(score(t, {{0}}), (std::vector<double>{1}));
}

TEST_F(OnnxRuntime, TensorsOfAnyRankAndStrings) {
  const onnxruntime::session s(graph("general"), {});
  ASSERT_EQ(s.inputs().size(), 2U);
  EXPECT_EQ(s.inputs()[0].symbols, (std::vector<std::string>{"N", "", "K"}));
  const std::vector<float> numbers = {1, 2, 3, 4, 5, 6};
  tensor a{"a", element_type::float32, {1, 2, 3}, std::vector<std::byte>(24), {}};
  std::memcpy(a.data.data(), numbers.data(), 24);
  tensor b = a;
  b.name = "b";
  const std::vector<tensor> both = {b, a};
  const auto out = s.run(both);
  ASSERT_EQ(out.size(), 2U);
  EXPECT_EQ(out[0].shape, (std::vector<std::int64_t>{1, 2, 3}));
  float last = 0;
  std::memcpy(&last, out[0].data.data() + 20, 4);
  EXPECT_EQ(last, 12);
  EXPECT_EQ(out[1].strings.at(0), "2");
  const std::vector<std::string> wanted = {"text"};
  EXPECT_EQ(s.run(both, wanted).size(), 1U);
  const std::vector<std::string> unknown = {"product"};
  EXPECT_THROW((void)s.run(both, unknown), model_error);

  const onnxruntime::session words(graph("words"), {});
  const std::vector<tensor> w = {{"x", element_type::string, {2, 1}, {}, {"b", "a"}}};
  const auto encoded = words.run(w);
  float first = 0;
  std::memcpy(&first, encoded[0].data.data(), 4);
  EXPECT_EQ(first, 2);
}

engine_options options(engine_mode mode, bool isolated = false) {
  engine_options o;
  o.mode = mode;
  o.isolated = isolated;
  return o;
}

TEST_F(OnnxRuntime, TheBuiltInEngineIsKeptWhereItAgrees) {
  for (const auto& folder : fs::directory_iterator(data)) {
    const fs::path file = folder.path() / "model.onnx";
    if (!fs::exists(file)) continue;
    const auto m = load_model(folder.path(), "m", "1", options(engine_mode::automatic));
    EXPECT_NE(m->engine().kind(), "onnxruntime") << folder.path() << ": " << m->engine_reason();
    EXPECT_NE(m->engine_reason().find("agrees"), std::string::npos)
        << folder.path() << ": " << m->engine_reason();
  }
}

TEST_F(OnnxRuntime, WhatIsNotBuiltInGoesToOnnxRuntime) {
  const auto made = choose_engine(graph("mlp"), {}, {}, options(engine_mode::automatic), "mlp/1");
  EXPECT_EQ(made.graph.engine->kind(), "onnxruntime");
  EXPECT_NE(made.why.find("Elu"), std::string::npos) << made.why;
  EXPECT_EQ(made.graph.schema.features.size(), 10U);
  EXPECT_THROW((void)choose_engine(graph("mlp"), {}, {}, options(engine_mode::builtin), "mlp/1"), load_error);
}

TEST_F(OnnxRuntime, NamesOfModelYamlAreTaken) {
  const graph_hints hints{{"a", "b", "c"}, {"x", "y", "z"}};
  const auto made = choose_engine(graph("probabilities"), hints, {}, options(engine_mode::onnxruntime), "m");
  EXPECT_EQ(made.graph.schema.index_of("c"), 2);
  EXPECT_EQ(made.graph.output.classes, hints.classes);
  const graph_hints few{{"a", "b"}, {}};
  EXPECT_THROW((void)choose_engine(graph("elu"), few, {}, options(engine_mode::onnxruntime), "m"),
               load_error);
}

TEST(EngineChoice, WithoutTheLibraryTheRefusalNamesBoth) {
  auto o = options(engine_mode::automatic);
  o.session.library = "/nowhere/libonnxruntime.so";
  try {
    (void)choose_engine(graph("mlp"), {}, {}, o, "mlp/1");
    FAIL();
  } catch (const load_error& e) {
    const std::string what = e.what();
    EXPECT_NE(what.find("Elu"), std::string::npos) << what;
    EXPECT_NE(what.find("scripts/deps"), std::string::npos) << what;
  }
}

TEST(EngineChoice, ReadsExamples) {
  EXPECT_EQ(read_examples(R"({"columns": ["a"], "data": [[1], [2.5]]})"),
            (std::vector<std::vector<double>>{{1}, {2.5}}));
  EXPECT_EQ(read_examples("[[1, 2]]"), (std::vector<std::vector<double>>{{1, 2}}));
  for (const char* none : {"", "{", "[]", "{\"data\": 3}", "[[\"a\"]]", "3"})
    EXPECT_TRUE(read_examples(none).empty());
}

}  // namespace
}  // namespace troupe::model

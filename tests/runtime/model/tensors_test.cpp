// Models whose rows are tensors, strings or bytes, on ONNX Runtime, in this process and in a child. The
// graphs are scripts/make_onnx_fixtures.py's.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/model/cells.hpp"
#include "runtime/model/engine_choice.hpp"
#include "runtime/model/input_step.hpp"
#include "runtime/model/onnxruntime.hpp"
#include "runtime/model/repository.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;
const fs::path data = fs::path(TROUPE_TEST_DIRECTORY) / "data";

std::string file(const fs::path& name) {
  std::ifstream in(data / name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
std::string graph(const std::string& name) {
  return file("onnxruntime/" + name + ".onnx");
}

/// By whether the engine is in a process of its own.
class Tensors : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!fs::exists(onnxruntime::library_path({}))) GTEST_SKIP() << "no ONNX Runtime: run scripts/deps";
  }
  static chosen_engine load(const std::string& name, const graph_hints& hints = {}) {
    engine_options how;
    how.mode = engine_mode::automatic;
    how.isolated = GetParam();
    how.command = {"/proc/self/exe", "engine-child"};
    return choose_engine(graph(name), hints, {}, how, name);
  }
  static std::string refusal(const std::string& name, const graph_hints& hints = {}) {
    try {
      (void)load(name, hints);
    } catch (const load_error& e) {
      return e.what();
    }
    return "";
  }
  static std::vector<double> score(const chosen_engine& e, const std::vector<std::vector<double>>& rows) {
    std::vector<const double*> at;
    for (const auto& r : rows) at.push_back(r.data());
    std::vector<double> out(rows.size() * e.graph.output.width, -77);
    e.graph.engine->score(at, out.data());
    return out;
  }
};

TEST_P(Tensors, SeveralInputsAndOutputs) {
  const auto e = load("tensors");
  const auto& in = e.graph.schema.inputs;
  ASSERT_EQ(in.size(), 2U);
  EXPECT_EQ(in[0], (tensor_input{"grid", tensor_input::kind::number, {2, 3}, 0, 6}));
  EXPECT_EQ(in[1], (tensor_input{"name", tensor_input::kind::text, {}, 6, 1}));
  EXPECT_TRUE(e.graph.schema.texts);
  EXPECT_EQ(e.graph.output.parts, (std::vector<output_spec::part>{{"sum", 1}, {"turned", 6}, {"code", 1}}));
  const std::string_view a = "a";
  const std::string_view b = "b";
  const std::string_view none;
  const std::string long_text(100'000, 'x');
  const std::string_view other = long_text;
  const auto out = score(e, {{1, 2, 3, 4, 5, 6, text_cell(&a)},
                             {0, 0, 0, 0, 0, 1, text_cell(&b)},
                             {0, 0, 0, 0, 0, 2, text_cell(&none)},
                             {0, 0, 0, 0, 0, 3, text_cell(&other)}});
  ASSERT_EQ(out.size(), 32U);
  EXPECT_EQ((std::vector<double>{out.begin(), out.begin() + 8}),
            (std::vector<double>{21, -1, -2, -3, -4, -5, -6, 1}));
  EXPECT_EQ(out[8], 1);
  EXPECT_EQ(out[15], 2);
  EXPECT_EQ(out[23], 9) << "an empty text is a text";
  EXPECT_EQ(out[31], -1);
}

TEST_P(Tensors, AZeroByteIsTheRowsOwnFault) {
  const auto e = load("tensors");
  const std::string_view zero("a\0b", 3);
  EXPECT_THROW(score(e, {{1, 2, 3, 4, 5, 6, text_cell(&zero)}}), row_error);
}

TEST_P(Tensors, OutputsCanBePicked) {
  graph_hints hints;
  hints.outputs = {"code"};
  const auto e = load("tensors", hints);
  EXPECT_TRUE(e.graph.output.parts.empty());
  EXPECT_EQ(e.graph.output.width, 1U);
  hints.outputs = {"colour"};
  EXPECT_NE(refusal("tensors", hints).find("lists the output colour"), std::string::npos);
  hints.outputs = {"turned", "code"};
  hints.softmax = true;
  EXPECT_NE(refusal("tensors", hints).find("softmax is of one output"), std::string::npos);
}

TEST_P(Tensors, AnOpenDimensionIsFixedByTheModelsOwner) {
  EXPECT_NE(refusal("tokens").find("in model.yaml, or give the shape of a row, shapes: {ids: [...]}"),
            std::string::npos)
      << refusal("tokens");
  graph_hints hints;
  hints.shapes["ids"] = {4};
  EXPECT_EQ(score(load("tokens", hints), {{1, 2, 3, 4}, {5, 5, 5, 5}}), (std::vector<double>{10, 20}));
  hints.shapes["ids"] = {4, 1};
  EXPECT_NE(refusal("tokens", hints).find("the shape [4, 1], and the graph takes ids"), std::string::npos);
  hints.shapes = {{"tokens", {4}}};
  EXPECT_NE(refusal("tokens", hints).find("gives a shape for tokens"), std::string::npos);
  hints.shapes = {{"ids", {2'000'000}}};
  EXPECT_NE(refusal("tokens", hints), "");
}

TEST_P(Tensors, IntegersThatDoNotFitAreTheRowsOwnFault) {
  const auto e = load("bytes");
  EXPECT_EQ(score(e, {{0, 1, 2, 3, 4, 255}}), (std::vector<double>{0, 1, 2, 3, 4, 255}));
  EXPECT_THROW(score(e, {{0, 1, 2, 3, 4, 256}}), row_error);
  EXPECT_THROW(score(e, {{0, 1, 2, 3, 4, -1}}), row_error);
}

TEST_P(Tensors, HalvesRoundToTheNearest) {
  const auto e = load("halves");
  EXPECT_EQ(score(e, {{1, 65504}, {0.1, 6e-8}, {1e6, -0.0}, {1.0 + 0x1p-11, 1.0 + 3 * 0x1p-11}}),
            (std::vector<double>{-1, -65504, -0.0999755859375, -0x1p-24, -INFINITY, 0, -1, -(1.0 + 0x1p-9)}));
}

TEST_P(Tensors, APictureIsDecodedBesideTheEngine) {
  graph_hints hints;
  hints.input.is = input_step::kind::image;
  hints.input.image.height = 4;
  hints.input.image.width = 6;
  hints.input.image.how = fit::stretch;
  const auto e = load("picture", hints);
  ASSERT_EQ(e.graph.schema.inputs.size(), 1U);
  EXPECT_EQ(e.graph.schema.inputs[0], (tensor_input{"x", tensor_input::kind::bytes, {}, 0, 1}));
  const std::string jpg = file("pictures/photo.jpg");
  const std::string png = file("pictures/photo.png");
  const std::string_view texts[] = {jpg, png, "no picture"};
  const auto out = score(e, {{text_cell(&texts[0])}, {text_cell(&texts[1])}});
  std::vector<float> expected(72);
  for (std::size_t r = 0; r < 2; ++r) {
    apply(hints.input, texts[r], expected.data());
    for (std::size_t i = 0; i < 72; ++i) EXPECT_EQ(out[r * 72 + i], static_cast<double>(expected[i]));
  }
  try {
    score(e, {{text_cell(&texts[2])}});
    FAIL();
  } catch (const row_error& error) {
    EXPECT_NE(std::string(error.what()).find("neither a JPEG nor a PNG"), std::string::npos);
  }
  hints.input.image.width = 7;
  EXPECT_NE(refusal("picture", hints).find("makes [3, 4, 7] of an image, and the graph takes x"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Isolated, Tensors, testing::Bool());

class TensorYaml : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("tensor_yaml_" + std::to_string(getpid()));
    fs::create_directories(folder_);
    fs::copy_file(data / "onnxruntime/picture.onnx", folder_ / "model.onnx",
                  fs::copy_options::overwrite_existing);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void put(const char* name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  std::string refusal(const std::string& yaml) {
    put("model.yaml", yaml);
    engine_options how;
    how.mode = engine_mode::automatic;
    how.isolated = false;
    try {
      (void)load_model(folder_, "m", "1", how);
    } catch (const load_error& e) {
      return e.what();
    }
    return "";
  }
  fs::path folder_;
};

TEST_F(TensorYaml, EachMistakeIsNamedWithItsLine) {
  const std::string image = "input:\n  type: image\n";
  const struct {
    std::string yaml, text;
  } table[] = {
      {"input: 3\n", "line 1: input is a mapping with a type"},
      {"input:\n  type: sound\n", "line 2: input.type is one of image, bytes"},
      {image, "input.size is missing"},
      {image + "  size: [4]\n", "line 3: input.size is [height, width]"},
      {image + "  size: [0, 6]\n", "line 3: input.size is a whole number from 1 to 4096"},
      {image + "  size: [4, 4097]\n", "a whole number from 1 to 4096"},
      {image + "  size: [4, 6]\n  fit: squeeze\n", "line 4: input.fit is one of crop, stretch, pad"},
      {image + "  size: [4, 6]\n  fit: pad\n  resize: 8\n", "line 5: input.resize is of fit: crop"},
      {image + "  size: [4, 6]\n  resize: 5\n", "input.resize is a whole number from 6"},
      {image + "  size: [4, 6]\n  scale: [1, 0, 1]\n", "input.scale is 0"},
      {image + "  size: [4, 6]\n  mean: [1, 2]\n", "input.mean is a number, or a list of 3"},
      {image + "  size: [4, 6]\n  mean: .nan\n", "input.mean is not a number"},
      {image + "  size: [4, 6]\n  colour: red\n", "line 4: unknown key input.colour"},
      {"input: {type: bytes}\n", "input.first and input.last are both 0"},
      {"input: {type: bytes, first: 5}\n", "makes 5 numbers of a request's bytes"},
      {"shapes: [1]\n", "line 1: shapes is a mapping"},
      {"outputs: y\n", "line 1: outputs is a list of names"},
      {"top_k: 0\n", "line 1: top_k is a whole number from 1"},
      {"softmax: perhaps\n", "line 1: softmax is true or false"},
      {"top_k: 2\n", "top_k is of a classification"},
      {"classes_file: ../names.txt\n", "is the name of a file beside this one"},
      {"classes_file: none.txt\n", "none.txt cannot be read"},
      {"classes: [a]\nclasses_file: names.txt\n", "line 2: classes and classes_file are both there"},
      {"picture: 1\n", "unknown key picture; it can hold features, classes"},
  };
  for (const auto& row : table)
    EXPECT_NE(refusal(row.yaml).find(row.text), std::string::npos) << row.yaml << refusal(row.yaml);
}

TEST_F(TensorYaml, AllMistakesAreToldAtOnce) {
  const std::string text = refusal(
      "input:\n  type: image\n  size: [4]\n  fit: squeeze\n  colour: red\n  mean: x\n"
      "softmax: perhaps\ntop_k: 0\nfeatures:\n  - {name: a, mean: x, scale: 0}\n  - {name: a, minimum: y}\n");
  for (const char* part :
       {"line 3: input.size is [height", "line 4: input.fit", "line 5: unknown key input.colour",
        "line 6: input.mean", "line 7: softmax", "line 8: top_k", ":10: feature a: mean",
        ":10: feature a: scale is 0", ":11: feature a: minimum"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  const std::string keys = refusal("picture: 1\nlens: 2\n");
  EXPECT_NE(keys.find("unknown key picture"), std::string::npos) << keys;
  EXPECT_NE(keys.find("unknown key lens"), std::string::npos) << keys;
}

TEST_F(TensorYaml, TheWholeOfItTogether) {
  if (!fs::exists(onnxruntime::library_path({}))) GTEST_SKIP() << "no ONNX Runtime: run scripts/deps";
  std::string names;
  for (int i = 0; i < 72; ++i) names += "class " + std::to_string(i) + "\n";
  put("names.txt", names);
  put("model.yaml",
      "input: {type: image, size: [4, 6], fit: stretch, filter: bicubic, mean: 127, scale: [128, 128, 128]}\n"
      "softmax: true\ntop_k: 3\nclasses_file: names.txt\n");
  engine_options how;
  how.mode = engine_mode::automatic;
  how.isolated = false;
  const auto m = load_model(folder_, "m", "1", how);
  EXPECT_EQ(m->output().kind, task::classification);
  EXPECT_EQ(m->output().top_k, 3U);
  EXPECT_EQ(m->output().classes[71], "class 71");
  const std::string png = file("pictures/photo.png");
  const std::string_view text = png;
  const double row[] = {text_cell(&text)};
  const double* const rows[] = {row};
  std::vector<double> out(72);
  m->engine().score(rows, out.data());
  double sum = 0;
  for (const double p : out) sum += p;
  EXPECT_NEAR(sum, 1, 1e-9);
  // Another model.yaml gives other answers, so nothing of it may be cached for both.
  const auto digest = m->digest();
  put("model.yaml", "input: {type: image, size: [4, 6]}\n");
  EXPECT_NE(load_model(folder_, "m", "1", how)->digest(), digest);
}

}  // namespace
}  // namespace troupe::model

// The file reader and the operators around the trees: what is computed, what is refused and how it is said.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "runtime/model/graph.hpp"
#include "tests/runtime/model/onnx_writer.hpp"

namespace troupe::model {
namespace {

using namespace test;
using floats = std::vector<float>;
using doubles = std::vector<double>;

constexpr double none = std::numeric_limits<double>::quiet_NaN();

doubles score(const compiled_graph& g, const std::vector<doubles>& rows) {
  std::vector<const double*> pointers;
  for (const auto& r : rows) pointers.push_back(r.data());
  doubles out(rows.size() * g.output.width);
  g.engine->score(pointers, out.data());
  return out;
}

doubles score(const file& f, const std::vector<doubles>& rows) {
  return score(compile(f.text()), rows);
}

std::string refusal(const std::string& bytes, const graph_hints& hints = {}, const onnx::limits& most = {}) {
  try {
    (void)compile(bytes, hints, most);
  } catch (const load_error& e) {
    return e.what();
  }
  return "was taken";
}
std::string refusal(const file& f, const graph_hints& hints = {}) {
  return refusal(f.text(), hints);
}

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// X [N, width] -> nodes -> Y.
file chain(std::int64_t width, std::vector<proto> nodes, std::vector<proto> constants = {},
           std::int64_t type = of_float, std::int64_t out_type = of_float) {
  return {std::move(nodes), {table("X", type, width)}, {table("Y", out_type, -1)}, std::move(constants), {}};
}

proto regressor(const char* in, const char* out, const floats& weights, const floats& bias) {
  return node(ml, "LinearRegressor", {in}, {out},
              {attribute("coefficients", weights), attribute("intercepts", bias),
               attribute("targets", static_cast<std::int64_t>(bias.size()))});
}

TEST(graph, linear_regressor_with_several_targets) {
  EXPECT_EQ(score(chain(2, {regressor("X", "Y", {1, 2, 3, 4}, {10, 20})}), {{1, 1}, {0, 2}}),
            (doubles{13, 27, 14, 28}));
}

TEST(graph, linear_classifier_splits_one_score_of_two_classes) {
  const auto f = [](const char* transform) {
    file g = chain(1, {node(ml, "LinearClassifier", {"X"}, {"L", "Y"},
                            {attribute("coefficients", floats{2}), attribute("intercepts", floats{-1}),
                             attribute("classlabels_ints", std::vector<std::int64_t>{4, 5}),
                             attribute("post_transform", transform)})});
    g.outputs.insert(g.outputs.begin(), table("L", of_int64, 1));
    return g;
  };
  const auto g = compile(f("LOGISTIC").text());
  EXPECT_EQ(g.output.kind, task::classification);
  EXPECT_EQ(g.output.classes, (std::vector<std::string>{"4", "5"}));
  const auto p = score(g, {{2}});
  EXPECT_NEAR(p[1], 1 / (1 + std::exp(-3.0)), 1e-15);
  EXPECT_NEAR(p[0] + p[1], 1, 1e-15);
  EXPECT_EQ(score(f("NONE"), {{0.75}}), (doubles{0.5, 0.5}));
}

TEST(graph, a_scaler_in_float_rounds_as_floats_do) {
  const float offset = 0.1F;
  const float scale = 1 / 3.0F;
  const file f = chain(1, {node(ml, "Scaler", {"X"}, {"Y"},
                                {attribute("offset", floats{offset}), attribute("scale", floats{scale})})});
  std::mt19937_64 random(3);
  for (int i = 0; i < 1000; ++i) {
    const float x = static_cast<float>(random() % 100'000) / 997;
    const float centred = x - offset;
    ASSERT_EQ(score(f, {{static_cast<double>(x)}})[0], static_cast<double>(centred * scale));
  }
}

TEST(graph, arithmetic_rounds_to_its_type) {
  const auto answer = [](const char* op, std::int64_t type, double x, double k, bool constant_first) {
    const proto c = type == of_float ? constant("k", type, {1}, floats{static_cast<float>(k)})
                                     : constant("k", type, {1}, doubles{k});
    const std::vector<std::string> in =
        constant_first ? std::vector<std::string>{"k", "X"} : std::vector<std::string>{"X", "k"};
    return score(chain(1, {node("", op, in, {"Y"})}, {c}, type, type), {{x}})[0];
  };
  EXPECT_EQ(answer("Sub", of_double, 0.3, 0.1, false), 0.3 - 0.1);
  EXPECT_EQ(answer("Sub", of_double, 0.3, 0.1, true), 0.1 - 0.3);
  EXPECT_EQ(answer("Div", of_double, 1, 3, false), 1.0 / 3.0);
  EXPECT_EQ(answer("Div", of_double, 1, 3, true), 3.0);
  EXPECT_EQ(answer("Mul", of_float, 0.1, 3, false), static_cast<double>(0.1F * 3.0F));
  EXPECT_EQ(answer("Add", of_float, 1e8, 1, false), static_cast<double>(1e8F + 1.0F));
  EXPECT_EQ(answer("Div", of_float, 1, 3, false), static_cast<double>(1.0F / 3.0F));
}

TEST(graph, a_cast_rounds_where_it_stands) {
  const auto cast = [](std::int64_t to) { return node("", "Cast", {"S"}, {"Y"}, {attribute("to", to)}); };
  const auto scale = node("", "Div", {"X", "k"}, {"S"});
  const auto k = constant("k", of_double, {1, 1}, doubles{3});
  EXPECT_EQ(score(chain(1, {scale, cast(of_float)}, {k}, of_double), {{1}})[0],
            static_cast<double>(1.0F / 3.0F));
  EXPECT_EQ(score(chain(1, {scale, cast(of_double)}, {k}, of_double, of_double), {{1}})[0], 1.0 / 3.0);
}

TEST(graph, rows_and_single_columns_widen) {
  const auto k = constant("k", of_float, {1, 3}, floats{1, 2, 3});
  EXPECT_EQ(score(chain(1, {node("", "Mul", {"X", "k"}, {"Y"})}, {k}), {{2}, {-1}}),
            (doubles{2, 4, 6, -1, -2, -3}));
  const auto which = constant("i", of_int64, {1}, std::vector<std::int64_t>{1});
  EXPECT_EQ(
      score(
          chain(2, {node(ml, "ArrayFeatureExtractor", {"X", "i"}, {"P"}), node("", "Mul", {"X", "P"}, {"Y"})},
                {which}),
          {{2, 3}, {5, 7}}),
      (doubles{6, 9, 35, 49}));
}

TEST(graph, a_value_that_is_read_again_keeps_its_memory) {
  // X is scaled in place only where nobody else reads it.
  const auto k = constant("k", of_float, {1}, floats{10});
  EXPECT_EQ(
      score(
          chain(1,
                {node("", "Mul", {"X", "k"}, {"A"}), node("", "Add", {"X", "k"}, {"B"}),
                 node("", "Identity", {"A"}, {"C"}), node("", "Mul", {"A", "k"}, {"D"}),
                 node("", "Concat", {"X", "A", "B", "C", "D"}, {"Y"}, {attribute("axis", std::int64_t{1})})},
                {k}),
          {{3}}),
      (doubles{3, 30, 13, 30, 300}));
}

TEST(graph, imputer_normalizer_binarizer) {
  const auto imputer =
      node(ml, "Imputer", {"X"}, {"Y"},
           {attribute("imputed_value_floats", floats{7, 8}), attribute("replaced_value_float", NAN)});
  const auto g = compile(chain(2, {imputer}).text());
  EXPECT_TRUE(g.schema.missing_allowed(0) && g.schema.missing_allowed(1));
  EXPECT_EQ(score(g, {{none, 2}, {1, none}}), (doubles{7, 2, 1, 8}));
  const auto zero =
      node(ml, "Imputer", {"X"}, {"Y"},
           {attribute("imputed_value_floats", floats{5}), attribute("replaced_value_float", 0.0F)});
  const auto z = compile(chain(2, {zero}).text());
  EXPECT_FALSE(z.schema.missing_allowed(0));
  EXPECT_EQ(score(z, {{0, 2}}), (doubles{5, 2}));
  const auto norm = [](const char* kind) {
    return node(ml, "Normalizer", {"X"}, {"Y"}, {attribute("norm", kind)});
  };
  EXPECT_EQ(score(chain(2, {norm("L1")}), {{-1, 3}, {0, 0}}), (doubles{-0.25, 0.75, 0, 0}));
  EXPECT_EQ(score(chain(2, {norm("L2")}), {{3, 4}}),
            (doubles{static_cast<double>(0.6F), static_cast<double>(0.8F)}));
  EXPECT_EQ(score(chain(2, {norm("MAX")}), {{1, 4}}), (doubles{0.25, 1}));
  EXPECT_EQ(
      score(chain(2, {node(ml, "Binarizer", {"X"}, {"Y"}, {attribute("threshold", 1.0F)})}), {{1, 1.5}}),
      (doubles{0, 1}));
}

TEST(graph, matrices_and_activations) {
  const auto w = constant("w", of_float, {2, 3}, floats{1, 2, 3, 4, 5, 6});
  EXPECT_EQ(score(chain(2, {node("", "MatMul", {"X", "w"}, {"Y"})}, {w}), {{1, 10}}), (doubles{41, 52, 63}));
  const auto c = constant("c", of_float, {3}, floats{100, 200, 300});
  const auto gemm =
      node("", "Gemm", {"X", "w", "c"}, {"Y"}, {attribute("alpha", 2.0F), attribute("beta", 0.5F)});
  EXPECT_EQ(score(chain(2, {gemm}, {w, c}), {{1, 10}}), (doubles{132, 204, 276}));
  const auto turned = node("", "Gemm", {"X", "w"}, {"Y"}, {attribute("transB", std::int64_t{1})});
  EXPECT_EQ(score(chain(3, {turned}, {w}), {{1, 10, 100}}), (doubles{321, 654}));
  EXPECT_EQ(score(chain(2, {node("", "Relu", {"X"}, {"Y"})}), {{-1, 2}}), (doubles{0, 2}));
  EXPECT_EQ(score(chain(1, {node("", "Sigmoid", {"X"}, {"Y"})}), {{0}}), (doubles{0.5}));
  EXPECT_EQ(score(chain(1, {node("", "Tanh", {"X"}, {"Y"})}), {{0}}), (doubles{0}));
  EXPECT_EQ(score(chain(2, {node("", "Softmax", {"X"}, {"Y"})}), {{3, 3}}), (doubles{0.5, 0.5}));
}

TEST(graph, many_inputs_are_columns_by_name) {
  file f = chain(1, {node("", "Concat", {"age", "xy"}, {"C"}, {attribute("axis", std::int64_t{1})}),
                     regressor("C", "Y", {1, 10, 100}, {0})});
  f.inputs = {table("age", of_float, 1), table("xy", of_float, 2)};
  const auto g = compile(f.text());
  ASSERT_TRUE(g.schema.named);
  EXPECT_EQ(g.schema.index_of("age"), 0);
  EXPECT_EQ(g.schema.index_of("xy_1"), 2);
  EXPECT_EQ(g.schema.index_of("xy"), -1);
  EXPECT_EQ(score(g, {{1, 2, 3}}), (doubles{321}));
}

TEST(graph, names_come_from_hints_then_metadata_then_numbers) {
  file f = chain(2, {regressor("X", "Y", {1, 1}, {0})});
  EXPECT_FALSE(compile(f.text()).schema.named);
  EXPECT_EQ(compile(f.text()).schema.index_of("f1"), 1);
  f.metadata = {{"feature_names", "a,b"}};
  EXPECT_EQ(compile(f.text()).schema.index_of("b"), 1);
  f.metadata = {{"feature_names", R"(["a", "c d"])"}};
  EXPECT_EQ(compile(f.text()).schema.index_of("c d"), 1);
  EXPECT_EQ(compile(f.text(), {{"p", "q"}, {}}).schema.index_of("q"), 1);
  EXPECT_EQ(
      compile(chain(-1, {regressor("X", "Y", {1, 1}, {0})}).text(), {{"p", "q"}, {}}).schema.features.size(),
      2U);
  EXPECT_EQ(refusal(f, {{"p"}, {}}), "model.yaml names 1 features, the graph takes 2");
  EXPECT_NE(refusal(f, {{"p", "p"}, {}}).find("two features are called 'p'"), std::string::npos);
}

TEST(graph, class_names_in_the_hints_make_a_classifier) {
  const auto k = constant("k", of_float, {1, 2}, floats{1, 2});
  const file g = chain(1, {node("", "Mul", {"X", "k"}, {"M"}), node("", "Softmax", {"M"}, {"Y"})}, {k});
  EXPECT_EQ(compile(g.text()).output.kind, task::regression);
  const auto made = compile(g.text(), {{}, {"no", "yes"}});
  EXPECT_EQ(made.output.kind, task::classification);
  EXPECT_EQ(made.output.classes[1], "yes");
  EXPECT_NE(refusal(g, {{}, {"a", "b", "c"}}).find("3 class names for 2 probabilities"), std::string::npos);
}

TEST(graph, refusals_name_the_operator_and_what_to_do) {
  const auto says = [](const file& f, const char* text) {
    const std::string got = refusal(f);
    EXPECT_NE(got.find(text), std::string::npos) << got;
  };
  says(chain(1, {node("", "Erf", {"X"}, {"Y"})}),
       "operator Erf is not built in; export the model without it");
  says(chain(1, {node("ai.onnx.ml", "SVMRegressor", {"X"}, {"Y"})}), "operator SVMRegressor is not built in");
  says(chain(1, {node("com.microsoft", "Relu", {"X"}, {"Y"})}),
       "operator com.microsoft.Relu is not built in");
  says(chain(1, {node("", "Cast", {"X"}, {"Y"}, {attribute("to", std::int64_t{7})})}),
       "operator Cast: only float and double");
  says(chain(1, {node("", "Relu", {"W"}, {"Y"})}), "operator Relu: input 'W' is not there");
  says(chain(1, {node("", "Relu", {}, {"Y"})}), "input 0 is missing");
  says(chain(1, {node("", "Relu", {"X"}, {"Z"})}), "output 'Y' is not written");
  says(chain(1, {node("", "Relu", {"A"}, {"Y"}), node("", "Relu", {"X"}, {"A"})}), "input 'A' is not there");
  says(chain(1, {node("", "Relu", {"Y"}, {"Y"})}), "input 'Y' is not there");
  says(chain(1, {node("", "Relu", {"X"}, {"Y"}), node("", "Relu", {"X"}, {"Y"})}), "two operators write 'Y'");
  says(chain(3, {regressor("X", "Y", {1, 2}, {0})}), "2 coefficients for 3 columns");
  says(chain(1, {regressor("X", "Y", {1, 2}, {0})}), "1 intercepts for 2 outputs");
  says(chain(2, {node("", "MatMul", {"X", "w"}, {"Y"})}, {constant("w", of_float, {3, 1}, floats{1, 2, 3})}),
       "a matrix of 3 x 1 for 2 columns");
  says(chain(2, {node("", "Add", {"X", "w"}, {"Y"})}, {constant("w", of_float, {3}, floats{1, 2, 3})}),
       "do not fit");
  says(chain(2, {node("", "Add", {"X", "w"}, {"Y"})}, {constant("w", of_double, {2}, doubles{1, 2})}),
       "do not fit");
  says(chain(2, {node("", "Gather", {"X", "w"}, {"Y"}, {attribute("axis", std::int64_t{1})})},
             {constant("w", of_int64, {1}, std::vector<std::int64_t>{2})}),
       "column 2 of 2");
  says(chain(2, {node("", "Reshape", {"X", "w"}, {"Y"})},
             {constant("w", of_int64, {2}, std::vector<std::int64_t>{-1, 1})}),
       "another number of columns");
  says(chain(1, {node("", "Identity", {"X"}, {"Y"})}), "nothing to score");
  says(chain(-1, {node("", "Relu", {"X"}, {"Y"})}), "list them as features: in model.yaml");
  says(chain(1, {node("", "Relu", {"X"}, {"Y"})}, {}, of_int64), "input 'X' is not a tensor of floats");
  file two = chain(1, {node("", "Relu", {"X"}, {"Y"}), node("", "Relu", {"X"}, {"Z"})});
  two.outputs.push_back(table("Z", of_float, 1));
  says(two, "2 outputs of floats ('Y', 'Z')");
  file label = chain(1, {node("", "Relu", {"X"}, {"Y"})});
  label.outputs = {table("Y", of_int64, 1)};
  says(label, "only output is a label");
}

TEST(reader, refuses_what_is_no_model) {
  EXPECT_NE(refusal(std::string()).find("no graph"), std::string::npos);
  EXPECT_NE(refusal(std::string("hello, world")).find("not a readable ONNX file"), std::string::npos);
  EXPECT_NE(refusal(std::string(64, '\0')).find("not a readable ONNX file"), std::string::npos);
  EXPECT_NE(refusal(std::string(64, '\xff')).find("not a readable ONNX file"), std::string::npos);
}

TEST(reader, sizes_are_checked_before_they_are_believed) {
  // A graph of 2^63 bytes, and constants of absurd shapes: refused at once, and nothing is allocated.
  EXPECT_NE(refusal("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f").find("ends early"), std::string::npos);
  for (const char* one_byte_short :
       {"\x3a\x01", "\x3a\x02\x08", "\x3a\x03\x0a\x02\x22", "\x3a\x04\x0a\x02\x22\x01"}) {
    EXPECT_NE(refusal(std::string(one_byte_short)).find("ends early"), std::string::npos) << one_byte_short;
  }
  for (const std::vector<std::int64_t>& dims : std::vector<std::vector<std::int64_t>>{
           {INT64_MAX}, {1 << 30, 1 << 30}, {-1}, {INT64_MIN}, {INT64_MAX, INT64_MAX, 2}, {3}}) {
    const file f =
        chain(1, {node("", "Mul", {"X", "k"}, {"Y"})}, {constant("k", of_float, dims, floats{1, 2})});
    EXPECT_NE(refusal(f).find("shape"), std::string::npos) << dims[0];
  }
}

TEST(reader, limits_hold) {
  const file f = chain(8, {regressor("X", "Y", floats(8, 1), {0})});
  onnx::limits most;
  most.file_bytes = f.text().size();
  most.features = 8;
  most.graph_nodes = 1;
  most.outputs = 1;
  EXPECT_EQ(refusal(f.text(), {}, most), "was taken");
  auto less = most;
  --less.file_bytes;
  EXPECT_NE(refusal(f.text(), {}, less).find("more than the limit"), std::string::npos);
  less = most;
  --less.features;
  EXPECT_NE(refusal(f.text(), {}, less).find("more than 7 features"), std::string::npos);
  less = most;
  --less.graph_nodes;
  EXPECT_NE(refusal(f.text(), {}, less).find("more than 0 parts"), std::string::npos);
}

TEST(reader, a_constant_may_not_point_to_another_file) {
  auto elsewhere = constant("k", of_float, {1}, floats{1});
  elsewhere.varint(14, 1);
  EXPECT_NE(refusal(chain(1, {node("", "Mul", {"X", "k"}, {"Y"})}, {elsewhere})).find("in another file"),
            std::string::npos);
}

TEST(reader, a_file_cut_anywhere_is_refused) {
  const std::string whole =
      read(std::filesystem::path(TROUPE_SOURCE_DIRECTORY) / "models/diabetes-rf-model/1/model.onnx");
  ASSERT_GT(whole.size(), 100'000U);
  for (std::size_t i = 0; i < 50; ++i) {
    EXPECT_NE(refusal(whole.substr(0, whole.size() * i / 50)), "was taken") << i << "/50";
  }
  EXPECT_NE(refusal(whole.substr(0, whole.size() - 1)), "was taken");
}

TEST(reader, a_flipped_bit_is_refused_or_does_no_harm) {
  const std::string whole =
      read(std::filesystem::path(TROUPE_SOURCE_DIRECTORY) / "models/iris-classifier/1/model.onnx");
  std::mt19937_64 random(11);
  std::size_t taken = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = whole;
    for (auto n = 1 + random() % 3; n > 0; --n) {
      char& c = bytes[random() % bytes.size()];
      c = static_cast<char>(c ^ (1 << random() % 8));
    }
    try {
      const auto g = compile(bytes);
      ++taken;
      (void)score(g, std::vector<doubles>(20, doubles(g.schema.features.size(), 1.5)));
    } catch (const load_error&) {
    }
  }
  EXPECT_GT(taken, 300U);  // mostly leaves' weights and thresholds
  EXPECT_LT(taken, 2700U);
}

TEST(reader, corpus_of_the_fuzzer_is_what_its_names_say) {
  std::size_t good = 0;
  std::size_t broken = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(TROUPE_SOURCE_DIRECTORY) / "tests/fuzz/corpus/model_reader")) {
    const std::string name = entry.path().filename().string();
    const std::string said = refusal(read(entry.path()));
    if (name.starts_with("broken_")) {
      EXPECT_NE(said, "was taken") << name;
      ++broken;
    } else {
      EXPECT_EQ(said, "was taken") << name;
      ++good;
    }
  }
  EXPECT_GE(good, 12U);
  EXPECT_GE(broken, 4U);
}

}  // namespace
}  // namespace troupe::model

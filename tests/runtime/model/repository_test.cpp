// The directory of models: what is read, what is ignored, and that every error names its file and what to do.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "runtime/model/repository.hpp"
#include "tests/runtime/model/onnx_writer.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;
using namespace test;

/// X [N, 2] -> X0 * weight + X1.
std::string linear(float weight) {
  return file{{node(ml, "LinearRegressor", {"X"}, {"Y"},
                    {attribute("coefficients", std::vector<float>{weight, 1}),
                     attribute("targets", std::int64_t{1})})},
              {table("X", of_float, 2)},
              {table("Y", of_float, 1)},
              {},
              {}}
      .text();
}

class repository_test : public testing::Test {
 protected:
  void SetUp() override {
    root = fs::temp_directory_path() / ("troupe-repository-" + std::to_string(getpid()) + "-" +
                                        testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(root);
    fs::create_directories(root);
  }
  void TearDown() override { fs::remove_all(root); }

  void put(const fs::path& file, const std::string& text) const {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file, std::ios::binary) << text;
  }
  std::shared_ptr<const model_table> load(const std::string& default_model = "", bool fallback = true) const {
    return repository({root, default_model, fallback}).load();
  }
  /// The error, with the root left out; it is always one line.
  std::string refusal(const std::string& default_model = "") const {
    try {
      load(default_model);
    } catch (const load_error& e) {
      std::string text = e.what();
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      EXPECT_TRUE(text.starts_with(root.string())) << text;
      for (std::size_t at; (at = text.find(root.string())) != std::string::npos;)
        text.erase(at, root.string().size());
      return text;
    }
    return "was taken";
  }

  fs::path root;
};

TEST_F(repository_test, reads_all_versions) {
  put("a/1/model.onnx", linear(1));
  put("a/v2/model.onnx", linear(2));
  put("a/10/model.onnx", linear(10));
  put("b/1/model.onnx", linear(7));
  put("a/1/model.yaml", "features: [x, y]\n");
  put("b/model.yaml", "production: 1\n");
  // What is none of ours.
  put(".git/HEAD", "ref");
  put("README.md", "# Models");
  put("a/.old/1/model.onnx", "?");
  put("a/notes.txt", "?");
  put("a/1/requirements.txt", "?");
  const auto table = load("a");
  ASSERT_EQ(table->all().size(), 4U);
  const loaded_model& m = *table->find("", "").model;
  EXPECT_EQ(m.version(), "10");
  EXPECT_EQ(m.path(), root / "a/10/model.onnx");
  const double row[] = {3, 0};
  const double* const rows[] = {row};
  double y = 0;
  table->find("a", "2").model->engine().score(rows, &y);
  EXPECT_EQ(y, 6);
  EXPECT_EQ(table->find("a", "1").model->schema().index_of("y"), 1);
  EXPECT_NE(table->find("a", "1").model->digest(), table->find("a", "2").model->digest());
}

TEST_F(repository_test, the_digest_is_that_of_the_content) {
  put("a/1/model.onnx", linear(1));
  const auto before = load()->find("", "").model->digest();
  EXPECT_EQ(load()->find("", "").model->digest(), before);
  put("a/1/model.onnx", linear(1.5F));
  EXPECT_NE(load()->find("", "").model->digest(), before);
}

TEST_F(repository_test, production_is_what_the_file_says) {
  for (const char* v : {"1", "2", "3"}) put(fs::path("a") / v / "model.onnx", linear(1));
  EXPECT_EQ(load()->find("a", "").model->version(), "3");
  put("a/model.yaml", "production: 2\n");
  EXPECT_EQ(load()->find("a", "").model->version(), "2");
  put("a/model.yaml", "production: v1\n");
  EXPECT_EQ(load()->find("a", "").model->version(), "1");
  put("a/model.yaml", "# nothing yet\n");
  EXPECT_EQ(load()->find("a", "").model->version(), "3");
  EXPECT_TRUE(load()->find("a", "9").fell_back);
  EXPECT_EQ(load("", false)->find("a", "9").model, nullptr);
}

TEST_F(repository_test, the_default_is_the_only_model_or_the_one_that_ships) {
  put("a/1/model.onnx", linear(1));
  EXPECT_EQ(load()->default_model()->name(), "a");
  put("b/1/model.onnx", linear(1));
  EXPECT_EQ(load()->default_model(), nullptr);
  put("diabetes-rf-model/1/model.onnx", linear(1));
  EXPECT_EQ(load()->default_model()->name(), "diabetes-rf-model");
  EXPECT_EQ(load("b")->default_model()->name(), "b");
}

TEST_F(repository_test, takes_exactly_one_model_file) {
  put("a/1/model.onnx", linear(1));
  put("a/1/model.skops", "?");
  EXPECT_EQ(refusal(), "/a/1: has both model.onnx and model.skops; keep the one that is to answer");
  fs::remove(root / "a/1/model.onnx");
  EXPECT_EQ(refusal(), "/a/1/model.skops: as a ZIP archive it has no directory");
  fs::remove(root / "a/1/model.skops");
  put("a/1/model.pkl", "\x80\x04.");
  EXPECT_EQ(
      refusal(),
      "/a/1/model.pkl: is a pickle, which can run any code and is never loaded; convert it where you trust "
      "it: python -c \"import pickle, skops.io; skops.io.dump(pickle.load(open('model.pkl','rb')), "
      "'model.skops')\"");
  put("a/1/model.skops", "\x80\x04pickled");
  EXPECT_EQ(refusal(),
            "/a/1/model.skops: is a pickle; write it with skops.io.dump(model, 'model.skops') instead");
  fs::remove(root / "a/1/model.skops");
  put("a/1/model.txt", "hello");
  EXPECT_EQ(refusal(),
            "/a/1/model.txt: does not begin with 'tree'; write it with Booster.save_model('model.txt')");
  fs::remove(root / "a/1/model.txt");
  put("a/1/model.json", "{}");
  EXPECT_EQ(refusal(), "/a/1/model.json: it has no learner; is it a model of XGBoost?");
}

TEST_F(repository_test, errors_name_the_file_and_the_remedy) {
  EXPECT_EQ(refusal(), ": has no models; put one into /NAME/1/model.onnx");
  put("a/notes.txt", "?");
  EXPECT_EQ(refusal(), "/a: has no version; put a model into /a/1/model.onnx, or take the folder away");
  put("a/latest/model.onnx", linear(1));
  EXPECT_EQ(refusal(),
            "/a/latest: is no version: name the folder by a number (3 or v3), or begin its name with a dot");
  fs::remove_all(root / "a/latest");
  fs::create_directories(root / "a/1");
  EXPECT_EQ(refusal(), "/a/1/model.onnx: is missing; export the model to it, or take the folder away");
  put("a/1/model.onnx", "not a model");
  EXPECT_NE(refusal().find("/a/1/model.onnx: not a readable ONNX file"), std::string::npos) << refusal();
  put("a/1/model.onnx", "");
  EXPECT_NE(refusal().find("/a/1/model.onnx: not a readable ONNX file: it has no graph"), std::string::npos)
      << refusal();
  put("a/1/model.onnx", linear(1));
  EXPECT_EQ(refusal("b"), ": the default model b is not there; models.default can be one of a");
  put("a/v1/model.onnx", linear(1));
  EXPECT_EQ(refusal(), "/a/v1: and 1 are one version; keep one of them");
  fs::remove_all(root / "a/v1");
  EXPECT_EQ(refusal("a"), "was taken");

  const std::vector<std::pair<std::string, std::string>> yamls = {
      {"production: 2", "/a/model.yaml: production is not one of the versions that are there: 1"},
      {"production: [1]", "/a/model.yaml: production is not one of the versions that are there: 1"},
      {"prod: 1", "/a/model.yaml: line 1: unknown key prod; it can hold production"},
      {"production: 1\nproduction: 1", "/a/model.yaml: line 2: production is given twice (first in line 1)"},
      {"- 1", "/a/model.yaml: is not a mapping; it can hold production"}};
  for (const auto& [text, wanted] : yamls) {
    put("a/model.yaml", text);
    EXPECT_EQ(refusal(), wanted) << text;
  }
  put("a/model.yaml", "production: [1\n");
  EXPECT_NE(refusal().find("/a/model.yaml: line "), std::string::npos) << refusal();
  fs::remove(root / "a/model.yaml");

  const std::vector<std::pair<std::string, std::string>> versions = {
      {"features: [x]", "/a/1/model.onnx: model.yaml names 1 features, the graph takes 2"},
      {"features: [x, x]", "/a/1/model.onnx: two features are called 'x'"},
      {"features: x", "/a/1/model.yaml: features is not a list of names"},
      {"features: []", "/a/1/model.yaml: features is not a list of names"},
      {"\nfeature: [x]",
       "/a/1/model.yaml: line 2: unknown key feature; it can hold features, classes, classes_file, input, "
       "shapes, outputs, softmax, "
       "top_k"},
      {"classes: [p, q]",
       "/a/1/model.onnx: 2 class names for 1 probabilities; list them as classes: in model.yaml"}};
  for (const auto& [text, wanted] : versions) {
    put("a/1/model.yaml", text);
    EXPECT_EQ(refusal(), wanted) << text;
  }
}

TEST_F(repository_test, a_directory_that_is_not_there) {
  fs::remove_all(root);
  EXPECT_EQ(refusal(), ": is no directory of models; set models.directory (--models DIR) to one");
}

TEST(shipped_models, load) {
  const auto table = repository({fs::path(TROUPE_SOURCE_DIRECTORY) / "models", "", true}).load();
  EXPECT_EQ(table->default_model()->name(), "diabetes-rf-model");
  EXPECT_EQ(table->default_model()->version(), "3");
  EXPECT_EQ(table->find("diabetes-rf-model", "v1").model->version(), "1");
  EXPECT_EQ(table->find("iris-classifier", "").model->output().width, 3U);
  EXPECT_EQ(table->find("diabetes-linear", "").model->engine().kind(), "linear");
}

}  // namespace
}  // namespace troupe::model

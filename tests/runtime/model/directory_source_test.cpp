// Watching the directory of models: what is new, what is gone, and that nothing half-written is picked up.
#include "runtime/model/directory_source.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "runtime/model/repository.hpp"
#include "runtime/model/warm_up.hpp"
#include "tests/runtime/model/onnx_writer.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;
using namespace test;

class directory_source_test : public testing::Test {
 protected:
  void SetUp() override {
    root = fs::temp_directory_path() / ("troupe-directory-" + std::to_string(getpid()) + "-" +
                                        testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(root);
    fs::create_directories(root);
  }
  void TearDown() override { fs::remove_all(root); }

  void put(const std::string& path, const std::string& text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path, std::ios::binary) << text;
  }

  static std::string names(const model_source_update& u) {
    std::string all;
    for (const auto& v : u.versions) all += v.name + "/" + v.version + " ";
    return all;
  }

  fs::path root;
};

TEST_F(directory_source_test, a_new_version_must_lie_still_for_one_look) {
  directory_source source(root);
  put("m/1/model.onnx", "one");
  EXPECT_EQ(names(source.look(true)), "m/1 ") << "at the start what is there counts";
  put("m/v2/model.onnx", "tw");
  EXPECT_EQ(names(source.look(false)), "m/1 ") << "seen for the first time";
  put("m/v2/model.onnx", "two");
  EXPECT_EQ(names(source.look(false)), "m/1 ") << "it grew";
  EXPECT_EQ(names(source.look(false)), "m/1 m/2 ");
  put("m/3/model.onnx", "three");
  EXPECT_EQ(names(source.look(true)), "m/1 m/3 m/2 ")
      << "in the order of the folders; asked to look: it counts at once";
}

TEST_F(directory_source_test, not_a_version_yet) {
  directory_source source(root);
  put("m/1/model.yaml", "{}");
  put("m/.2.tmp/model.onnx", "two");
  put("m/readme", "");
  put("m/other/model.onnx", "x");
  EXPECT_EQ(names(source.look(true)), "");
  ASSERT_EQ(source.problems().size(), 1U);
  EXPECT_NE(source.problems()[0].find("is no version"), std::string::npos);
  fs::rename(root / "m/.2.tmp", root / "m/2");
  (void)source.look(false);
  EXPECT_EQ(names(source.look(false)), "m/2 ");
}

TEST_F(directory_source_test, a_model_file_without_a_version_is_told) {
  directory_source source(root);
  put("m/1/model.onnx", "one");
  put("bad/model.onnx", "x");
  EXPECT_EQ(names(source.look(true)), "m/1 ");
  ASSERT_EQ(source.problems().size(), 1U);
  EXPECT_EQ(source.problems()[0], (root / "bad/model.onnx").string() + ": is in no version; move it to " +
                                      (root / "bad/1/model.onnx").string());
  fs::create_directories(root / "bad/1");
  fs::rename(root / "bad/model.onnx", root / "bad/1/model.onnx");
  (void)source.look(true);
  EXPECT_TRUE(source.problems().empty());
}

TEST_F(directory_source_test, a_changed_version_keeps_its_stamp_until_it_lies_still) {
  directory_source source(root);
  put("m/1/model.onnx", "one");
  const auto before = source.look(true).versions.at(0).stamp;
  put("m/1/model.onnx", "another");
  EXPECT_EQ(source.look(false).versions.at(0).stamp, before);
  EXPECT_NE(source.look(false).versions.at(0).stamp, before);
  fs::remove_all(root / "m/1");
  EXPECT_EQ(names(source.look(false)), "");
}

TEST_F(directory_source_test, production_and_a_directory_that_is_away) {
  directory_source source(root);
  put("m/1/model.onnx", "one");
  put("m/model.yaml", "production: v1\n");
  EXPECT_EQ(source.look(true).production.at("m"), "1");
  put("m/model.yaml", "production: [");
  EXPECT_EQ(source.look(false).production.at("m"), "1") << "what was said before stays";
  EXPECT_EQ(source.problems().size(), 1U);
  fs::rename(root, root.string() + "-away");
  EXPECT_EQ(names(source.look(false)), "m/1 ") << "a mount that is gone unloads nothing";
  fs::rename(root.string() + "-away", root);
}

TEST_F(directory_source_test, warm_up_takes_own_rows_then_recent_ones_then_zeros) {
  put("m/1/model.onnx", file{{node(ml, "LinearRegressor", {"X"}, {"Y"},
                                   {attribute("coefficients", std::vector<float>{2, 1}),
                                    attribute("targets", std::int64_t{1})})},
                             {table("X", of_float, 2)},
                             {table("Y", of_float, 1)},
                             {},
                             {}}
                            .text());
  const auto m = load_model(root / "m/1", "m", "1");
  recent_rows recent;
  EXPECT_STREQ(warm_up(*m, recent).from, "zeros");
  const double values[] = {1, 2};
  const double* row = values;
  recent.offer("m", {&row, 1}, 2);
  recent.offer("other", {&row, 1}, 2);
  EXPECT_STREQ(warm_up(*m, recent).from, "recent");
  put("m/1/probe.json", "[[1, 2], {\"f1\": 3, \"f0\": 1}]");
  EXPECT_STREQ(warm_up(*m, recent).from, "probe");
  EXPECT_EQ(warm_up(*m, recent).rows, 2U);
  for (const char* bad : {"[[1]]", "{}", "[[1, \"x\"]]", "[{\"none\": 1}]", "[[1e308, null]]", "nonsense"}) {
    put("m/1/probe.json", bad);
    EXPECT_THROW((void)warm_up(*m, recent), load_error) << bad;
  }
}

TEST_F(directory_source_test, a_table_knows_both_versions_of_a_rollout) {
  const auto make = [](const char* name, const char* version) {
    loaded_model::parts p;
    p.name = name;
    p.version = version;
    return std::make_shared<const loaded_model>(std::move(p));
  };
  model_table::options how;
  how.production = {{"m", "1"}};
  how.splits["m"] = {7, "v2", policy::route(policy::rollout_strategy::header, 0, "m"), "x-new=yes"};
  const model_table table({make("m", "1"), make("m", "2"), make("m", "3"), make("n", "1")}, how);
  const auto choice = table.find("m", "");
  ASSERT_NE(choice.split, nullptr);
  EXPECT_EQ(choice.model->version(), "1");
  EXPECT_EQ(choice.split->candidate->version(), "2");
  EXPECT_EQ(choice.split->header, "x-new");
  EXPECT_EQ(choice.split->header_value, "yes");
  EXPECT_EQ(table.find("m", "2").split, nullptr) << "a request that names its version is not divided";
  EXPECT_EQ(table.find("n", "").split, nullptr);
  EXPECT_EQ(table.split_of(*table.all()[0]), choice.split);
  EXPECT_EQ(table.split_of(*table.all()[1]), choice.split);
  EXPECT_EQ(table.split_of(*table.all()[2]), nullptr);
  how.splits["m"].version = "9";
  EXPECT_THROW(model_table({make("m", "1")}, how), load_error);
}

}  // namespace
}  // namespace troupe::model

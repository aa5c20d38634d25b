#include "runtime/batches/checkpoint.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <system_error>

namespace troupe::batches {
namespace {

namespace fs = std::filesystem;

class Checkpoint : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("batches-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void put(const std::string& text) { std::ofstream(folder_ / "c") << text; }

  fs::path folder_;
};

TEST_F(Checkpoint, ReadsBackWhatWasWritten) {
  checkpoint c;
  c.of = {UINT64_C(1) << 60, -5};
  c.model = "m/1 \"0\"";
  c.input = {UINT64_C(1) << 59, 7};
  c.output = UINT64_MAX;
  c.done = 6;
  c.errors = 2;
  EXPECT_EQ(read_checkpoint(folder_ / "c"), std::nullopt);
  write_checkpoint(folder_ / "c", c);
  EXPECT_EQ(read_checkpoint(folder_ / "c"), c);
  c.done = 7;
  write_checkpoint(folder_ / "c", c);
  EXPECT_EQ(read_checkpoint(folder_ / "c"), c);
  EXPECT_FALSE(fs::exists(folder_ / "c.new"));
}

TEST_F(Checkpoint, RefusesWhatIsNone) {
  const std::string good =
      R"({"version":1,"input_size":10,"input_modified_ns":0,"model":"m","input_offset":5,"input_lines":1,)"
      R"("output_offset":9,"done":1,"errors":0})";
  put(good);
  EXPECT_TRUE(read_checkpoint(folder_ / "c"));
  for (const auto& [from, to] : {std::pair{"\"version\":1", "\"version\":2"},
                                 {"\"input_offset\":5", "\"input_offset\":11"},
                                 {"\"input_offset\":5", "\"input_offset\":-1"},
                                 {"\"input_offset\":5", "\"input_offset\":\"5\""},
                                 {"\"errors\":0", "\"errors\":2"},
                                 {"\"done\":1,", ""},
                                 {"}", ""}}) {
    std::string bad = good;
    bad.replace(bad.find(from), std::string(from).size(), to);
    put(bad);
    EXPECT_THROW((void)read_checkpoint(folder_ / "c"), checkpoint_error) << bad;
  }
}

TEST_F(Checkpoint, FilesAreCutOnlyWhereTheyReach) {
  const fs::path path = folder_ / "out";
  const file_handle f = open_output(path);
  write_all(f, "0123456789", path);
  cut(f, 4, path);
  write_all(f, "x", path);
  EXPECT_EQ(read_file(path), "0123x");
  EXPECT_THROW(cut(f, 6, path), std::system_error);
  fs::create_symlink(path, folder_ / "link");
  EXPECT_THROW((void)open_output(folder_ / "link"), std::system_error);
}

}  // namespace
}  // namespace troupe::batches

#include "cli/parquet_source.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "cli/commands.hpp"

namespace troupe::cli {
namespace {

/// A reader that is a line of shell: $1 is the file, then --features --head --skip N.
parquet_source::options reader(const std::string& shell, std::uint64_t skip = 0) {
  return {{"sh", "-c", shell, "reader"}, "t.parquet", {"a", "b \"c\""}, skip};
}

class parquet_source_test : public testing::Test {
 protected:
  parquet_source_test() : path_(testing::TempDir() + "parquet_source_" + std::to_string(::getpid())) {
    const auto out = batches::open_output(path_);
    batches::write_all(out, "what the file holds", path_);
    file_ = batches::open_input(path_);
  }
  ~parquet_source_test() override { ::unlink(path_.c_str()); }

  static std::string rest(parquet_source& s) {
    std::string all;
    char part[7];
    while (const std::size_t n = s.read(part, sizeof part)) all.append(part, n);
    return all;
  }
  /// What the constructor, or reading to the end, throws: U usage_error, R another one.
  std::string fault(const std::string& shell) {
    try {
      parquet_source s(file_, reader(shell), stop_);
      (void)rest(s);
    } catch (const usage_error& e) {
      return std::string("U ") + e.what();
    } catch (const std::runtime_error& e) {
      return std::string("R ") + e.what();
    }
    return "";
  }

  std::string path_;
  batches::file_handle file_;
  std::atomic<bool> stop_{false};
};

TEST_F(parquet_source_test, gives_what_the_reader_writes_behind_its_head) {
  parquet_source s(file_, reader(R"(echo '{"rows": 12}'; cat "$1"; echo; cat; echo; shift; echo "$@")", 5),
                   stop_);
  EXPECT_EQ(s.rows(), 12u);
  EXPECT_EQ(rest(s), "what the file holds\n[\"a\",\"b \\\"c\\\"\"]\n--features --head --skip 5\n");
  char c = 0;
  EXPECT_EQ(s.read(&c, 1), 0u);
}

TEST_F(parquet_source_test, says_what_went_wrong) {
  const std::string head = R"(echo '{"rows": 1}'; echo a; )";
  struct {
    std::string shell, says;
  } const cases[] = {
      {"echo 'a warning' >&2; echo 'is no Parquet' >&2; exit 2", "U t.parquet: is no Parquet"},
      {head + "echo \"can't be read behind row 7\" >&2; exit 1", "R t.parquet: can't be read behind row 7"},
      {head + "exit 127", "U t.parquet: sh is not installed; reading Parquet needs it, and pyarrow"},
      {head + "exit 1", "R t.parquet: reader failed"},
      {head + "kill -9 $$", "R t.parquet: reader was ended by signal 9"},
      {"echo nonsense", "R reader does not say how many rows t.parquet has"},
      {R"(echo '{"rows": -1}')", "R reader does not say how many rows t.parquet has"},
      {"yes x | tr -d '\\n'", "R reader does not say how many rows t.parquet has"},
      {"exit 0", "R reader does not say how many rows t.parquet has"},
      {head, ""},
  };
  for (const auto& c : cases) EXPECT_EQ(fault(c.shell), c.says) << c.shell;
}

TEST_F(parquet_source_test, a_command_that_is_not_there) {
  auto o = reader("");
  o.command = {"no-such-python3", "parquet.py"};
  try {
    const parquet_source s(file_, o, stop_);
    FAIL();
  } catch (const usage_error& e) {
    EXPECT_STREQ(e.what(),
                 "t.parquet: no-such-python3 is not installed; reading Parquet needs it, and pyarrow");
  }
}

// Nor does its end leave a reader behind, which goes on writing here, deaf to Ctrl-C.
TEST_F(parquet_source_test, a_stop_ends_it) {
  std::string text;
  {
    parquet_source s(
        file_,
        reader(R"(echo '{"rows": 9}'; echo $$; kill -INT $$; kill -TERM $$; while :; do echo 1; done)"),
        stop_);
    char c = 0;
    while (s.read(&c, 1) == 1 && c != '\n') text += c;
    EXPECT_EQ(s.read(&c, 1), 1u);
    stop_ = true;
    EXPECT_EQ(s.read(&c, 1), 0u);
  }
  const pid_t child = std::atoi(text.c_str());
  ASSERT_GT(child, 1);
  EXPECT_EQ(::waitpid(child, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  EXPECT_EQ(::kill(child, 0), -1);
}

}  // namespace
}  // namespace troupe::cli

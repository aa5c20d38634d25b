// The client and the poller with what real servers answered, byte for byte. scripts/test-mlflow --record
// makes the files: a model diabetes-linear, version 1 in Production and with the alias champion, version 2 in
// none.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/registry/mlflow_client.hpp"
#include "runtime/registry/registry_poller.hpp"
#include "tests/runtime/registry/scripted_server.hpp"

namespace troupe::registry {
namespace {

namespace fs = std::filesystem;
using test::scripted_server;
using testing::HasSubstr;

std::string from_base64(const std::string& text) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  unsigned bits = 0;
  int have = 0;
  for (const char c : text) {
    const auto value = digits.find(c);
    if (value == std::string_view::npos) break;
    bits = (bits << 6 | static_cast<unsigned>(value)) & 0xffffff;
    have += 6;
    if (have >= 8) {
      have -= 8;
      out += static_cast<char>(bits >> have & 255);
    }
  }
  return out;
}

class Recorded : public testing::TestWithParam<const char*> {
 protected:
  Recorded() {
    std::ifstream in(std::string(TROUPE_TEST_DIRECTORY) + "/recorded/mlflow_" + GetParam() + ".json");
    const auto all = nlohmann::json::parse(in);
    without_login_ = from_base64(all.at("without_login"));
    for (const auto& [target, raw] : all.at("answers").items()) answers_[target] = from_base64(raw);
    std::string name = (fs::temp_directory_path() / "registry-test-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~Recorded() override { fs::remove_all(folder_); }

  client_options options() const {
    client_options o;
    o.uri = server_.uri();
    o.username = "u";
    o.password = "p";
    o.timeout = 60 * policy::second;
    o.pause = policy::millisecond;
    return o;
  }

  std::string version_of(const std::string& reference) {
    return mlflow_client(options()).resolve(*policy::parse_model_reference(reference)).version;
  }

  failure kind_of(const std::string& reference) {
    try {
      (void)version_of(reference);
    } catch (const registry_error& e) {
      return e.kind;
    }
    ADD_FAILURE() << reference << " was resolved";
    return failure::stopped;
  }

  std::string answer(const std::string& target, const std::string& head) const {
    if (head.find("Authorization: Basic dTpw") == std::string::npos) return without_login_;
    const auto it = answers_.find(target);
    if (it != answers_.end()) return it->second;
    ADD_FAILURE() << "not recorded: " << target;
    return scripted_server::answer(404, "{}");
  }

  std::map<std::string, std::string> answers_;
  std::string without_login_;
  fs::path folder_;
  scripted_server server_{
      [this](const std::string& target, const std::string& head) { return answer(target, head); }};
};

TEST_P(Recorded, References) {
  EXPECT_EQ(mlflow_client(options()).server_version().substr(0, 4), GetParam());
  EXPECT_EQ(version_of("models:/diabetes-linear/Production"), "1");
  EXPECT_EQ(version_of("models:/diabetes-linear@champion"), "1");
  EXPECT_EQ(version_of("models:/diabetes-linear/2"), "2");
  EXPECT_EQ(version_of("models:/diabetes-linear/latest"), "2");
  for (const char* missing :
       {"models:/diabetes-linear/Staging", "models:/diabetes-linear/99", "models:/diabetes-linear@ghost",
        "models:/nope@ghost", "models:/nope/Production", "models:/nope/latest"})
    EXPECT_EQ(kind_of(missing), failure::not_found) << missing;
  EXPECT_EQ(kind_of("models:/diabetes-linear/Prod"), failure::bad_answer);
}

TEST_P(Recorded, Versions) {
  const auto all = mlflow_client(options()).versions("diabetes-linear");
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].version, "2");
  EXPECT_EQ(all[1].stage, "Production");
  EXPECT_THAT(all[1].aliases, testing::ElementsAre("champion"));
  EXPECT_GT(all[1].created_ms, 0);
}

TEST_P(Recorded, WithoutALogin) {
  auto o = options();
  o.username.clear();
  try {
    (void)mlflow_client(o).versions("diabetes-linear");
    FAIL();
  } catch (const registry_error& e) {
    EXPECT_EQ(e.kind, failure::refused);
    EXPECT_THAT(e.what(), HasSubstr("asks for a login (401)"));
  }
}

TEST_P(Recorded, AMissingFileIsAskedForOnce) {
  mlflow_client client(options());
  EXPECT_THROW((void)client.read("diabetes-linear", "1", "nope.bin"), registry_error);
  EXPECT_EQ(server_.targets().size(), 2U);
}

TEST_P(Recorded, AVersionIsLaidOut) {
  poller_options o;
  o.client = options();
  o.references = {"models:/diabetes-linear/Production"};
  o.cache_directory = folder_.string();
  registry_poller poller(o);
  const auto report = poller.poll_once();
  EXPECT_TRUE(report.reached && report.changed);
  EXPECT_THAT(report.problems, testing::IsEmpty());
  ASSERT_EQ(poller.current().versions.size(), 1U);
  const fs::path at = poller.current().versions[0].path;
  EXPECT_GT(fs::file_size(at / "model.onnx"), 500U);
  const auto text = [&](const char* name) {
    std::ifstream in(at / name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  EXPECT_EQ(text("model.yaml"),
            "features: [\"age\",\"sex\",\"bmi\",\"bp\",\"s1\",\"s2\",\"s3\",\"s4\",\"s5\",\"s6\"]\n");
  EXPECT_THAT(text("input_example.json"), testing::StartsWith("[[59.0,2.0,32.1,101.0,157.0,93.2,"));
}

INSTANTIATE_TEST_SUITE_P(Lines, Recorded, testing::Values("2.22", "3.17"),
                         [](const auto& line) { return std::string(line.param).replace(1, 1, "_"); });

}  // namespace
}  // namespace troupe::registry

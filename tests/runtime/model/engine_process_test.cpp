// The engine in a process of its own: with a real ONNX Runtime that is stopped and killed from outside, and
// with scripted children (main.cpp) that do what a real one must not.
#include "runtime/model/engine_process.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <random>
#include <thread>

namespace troupe::model {
namespace {

namespace fs = std::filesystem;

std::string graph(const std::string& name) {
  std::ifstream in(fs::path(TROUPE_TEST_DIRECTORY) / "data/onnxruntime" / (name + ".onnx"), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

engine_process_options scripted(const std::string& how, policy::nanos limit = 120 * policy::second) {
  engine_process_options o;
  o.command = {"/proc/self/exe", "scripted-child", how};
  o.batch_limit = limit;
  o.load_limit = 120 * policy::second;
  o.restarts.first_delay = policy::millisecond;
  o.restarts.max_delay = 5 * policy::millisecond;
  return o;
}

engine_process_options real() {
  auto o = scripted("");
  o.command = {"/proc/self/exe", "engine-child"};
  return o;
}

const double row[] = {1, 2, -3};
const double* const one[] = {row};

std::string failure(const engine_process& e, bool died) {
  double out[3];
  try {
    e.score(one, out);
  } catch (const engine_died& d) {
    EXPECT_TRUE(died) << d.what();
    return d.what();
  } catch (const model_error& m) {
    EXPECT_FALSE(died) << m.what();
    return m.what();
  }
  return "";
}

std::string refusal(const engine_process_options& how) {
  try {
    const engine_process e("model", {}, how);
  } catch (const load_error& e) {
    return e.what();
  }
  return "";
}

TEST(EngineProcess, AChildThatDoesNotLoadIsALoadError) {
  EXPECT_NE(refusal(scripted("exit")).find("ended with status 9 while it loaded"), std::string::npos);
  EXPECT_EQ(refusal(scripted("refuse")), "this graph is not to my taste");
  for (const char* how : {"babble", "short"})
    EXPECT_EQ(refusal(scripted(how)), "the engine process sent nonsense") << how;
  for (const char* how : {"other json", "too wide"})
    EXPECT_NE(refusal(scripted(how)).find("in no sensible way"), std::string::npos) << how;
  auto silent = scripted("silent");
  silent.load_limit = 50 * policy::millisecond;
  EXPECT_NE(refusal(silent).find("was not ready within"), std::string::npos);
  auto nobody = scripted("");
  nobody.command = {"/nowhere/troupe"};
  EXPECT_NE(refusal(nobody).find("ended with status 127"), std::string::npos);
}

TEST(EngineProcess, AChildThatLiesOrCrashesIsReplaced) {
  for (const char* how : {"crash", "leave", "wrong id", "wrong rows", "wrong kind", "empty", "long"}) {
    const engine_process e("model", {}, scripted(how));
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(failure(e, true).empty()) << how;
    EXPECT_GE(e.crashes(), 2U) << how;
  }
}

TEST(EngineProcess, AChildThatHangsIsKilledAtTheLimit) {
  const engine_process e("model", {}, scripted("hang", 300 * policy::millisecond));
  EXPECT_NE(failure(e, true).find("within 300 ms (onnxruntime.timeout) and was killed"), std::string::npos);
}

TEST(EngineProcess, TheChildInheritsNothing) {
  setenv("TROUPE_REDIS_PASSWORD", "secret", 1);
  const engine_process e("model", {}, scripted("inherited"));
  unsetenv("TROUPE_REDIS_PASSWORD");
  EXPECT_EQ(failure(e, false), "descriptors 0 1 2 3 signal 9 no password");
}

TEST(EngineProcess, EndsTheChildWithItself) {
  pid_t pid = 0;
  {
    const engine_process e("model", {}, scripted(""));
    pid = e.pid();
    ASSERT_GT(pid, 0);
    ASSERT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

class RealEngineProcess : public testing::Test {
  void SetUp() override {
    if (!fs::exists(onnxruntime::library_path({}))) GTEST_SKIP() << "no ONNX Runtime: run scripts/deps";
  }
};

TEST_F(RealEngineProcess, ScoresInPartsWhatDoesNotFit) {
  auto o = real();
  o.buffer_bytes = 5 * 6 * sizeof(double);  // five rows
  const engine_process e(graph("elu"), {}, o);
  std::vector<double> values;
  std::vector<const double*> rows;
  for (int i = 0; i < 39; ++i) values.push_back(i);
  for (std::size_t r = 0; r < 13; ++r) rows.push_back(values.data() + 3 * r);
  std::vector<double> out(39);
  e.score(rows, out.data());
  EXPECT_EQ(out, values);
  e.score({}, nullptr);
}

TEST_F(RealEngineProcess, AFailingRowLeavesTheChildAlive) {
  const engine_process e(graph("picky"), {}, real());
  const pid_t pid = e.pid();
  const double bad[] = {9};
  const double good[] = {2};
  const double* rows[] = {bad};
  double out = 0;
  EXPECT_THROW(e.score(rows, &out), model_error);
  rows[0] = good;
  e.score(rows, &out);
  EXPECT_EQ(out, 4);
  EXPECT_EQ(e.pid(), pid);
  EXPECT_EQ(e.crashes(), 0U);
}

TEST_F(RealEngineProcess, LoadErrorsComeFromTheChild) {
  try {
    const engine_process e(graph("general"), {}, real());
    FAIL();
  } catch (const load_error& e) {
    EXPECT_NE(std::string(e.what()).find("leaves more open"), std::string::npos) << e.what();
  }
}

/// The core of the caller is pinned, so that it stays the same from one batch to the look at the child.
TEST_F(RealEngineProcess, TheChildRunsOnTheCoreOfItsCaller) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  for (const int threads : {1, 2}) {
    auto o = real();
    o.session.threads = threads;
    const engine_process e(graph("elu"), {}, o);
    double out[3];
    std::size_t cores = 0;
    for (std::size_t core = 0; core < CPU_SETSIZE && cores < 2; ++core) {
      if (!CPU_ISSET(core, &all)) continue;
      ++cores;
      std::thread([&] {
        cpu_set_t here;
        CPU_ZERO(&here);
        CPU_SET(core, &here);
        ASSERT_EQ(sched_setaffinity(0, sizeof here, &here), 0);
        e.score(one, out);
        cpu_set_t child;
        ASSERT_EQ(sched_getaffinity(e.pid(), sizeof child, &child), 0);
        EXPECT_TRUE(CPU_EQUAL(&child, threads == 1 ? &here : &all)) << threads << " threads, core " << core;
      }).join();
    }
  }
}

TEST_F(RealEngineProcess, OneThatIsOnlyComparedWithWaitsForTheOthers) {
  for (const bool background : {false, true}) {
    auto o = real();
    o.background = background;
    const engine_process e(graph("elu"), {}, o);
    const int own = getpriority(PRIO_PROCESS, 0);
    EXPECT_EQ(getpriority(PRIO_PROCESS, static_cast<id_t>(e.pid())), background ? 19 : own);
  }
}

/// A damaged file is refused, or is a model; whatever it does to the library, this process goes on.
TEST_F(RealEngineProcess, DamagedGraphsAreRefusedOrScore) {
  std::mt19937_64 random(3);
  int refused = 0;
  for (const char* name : {"elu", "tensors", "rounds"}) {
    const std::string whole = graph(name);
    for (int i = 0; i < 20; ++i) {
      std::string file = i % 4 == 0 ? whole.substr(0, random() % whole.size()) : whole;
      for (std::uint64_t k = 1 + random() % 3; k > 0 && i % 4 != 0; --k)
        file[random() % file.size()] = static_cast<char>(random());
      auto how = real();
      how.load_limit = 5 * policy::second;
      how.batch_limit = policy::second;
      try {
        const engine_process e(file, {}, how);
        const std::vector<double> zeros(e.spec().columns, 0.0);
        const double* const rows[] = {zeros.data()};
        std::vector<double> out(e.spec().width);
        e.score(rows, out.data());
      } catch (const load_error& e) {
        EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
        ++refused;
      } catch (const model_error&) {
      }
    }
  }
  EXPECT_GT(refused, 20);
}

TEST_F(RealEngineProcess, StoppedChildIsKilledAtTheLimitAndReplaced) {
  auto o = real();
  o.batch_limit = 500 * policy::millisecond;
  const engine_process e(graph("elu"), {}, o);
  kill(e.pid(), SIGSTOP);
  EXPECT_NE(failure(e, true).find("and was killed"), std::string::npos);
  // The next batch waits for the new child, up to the limit: on a slow machine more than one does.
  std::string last = "none";
  for (int i = 0; i < 100 && !last.empty(); ++i) {
    double out[3];
    try {
      e.score(one, out);
      last.clear();
      EXPECT_NEAR(out[2], std::expm1(-3), 1e-6);
    } catch (const model_error& m) {
      last = m.what();
    }
  }
  EXPECT_EQ(last, "");
}

TEST_F(RealEngineProcess, AChildThatHasScoredIsReplacedAtOnceHoweverOften) {
  auto o = real();
  o.restarts.factor = 1e9;
  o.restarts.max_delay = 3600 * policy::second;
  const engine_process e(graph("elu"), {}, o);
  for (std::uint64_t kills = 1; kills <= 15; ++kills) {
    ASSERT_EQ(failure(e, false), "") << "after " << kills - 1 << " kills";
    kill(e.pid(), SIGKILL);
    while (e.crashes() < kills) std::this_thread::yield();
  }
}

TEST_F(RealEngineProcess, KilledUnderLoadEveryBatchIsAnsweredOrKnownToHaveFailed) {
  const engine_process e(graph("slow"), {}, real());
  std::atomic<int> wrong = 0;
  std::atomic<int> scored = 0;
  std::atomic<int> died = 0;
  std::atomic<bool> stop = false;
  std::vector<std::thread> callers;
  for (int t = 0; t < 2; ++t)
    callers.emplace_back([&, t] {
      std::vector<double> values(3 * 512, t + 1);
      std::vector<const double*> rows;
      for (std::size_t r = 0; r < 512; ++r) rows.push_back(values.data() + 3 * r);
      std::vector<double> out(512);
      while (!stop) {
        try {
          e.score(rows, out.data());
          for (const double y : out) wrong += y != (t + 1) * 3 * 64;
          ++scored;
        } catch (const engine_died&) {
          ++died;
        }
      }
    });
  for (std::uint64_t kills = 1; kills <= 5; ++kills) {
    pid_t pid = 0;
    const int before = scored;
    while (scored < before + 3 || (pid = e.pid()) == 0) std::this_thread::yield();
    kill(pid, SIGKILL);
    while (e.crashes() < kills) std::this_thread::yield();
  }
  stop = true;
  for (auto& c : callers) c.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(died, 5);
  EXPECT_EQ(e.crashes(), 5U);
}

}  // namespace
}  // namespace troupe::model

// Batches over a road that is nothing but a thread: answered out of order, refused, dropped, killed halfway.
#include "runtime/batches/service.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "runtime/batches/checkpoint.hpp"
#include "runtime/batches/files.hpp"
#include "runtime/codec/request_head.hpp"
#include "runtime/model/model.hpp"

namespace troupe::batches {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::shared_ptr<const model::model_table> models() {
  model::loaded_model::parts p;
  p.name = std::string("sum");
  p.version = std::string("1");
  p.schema = model::schema({{"a", false}, {"b", true}}, true);
  p.output = {model::task::regression, 1, {}};
  return std::make_shared<const model::model_table>(
      std::vector<std::shared_ptr<const model::loaded_model>>{
          std::make_shared<const model::loaded_model>(std::move(p))},
      model::model_table::options{});
}

/// Answers each line with a + b, b missing counting as 0, on a thread of its own and in no order.
class road {
 public:
  ~road() { end(); }
  void hand_in(std::vector<std::unique_ptr<call>> calls) {
    const std::lock_guard lock(mutex_);
    std::move(calls.begin(), calls.end(), std::back_inserter(waiting_));
    changed_.notify_all();
  }
  void end() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }
  /// What becomes of the call number n, from 0; true: it is answered as usual.
  std::function<bool(std::size_t n, call&, const record&)> judge = [](std::size_t, call&, const record&) {
    return true;
  };

 private:
  void loop() {
    std::mt19937 random(3);
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return ends_ || !waiting_.empty(); });
      if (ends_) return;
      auto calls = std::exchange(waiting_, {});
      lock.unlock();
      const batch_ptr batch = batch_ptr::make();
      batch->models = table_;
      batch->arrived = 1;
      batch->arrived_ms = 1;
      batch->records.reserve(calls.size());
      for (const auto& c : calls) {
        record& r = batch->records.emplace_back();
        r.batch = &*batch;
        c->read(r, *batch);
      }
      std::vector<std::size_t> order(calls.size());
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
      std::shuffle(order.begin(), order.end(), random);
      for (const std::size_t i : order) {
        const record& r = batch->records[i];
        if (!judge(count_++, *calls[i], r)) continue;
        if (r.error != error_code::none) {
          calls[i]->fail(r, {r.error, r.error_message, 0});
          continue;
        }
        std::vector<double> sums;
        for (std::uint32_t k = 0; k < r.rows; ++k) {
          const double* const v = batch->row(r, k, 2);
          sums.push_back(v[0] + (v[1] == v[1] ? v[1] : 0));
        }
        calls[i]->reply(r, {sums.data(), 0, {}});
      }
      calls.clear();
      lock.lock();
    }
  }

  std::shared_ptr<const model::model_table> table_ = models();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<call>> waiting_;
  std::size_t count_ = 0;
  bool ends_ = false;
  std::thread thread_{[this] { loop(); }};
};

class Service : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::canonical(testing::TempDir()) /
              ("service-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "in");
  }
  void TearDown() override { fs::remove_all(folder_); }

  service_options options(road* over = nullptr) const {
    service_options o;
    o.directory = folder_ / "batches";
    o.input_directory = folder_ / "in";
    o.in_flight = 64;
    o.rules.max_line = 200;
    o.rules.max_line_option = "batches.max_line";
    o.hand_in = [over](std::vector<std::unique_ptr<call>> calls) {
      if (over) over->hand_in(std::move(calls));
    };
    return o;
  }
  static batch_status submitted(service& s, std::string_view body, line_format format = line_format::jsonl) {
    batch_request r;
    r.body = body;
    r.format = format;
    batch_status made;
    const auto wrong = s.submit(r, made);
    EXPECT_FALSE(wrong) << wrong->message;
    return made;
  }
  static batch_status ended(service& s, const std::string& id) {
    for (;;) {
      const auto now = s.find(id);
      if (!now) return {};
      if (now->state != batch_state::queued && now->state != batch_state::running) return *now;
      std::this_thread::yield();
    }
  }
  static std::vector<json> results(const service& s, const std::string& id) {
    std::string text;
    EXPECT_FALSE(s.results(id, 0, UINT64_MAX, text));
    std::vector<json> all;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
    return all;
  }
  static std::string numbers(int n) {
    std::string text;
    for (int i = 0; i < n; ++i)
      text += "{\"request_id\":\"r" + std::to_string(i) + "\",\"features\":[" + std::to_string(i) + ",1]}\n";
    return text;
  }
  static void expect_numbers(const std::vector<json>& lines, std::size_t n) {
    ASSERT_EQ(lines.size(), n);
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_EQ(lines[i].at("request_id"), "r" + std::to_string(i));
      ASSERT_EQ(lines[i].at("prediction"), i + 1);
    }
  }

  fs::path folder_;
};

TEST_F(Service, AnswersEveryLineInOrder) {
  road over;
  service s(options(&over));
  s.start();
  const auto made = submitted(s, numbers(3000));
  const auto end = ended(s, made.id);
  EXPECT_EQ(end.state, batch_state::succeeded);
  EXPECT_EQ(end.lines_done, 3000U);
  EXPECT_EQ(end.lines_total, 3000U);
  EXPECT_EQ(end.lines_errors, 0U);
  expect_numbers(results(s, made.id), 3000);
}

TEST_F(Service, SaysWhatIsWrongWithALine) {
  road over;
  service s(options(&over));
  s.start();
  const auto made =
      submitted(s, "{\"features\":[1,2]}\n\nnot json\n[]\n{\"features\":[1]}\n" + std::string(300, 'x') +
                       "\n{\"features\":[[1],[2,3]]}\n{\"features\":{\"a\":4},"
                       "\"priority\":1,\"model\":\"none\"}");
  EXPECT_EQ(ended(s, made.id).lines_errors, 6U);
  const auto lines = results(s, made.id);
  ASSERT_EQ(lines.size(), 7U);
  EXPECT_EQ(lines[0].at("prediction"), 3);
  EXPECT_EQ(lines[0].at("request_id"), "line-1");
  EXPECT_EQ(lines[0].at("timestamp"), made.created_ms);
  const char* const codes[] = {"",          "invalid_json",     "invalid_json",   "invalid_features",
                               "too_large", "invalid_features", "model_not_found"};
  const char* const ids[] = {"", "line-3", "line-4", "line-5", "line-6", "line-7", "line-8"};
  for (std::size_t i = 1; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].at("error").at("code"), codes[i]) << lines[i];
    EXPECT_EQ(lines[i].at("request_id"), ids[i]) << lines[i];
  }
  EXPECT_THAT(lines[4].at("error").at("message").get<std::string>(),
              testing::HasSubstr("300 bytes, more than the 200 of batches.max_line"));
}

TEST_F(Service, ABatchIsItsClientsAndEachLineIsJudged) {
  std::string id, nobodys;
  std::uint64_t asked = 0;
  {
    service s(options());
    batch_request r;
    const std::string body = numbers(30) + "\n" + numbers(10);
    r.body = body;
    r.client = "portal";
    r.admit = [&](std::uint64_t lines) -> std::optional<service_error> {
      asked = lines;
      return service_error{429, "no", 7};
    };
    batch_status made;
    const auto refused = s.submit(r, made);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 429);
    EXPECT_EQ(refused->retry_after, 7);
    EXPECT_EQ(asked, 40U);
    EXPECT_TRUE(s.list().empty());
    r.admit = [](std::uint64_t) { return std::nullopt; };
    ASSERT_FALSE(s.submit(r, made));
    id = made.id;
    EXPECT_EQ(made.lines_total, 40U);
    nobodys = submitted(s, numbers(3)).id;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "batches"), fs::directory_iterator()), 3)
      << "two batches and the lock: what was refused left nothing";
  road over;
  auto o = options(&over);
  std::mutex mutex;
  std::vector<std::string> events;
  o.tell = [&](std::string_view, batch_event what, std::string_view text) {
    const std::lock_guard lock(mutex);
    if (what == batch_event::started) events.emplace_back(text);
  };
  o.judge = [](std::string_view client, std::string_view model, record& r, record_batch& batch) {
    EXPECT_EQ(client, "portal");
    EXPECT_EQ(model, "");
    if (r.error == error_code::none && batch.values[r.values_begin] < 5) {
      codec::refuse(r, batch, error_code::model_not_found, "not yours");
      r.rows = 0;
      batch.values.resize(r.values_begin);
    }
  };
  service s(std::move(o));
  EXPECT_EQ(s.find(id)->client, "portal") << "over a restart";
  s.start();
  EXPECT_EQ(ended(s, nobodys).lines_errors, 0U) << "nobody's lines are not judged";
  EXPECT_EQ(ended(s, id).lines_errors, 10U);
  EXPECT_EQ(results(s, id)[4].at("error").at("message"), "not yours");
  EXPECT_EQ(results(s, id)[5].at("prediction"), 6);
  const std::lock_guard lock(mutex);
  EXPECT_EQ(events, (std::vector<std::string>{"begins", "begins"}));
}

TEST_F(Service, ReadsCsv) {
  road over;
  service s(options(&over));
  s.start();
  const auto made = submitted(s, "b,a\r\n1,2\r\n,5\r\nx,1\r\n1\r\n\"3\",4\r\n", line_format::csv);
  const auto end = ended(s, made.id);
  EXPECT_EQ(end.lines_total, 5U);
  const auto lines = results(s, made.id);
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_EQ(lines[0].at("prediction"), 3);
  EXPECT_EQ(lines[0].at("request_id"), "line-2");
  EXPECT_EQ(lines[1].at("prediction"), 5);
  EXPECT_EQ(lines[2].at("error").at("message"), "column 'b' must be a finite number");
  EXPECT_EQ(lines[3].at("error").at("message"), "1 field, the header has 2");
  EXPECT_EQ(lines[4].at("prediction"), 7);
}

TEST_F(Service, ReadsCsvThatBeginsWithARow) {
  const auto asked = [this](std::string_view body, bool names, std::string& first) {
    batch_request r;
    r.body = body;
    r.format = line_format::csv;
    r.csv_head = [&first, names](std::string_view line, bool& has_names) -> std::optional<service_error> {
      first = line;
      has_names = names;
      if (line == "wrong") return service_error{400, "no such column"};
      return std::nullopt;
    };
    return r;
  };
  std::string first;
  batch_status made;
  {
    service s(options());
    EXPECT_EQ(s.submit(asked("wrong\n1\n", true, first), made)->message, "no such column");
    EXPECT_TRUE(s.list().empty());
    ASSERT_FALSE(s.submit(asked("1,2\n3,\nx,1\n1\n", false, first), made));
    EXPECT_EQ(first, "1,2");
  }
  road over;
  service s(options(&over));
  s.start();
  EXPECT_EQ(ended(s, made.id).lines_total, 4U);
  const auto lines = results(s, made.id);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0].at("request_id"), "line-1");
  EXPECT_EQ(lines[0].at("prediction"), 3);
  EXPECT_EQ(lines[1].at("prediction"), 3);
  EXPECT_EQ(lines[2].at("error").at("message"), "column 'a' must be a finite number");
  EXPECT_EQ(lines[3].at("error").at("message"), "1 field, model sum version 1 has 2 features");
}

TEST_F(Service, GoesOnWhereItStopped) {
  std::string id;
  const std::string body = numbers(2000);
  {
    road over;
    // Some are never answered: the batch can't end before it is stopped.
    over.judge = [](std::size_t n, call&, const record&) { return n < 700; };
    service s(options(&over));
    s.start();
    id = submitted(s, body).id;
    while (s.find(id)->lines_done < 100) std::this_thread::yield();
    s.stop();
  }
  const auto mark = read_checkpoint(folder_ / "batches" / id / "checkpoint");
  ASSERT_TRUE(mark);
  EXPECT_GE(mark->done, 100U);
  EXPECT_LT(mark->done, 2000U);
  // A crash leaves half a line behind the mark.
  std::ofstream(folder_ / "batches" / id / "results.jsonl", std::ios::app) << "{\"request_id\":\"r7";
  road over;
  auto o = options(&over);
  std::vector<std::string> said;
  o.tell = [&](std::string_view, batch_event what, std::string_view text) {
    said.push_back((what == batch_event::started ? "started: " : "ended: ") + std::string(text));
  };
  service s(std::move(o));
  EXPECT_EQ(s.find(id)->lines_done, mark->done);
  s.start();
  EXPECT_EQ(ended(s, id).state, batch_state::succeeded);
  expect_numbers(results(s, id), 2000);
  s.stop();
  EXPECT_THAT(said, testing::ElementsAre(
                        "started: goes on after a restart, behind " + std::to_string(mark->done) + " lines",
                        "ended: succeeded: 2000 lines, 0 errors"));
}

TEST_F(Service, BeginsAnewWithoutAUsableCheckpoint) {
  std::string id;
  {
    service s(options());
    id = submitted(s, numbers(100)).id;
  }
  std::ofstream(folder_ / "batches" / id / "checkpoint") << "{";
  std::ofstream(folder_ / "batches" / id / "results.jsonl") << "left over\n";
  fs::create_directory(folder_ / "batches/batch-000000000000000000000000");  // cut short
  fs::create_directory(folder_ / "batches/others");
  road over;
  service s(options(&over));
  EXPECT_FALSE(fs::exists(folder_ / "batches/batch-000000000000000000000000"));
  EXPECT_TRUE(fs::exists(folder_ / "batches/others"));
  s.start();
  EXPECT_EQ(ended(s, id).state, batch_state::succeeded);
  expect_numbers(results(s, id), 100);
}

TEST_F(Service, TriesAgainWhatWasDroppedAndUnavailable) {
  road over;
  over.judge = [](std::size_t n, call& c, const record& r) {
    if (n == 3) c.fail(r, {error_code::unavailable, "not now", 0});
    return n != 3 && n != 4;  // 4 is dropped
  };
  service s(options(&over));
  s.start();
  const auto made = submitted(s, numbers(20));
  EXPECT_EQ(ended(s, made.id).lines_errors, 0U);
  expect_numbers(results(s, made.id), 20);
}

TEST_F(Service, CancelsThenRemoves) {
  service s(options());  // nobody answers
  s.start();
  const auto first = submitted(s, numbers(10));
  const auto second = submitted(s, numbers(10));
  batch_status was;
  bool removed = true;
  EXPECT_FALSE(s.remove(second.id, was, removed));  // may be running or not
  EXPECT_FALSE(removed);
  EXPECT_EQ(was.state, batch_state::cancelled);
  EXPECT_FALSE(s.remove(first.id, was, removed));
  EXPECT_EQ(was.state, batch_state::cancelled);
  EXPECT_FALSE(removed);
  EXPECT_EQ(s.list().size(), 2U);
  EXPECT_FALSE(s.remove(first.id, was, removed));
  EXPECT_TRUE(removed);
  EXPECT_FALSE(fs::exists(folder_ / "batches" / first.id));
  EXPECT_EQ(s.remove(first.id, was, removed)->status, 404);
  EXPECT_EQ(s.list().size(), 1U);
}

TEST_F(Service, KeepsItsLimits) {
  auto o = options();
  o.max_queued = 2;
  o.max_bytes = 100;
  service s(std::move(o));
  const auto status_of = [&](batch_request r) {
    batch_status made;
    const auto e = s.submit(r, made);
    return e ? e->status : 202;
  };
  const std::string large(101, '1');
  EXPECT_EQ(status_of({.model = "", .version = "", .body = large, .input = ""}), 413);
  EXPECT_EQ(status_of({.model = "", .version = "", .body = "", .input = ""}), 400);
  std::ofstream(folder_ / "in/good") << "{}\n";
  std::ofstream(folder_ / "in/large") << large;
  std::ofstream(folder_ / "secret") << "{}\n";
  fs::create_symlink(folder_ / "secret", folder_ / "in/link");
  fs::create_directory(folder_ / "in/sub");
  for (const std::string path : {"../secret", "link", "sub", "none", "sub/../../secret", "/etc/passwd"})
    EXPECT_EQ(status_of({.model = "", .version = "", .body = "", .input = path}), 400) << path;
  EXPECT_EQ(status_of({.model = "", .version = "", .body = "", .input = "large"}), 413);
  EXPECT_EQ(status_of({.model = "", .version = "", .body = "", .input = "sub/../good"}), 202);
  EXPECT_EQ(status_of({.model = "", .version = "", .body = "{}", .input = ""}), 202);
  EXPECT_EQ(status_of({.model = "", .version = "", .body = "{}", .input = ""}), 429);
  EXPECT_EQ(s.list().size(), 2U);
  // One directory, one node.
  EXPECT_THROW(service{options()}, std::runtime_error);
}

TEST_F(Service, RefusesAnInputThatChanged) {
  std::ofstream(folder_ / "in/a.jsonl") << numbers(5);
  road over;
  service s(options(&over));
  batch_request r;
  r.input = "a.jsonl";
  batch_status made;
  ASSERT_FALSE(s.submit(r, made));
  std::ofstream(folder_ / "in/a.jsonl", std::ios::app) << numbers(1);
  s.start();
  const auto end = ended(s, made.id);
  EXPECT_EQ(end.state, batch_state::failed);
  EXPECT_THAT(end.problem, testing::HasSubstr("changed"));
}

TEST_F(Service, ForgetsWhatIsOld) {
  std::string id;
  {
    road over;
    service s(options(&over));
    s.start();
    id = submitted(s, numbers(1)).id;
    ended(s, id);
    s.stop();
  }
  auto o = options();
  o.retention = -1'000'000'000;
  service s(std::move(o));
  s.start();
  while (s.find(id)) std::this_thread::yield();
  s.stop();
  EXPECT_FALSE(fs::exists(folder_ / "batches" / id));
}

}  // namespace
}  // namespace troupe::batches

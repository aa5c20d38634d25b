#include "cli/batch_run.hpp"

#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "cli/commands.hpp"
#include "cli/parquet_source.hpp"
#include "runtime/batches/checkpoint.hpp"
#include "runtime/batches/files.hpp"
#include "runtime/batches/line_codec.hpp"
#include "runtime/codec/explanation.hpp"
#include "runtime/codec/score.hpp"
#include "runtime/model/input_step.hpp"

namespace troupe::cli {
namespace {

using batches::line_position;
using clock = std::chrono::steady_clock;

constexpr std::size_t chunk_lines = 512;
constexpr std::size_t chunk_bytes = std::size_t{256} << 10;
constexpr auto checkpoint_every = std::chrono::seconds(1);
constexpr std::uint64_t checkpoint_bytes = std::uint64_t{16} << 20;  // of results, if they come sooner

/// Lines that are read, scored and written together.
struct chunk {
  struct line {
    std::size_t begin = 0;
    std::size_t size = 0;
    std::uint64_t number = 0;
    std::uint64_t whole = 0;  // bytes, also of one that is too long
  };
  std::string text;
  std::vector<line> lines;
  line_position end;

  std::string output;
  std::uint64_t errors = 0;
  std::string first_error;
  bool done = false;
};

/// What one thread scores with.
class scorer {
 public:
  scorer(const model::loaded_model& m, std::shared_ptr<const model::model_table> table,
         const batches::line_rules& rules)
      : model_(m), table_(std::move(table)), rules_(rules) {}

  void run(chunk& c) {
    const batch_ptr batch = batch_ptr::make();
    batch->models = table_;
    batch->arrived = clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
    batch->arrived_ms = std::chrono::system_clock::now().time_since_epoch() / std::chrono::milliseconds(1);
    batch->records.reserve(c.lines.size());  // everybody knows a record by its address
    for (const auto& l : c.lines) {
      record& r = batch->records.emplace_back();
      codec_.read(rules_, std::string_view(c.text).substr(l.begin, l.size), l.number, l.whole, r, *batch);
    }
    score(*batch);
    std::size_t at = 0;
    for (std::size_t i = 0; i < c.lines.size(); ++i) {
      const record& r = batch->records[i];
      error_code code = r.error;
      std::string why(r.error_message);
      if (code == error_code::none && !failed_.empty()) {
        code = failed_[i].first;
        why = failed_[i].second;
      }
      if (code == error_code::none &&
          !codec_.result(c.output, r, outputs_.data() + at * model_.output().width,
                         r.explain ? std::string_view(explanations_.write(r)) : std::string_view())) {
        code = error_code::model_failed;
        why = "the model gave no finite prediction for this request";
      }
      at += r.rows;
      if (code == error_code::none) continue;
      codec_.error(c.output, r, c.lines[i].number, code, why);
      if (c.errors++ == 0) c.first_error = "line " + std::to_string(c.lines[i].number) + ": " + why;
    }
  }

 private:
  void score(const record_batch& batch) {
    const std::size_t in = model_.schema().features.size();
    const std::size_t out = model_.output().width;
    rows_.clear();
    failed_.clear();
    for (const record& r : batch.records)
      for (std::uint32_t i = 0; i < r.rows; ++i) rows_.push_back(batch.row(r, i, in));
    outputs_.resize(rows_.size() * out);
    if (rows_.empty()) return;
    try {
      model_.engine().score(rows_, outputs_.data());
    } catch (const model::model_error&) {
      // One of them, or all: each alone.
      failed_.resize(batch.records.size());
      std::size_t at = 0;
      for (std::size_t i = 0; i < batch.records.size(); ++i) {
        const std::size_t n = batch.records[i].rows;
        if (n == 0) continue;
        try {
          model_.engine().score(std::span<const double* const>(rows_).subspan(at, n),
                                outputs_.data() + at * out);
        } catch (const model::row_error& e) {
          failed_[i] = {error_code::invalid_features, e.what()};
        } catch (const model::model_error& e) {
          failed_[i] = {error_code::model_failed, e.what()};
        }
        at += n;
      }
    }
  }

  const model::loaded_model& model_;
  std::shared_ptr<const model::model_table> table_;
  const batches::line_rules& rules_;
  batches::line_codec codec_;
  codec::explanation_writer explanations_;
  std::vector<const double*> rows_;
  std::vector<double> outputs_;
  std::vector<std::pair<error_code, std::string>> failed_;
};

/// The threads that score; chunks come back in the order in which they went in.
class crew {
 public:
  crew(const batch_run_options& o, const std::shared_ptr<const model::model_table>& table,
       const batches::line_rules& rules) {
    for (std::size_t i = 0; i < o.threads; ++i)
      threads_.emplace_back([this, &o, table, &rules] { work(*o.model, table, rules); });
  }
  ~crew() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    todo_changed_.notify_all();
    for (auto& t : threads_) t.join();
  }
  crew(const crew&) = delete;
  crew& operator=(const crew&) = delete;

  void give(std::unique_ptr<chunk> c) {
    {
      const std::lock_guard lock(mutex_);
      todo_.push_back(c.get());
      order_.push_back(std::move(c));
    }
    todo_changed_.notify_one();
  }
  [[nodiscard]] std::size_t size() const { return order_.size(); }
  /// Waits for the oldest.
  [[nodiscard]] std::unique_ptr<chunk> take() {
    std::unique_lock lock(mutex_);
    done_changed_.wait(lock, [this] { return order_.front()->done || failure_; });
    if (failure_) std::rethrow_exception(failure_);
    auto c = std::move(order_.front());
    order_.pop_front();
    return c;
  }

 private:
  void work(const model::loaded_model& m, std::shared_ptr<const model::model_table> table,
            const batches::line_rules& rules) {
    scorer own(m, std::move(table), rules);
    std::unique_lock lock(mutex_);
    for (;;) {
      todo_changed_.wait(lock, [this] { return ends_ || !todo_.empty(); });
      if (ends_) return;
      chunk* const c = todo_.front();
      todo_.pop_front();
      lock.unlock();
      std::exception_ptr failure;
      try {
        own.run(*c);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      if (failure) failure_ = failure;
      c->done = true;
      done_changed_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable todo_changed_;
  std::condition_variable done_changed_;
  std::deque<chunk*> todo_;
  std::deque<std::unique_ptr<chunk>> order_;  // taken from and added to by one thread alone
  std::exception_ptr failure_;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

bool regular(int fd) {
  struct stat s {};
  return ::fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
}

batches::file_handle duplicate(int fd) {
  batches::file_handle f(::dup(fd));
  if (!f) throw std::system_error(errno, std::generic_category(), "standard stream");
  return f;
}

std::string identity(const batch_run_options& o) {
  return o.model->name() + "/" + o.model->version() + " " + o.model->digest_hex() + " " +
         (o.parquet.empty() ? std::string(batches::to_string(o.format)) : "parquet");
}

}  // namespace

batch_run_report run_batch(const batch_run_options& o, const std::atomic<bool>& stop,
                           const std::function<void(const batch_run_report&)>& tell) {
  const std::string in_name = o.input == "-" ? "standard input" : o.input;
  const std::string out_name = o.output == "-" ? "standard output" : o.output;
  const batches::file_handle in =
      o.input == "-" ? duplicate(STDIN_FILENO) : batches::open_input(o.input, true);
  const bool in_file = o.input != "-" && regular(in.fd());
  const bool parquet = !o.parquet.empty();
  if (parquet && !in_file)
    throw usage_error(in_name + ": Parquet is read from a file only, which can be gone back in");
  std::optional<parquet_source> rows;
  const auto read_rows = [&](std::uint64_t skip) {
    parquet_source::options p;
    p.command = o.parquet;
    p.name = in_name;
    for (const auto& f : o.model->schema().features) p.features.push_back(f.name);
    p.skip = skip;
    rows.emplace(in, std::move(p), stop);
  };
  if (parquet) read_rows(0);
  const auto read = [&](char* to, std::size_t most) -> std::size_t {
    if (rows) return rows->read(to, most);
    while (!stop) {
      if (in_file) return batches::read_some(in, to, most, in_name);
      pollfd p{in.fd(), POLLIN, 0};
      if (::poll(&p, 1, 200) > 0) return batches::read_some(in, to, most, in_name);
    }
    return 0;
  };
  // What a CSV file begins with is looked at before anything is written.
  std::optional<batches::line_reader> reader;
  reader.emplace(read, o.format, o.max_line);
  batches::input_line line;
  bool empty = false;
  bool row_first = false;
  std::string first;
  if (o.format == batches::line_format::csv) {
    empty = !reader->next(line);
    if (line.size > o.max_line)
      throw usage_error(in_name + ": the first line has " + std::to_string(line.size) +
                        " bytes: is it the header of a CSV file?");
    first = line.text;
    auto head = codec::csv_head::names;
    if (!empty && !stop)
      if (auto fault = codec::look_at_csv(first, *o.model, head)) {
        if (parquet && fault.message.starts_with("CSV line 1: ")) fault.message.erase(0, 12);
        throw usage_error(in_name + ": " + fault.message);
      }
    row_first = head == codec::csv_head::row;
    if (parquet && row_first)
      throw usage_error(in_name + ": the columns have numbers for names; name them as the model's features");
  }
  const batches::input_line first_line = line;
  const batches::file_handle out =
      o.output == "-" ? duplicate(STDOUT_FILENO) : batches::open_output(o.output);
  const bool out_file = o.output != "-" && regular(out.fd());
  if (out_file && ::flock(out.fd(), LOCK_EX | LOCK_NB) != 0)
    throw usage_error(o.output + " is being written by another process");
  struct stat a {};
  struct stat b {};
  if (in_file && out_file && ::fstat(in.fd(), &a) == 0 && ::fstat(out.fd(), &b) == 0 &&
      a.st_ino == b.st_ino && a.st_dev == b.st_dev)
    throw usage_error(o.output + " is the input itself: name another file");

  // Where an earlier run came to.
  batch_run_report report;
  batches::checkpoint mark;
  const std::string mark_path = o.output + ".checkpoint";
  const bool keeps = in_file && out_file;
  if (in_file) mark.of = batches::stamp_of(in, o.input);
  mark.model = identity(o);
  report.bytes_all = parquet ? rows->rows() : mark.of.size;
  bool resumes = false;
  if (out_file && !o.restart) {
    std::optional<batches::checkpoint> found;
    try {
      found = batches::read_checkpoint(mark_path);
    } catch (const batches::checkpoint_error& e) {
      throw usage_error(std::string(e.what()) + "; --restart begins anew");
    }
    if (!found && batches::stamp_of(out, o.output).size > 0)
      throw usage_error(o.output +
                        " is there already and has no checkpoint to go on from: name another file, or "
                        "--restart to write it anew");
    if (found && !keeps)
      throw usage_error(mark_path + " is a file's, and " + in_name +
                        " cannot be gone back in; --restart begins anew");
    if (found && found->of != mark.of)
      throw usage_error(o.input + " has changed since " + mark_path + " was written; --restart begins anew");
    if (found && found->model != mark.model)
      throw usage_error(mark_path + " is of " + found->model + ", this would be " + mark.model +
                        "; --restart begins anew");
    if (found) {
      if (batches::stamp_of(out, o.output).size < found->output)
        throw usage_error(o.output + " is shorter than " + mark_path + " says; --restart begins anew");
      mark = *found;
      resumes = true;
    }
  }
  if (parquet && resumes && mark.input.lines > 0) {
    // By rows: where a row begins in the CSV may differ with another release of what writes it.
    read_rows(mark.input.lines);
    reader.emplace(read, o.format, o.max_line);
    if ((!reader->next(line) || line.text != first) && !stop)
      throw std::runtime_error(in_name + ": its columns are others than before");
  }
  if (keeps && !resumes) batches::write_checkpoint(mark_path, mark);
  if (out_file) batches::cut(out, mark.output, o.output);
  report.resumed = mark.done;

  batches::line_rules rules;
  rules.format = o.format;
  rules.model = o.model->name();
  rules.version = o.model->version();
  rules.timestamp_ms =
      in_file ? mark.of.modified_ns / 1'000'000
              : std::chrono::system_clock::now().time_since_epoch() / std::chrono::milliseconds(1);
  rules.max_line = o.max_line;
  rules.max_line_option = "batches.max_line";
  rules.max_rows = o.max_rows;
  rules.max_explained = o.max_explained;

  rules.csv_names = !row_first;
  rules.csv_header = first;
  if (!parquet && resumes && mark.input.offset > 0) {
    row_first = false;
    batches::seek(in, mark.input.offset, in_name);
    reader.emplace(read, o.format, o.max_line, mark.input);
  }

  model::model_table::options alone;
  alone.default_model = o.model->name();
  alone.fallback = false;
  const auto table = std::make_shared<const model::model_table>(
      std::vector<std::shared_ptr<const model::loaded_model>>{o.model}, alone);
  const auto began = clock::now();
  auto marked = began;
  std::uint64_t marked_at = mark.output;
  const auto save = [&] {
    if (!keeps) return;
    batches::sync(out, out_name);
    batches::write_checkpoint(mark_path, mark);
    marked = clock::now();
    marked_at = mark.output;
  };
  const auto account = [&] {
    report.done = mark.done;
    report.errors = mark.errors;
    report.bytes = parquet ? mark.input.lines : mark.input.offset;
    report.seconds = std::chrono::duration<double>(clock::now() - began).count();
  };
  bool ended = empty;
  std::exception_ptr broken;  // the input; what was read before is answered first
  std::uint64_t row = mark.input.lines;
  {
    crew threads(o, table, rules);
    while (!ended || threads.size() > 0) {
      while (!ended && !stop && threads.size() < 2 * o.threads + 2) {
        auto c = std::make_unique<chunk>();
        if (std::exchange(row_first, false)) {
          c->lines.push_back({0, first.size(), first_line.number, first_line.size});
          c->text = first;
          c->end = first_line.end;
        }
        while (c->lines.size() < chunk_lines && c->text.size() < chunk_bytes) {
          try {
            ended = !reader->next(line);
          } catch (const std::exception&) {
            broken = std::current_exception();
            ended = true;
          }
          if (ended) break;
          if (stop) break;  // it may be the beginning of a line: the source ends where the stop came
          if (parquet) {
            line.number = ++row;
            line.end = {0, row};
          }
          c->lines.push_back({c->text.size(), line.text.size(), line.number, line.size});
          c->text += line.text;
          c->end = line.end;
        }
        if (!c->lines.empty()) threads.give(std::move(c));
      }
      if (stop) ended = true;
      if (threads.size() == 0) break;
      const auto c = threads.take();
      batches::write_all(out, c->output, out_name);
      mark.input = c->end;
      mark.output += c->output.size();
      mark.done += c->lines.size();
      mark.errors += c->errors;
      if (report.first_error.empty()) report.first_error = c->first_error;
      if (clock::now() - marked >= checkpoint_every || mark.output - marked_at >= checkpoint_bytes) save();
      account();
      tell(report);
    }
  }
  if (broken) {
    save();
    std::rethrow_exception(broken);
  }
  report.finished = !stop;
  account();
  if (!report.finished) {
    save();
    if (keeps) report.checkpoint = mark_path;
    return report;
  }
  if (out_file) batches::sync(out, out_name);
  if (keeps && batches::stamp_of(in, o.input) != mark.of)
    throw std::runtime_error(o.input + " changed while it was read: --restart scores it anew");
  if (keeps) ::unlink(mark_path.c_str());
  return report;
}

}  // namespace troupe::cli

#include "runtime/batches/service.hpp"

#include <sys/file.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "runtime/batches/checkpoint.hpp"
#include "runtime/batches/files.hpp"
#include "runtime/batches/line_window.hpp"

namespace troupe::batches {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using clock = std::chrono::steady_clock;

constexpr nanos second = 1'000'000'000;
constexpr std::size_t hand_in_lines = 512;
constexpr std::size_t window_bytes = std::size_t{16} << 20;
constexpr auto checkpoint_every = std::chrono::seconds(1);
constexpr auto full_disk_pause = std::chrono::seconds(2);
constexpr std::uint32_t most_tries = 300;  // a second apart
constexpr std::string_view id_prefix = "batch-";
constexpr std::size_t id_digits = 24;
constexpr std::array<std::string_view, 5> state_names = {"queued", "running", "succeeded", "failed",
                                                         "cancelled"};

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now().time_since_epoch()).count();
}

/// Only such names are ever looked at or removed.
bool is_id(std::string_view id) {
  return id.size() == id_prefix.size() + id_digits && id.starts_with(id_prefix) &&
         id.find_first_not_of("0123456789abcdef", id_prefix.size()) == std::string_view::npos;
}

/// The time first, so that names sort by age.
std::string new_id(std::int64_t ms) {
  static thread_local std::random_device device;
  std::uint64_t bits[2] = {static_cast<std::uint64_t>(ms), (std::uint64_t{device()} << 32) | device()};
  std::string id(id_prefix);
  for (const std::uint64_t b : bits)
    for (int shift = 44; shift >= 0; shift -= 4) id += "0123456789abcdef"[(b >> shift) & 15];
  return id;
}

bool full_disk(const std::system_error& e) {
  return e.code() == std::errc::no_space_on_device || e.code().value() == EDQUOT;
}

bool inside(const fs::path& path, const fs::path& directory) {
  return std::mismatch(directory.begin(), directory.end(), path.begin(), path.end()).first == directory.end();
}

bool over(batch_state s) {
  return s != batch_state::queued && s != batch_state::running;
}

struct job {
  batch_status now;  // guarded by the service's mutex
  file_stamp of;     // of the input
  bool csv_names = true;
  fs::path folder;
  std::atomic<bool> cancel{false};
  std::shared_ptr<line_window> window;  // while it runs; guarded too
};

std::string text_of(const job& j, const batch_status& s) {
  json t = {{"version", 1},
            {"id", s.id},
            {"state", to_string(s.state)},
            {"client", s.client},
            {"model", s.model},
            {"model_version", s.version},
            {"format", to_string(s.format)},
            {"csv_names", j.csv_names},
            {"input", s.input},
            {"input_bytes", j.of.size},
            {"input_modified_ns", j.of.modified_ns},
            {"created_ms", s.created_ms},
            {"started_ms", s.started_ms},
            {"ended_ms", s.ended_ms},
            {"problem", s.problem}};
  if (s.lines_total) t["lines_total"] = *s.lines_total;
  return t.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::shared_ptr<job> job_of(const fs::path& folder, const std::string& text) {
  const json t = json::parse(text);
  auto j = std::make_shared<job>();
  batch_status& s = j->now;
  j->folder = folder;
  s.id = folder.filename();
  const std::string state = t.at("state");
  const auto* const found = std::find(state_names.begin(), state_names.end(), state);
  const auto format = format_of_name(t.at("format").get<std::string>());
  if (found == state_names.end() || !format) throw std::runtime_error("unknown state or format");
  s.state = static_cast<batch_state>(found - state_names.begin());
  s.client = t.value("client", "");
  s.model = t.at("model");
  s.version = t.at("model_version");
  s.format = *format;
  j->csv_names = t.value("csv_names", true);
  s.input = t.at("input");
  j->of.size = s.input_bytes = t.at("input_bytes");
  j->of.modified_ns = t.at("input_modified_ns");
  s.created_ms = t.at("created_ms");
  s.started_ms = t.at("started_ms");
  s.ended_ms = t.at("ended_ms");
  s.problem = t.at("problem");
  if (t.contains("lines_total")) s.lines_total = t.at("lines_total").get<std::uint64_t>();
  return j;
}

}  // namespace

std::string_view to_string(batch_state s) {
  return state_names[static_cast<std::size_t>(s)];
}

struct service::impl {
  explicit impl(service_options o) : options(std::move(o)) {}

  enum class end { finished, stopped, cancelled, failed };

  service_options options;
  file_handle lock_file;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::shared_ptr<job>, std::less<>> jobs;  // by id: the oldest first
  bool stop = false;
  std::thread runner;

  // --- what is there
  // --------------------------------------------------------------------------------------------------

  void open() {
    std::error_code ec;
    fs::create_directories(options.directory, ec);
    if (ec)
      throw std::runtime_error("batches.directory: " + options.directory.string() + ": " + ec.message());
    options.directory = fs::canonical(options.directory);
    if (!options.input_directory.empty()) {
      const fs::path real = fs::canonical(options.input_directory, ec);
      if (ec || !fs::is_directory(real))
        throw std::runtime_error("batches.input_directory: " + options.input_directory.string() +
                                 " is not a directory");
      options.input_directory = real;
    }
    try {
      lock_file = open_output(options.directory / "lock");
    } catch (const std::system_error& e) {
      throw std::runtime_error("batches.directory: " + std::string(e.what()));
    }
    if (::flock(lock_file.fd(), LOCK_EX | LOCK_NB) != 0)
      throw std::runtime_error("batches.directory: " + options.directory.string() +
                               " is in use by another process: give each node a directory of its own");
    std::vector<fs::path> folders;
    for (const auto& entry : fs::directory_iterator(options.directory))
      if (is_id(entry.path().filename().string()) && entry.is_directory()) folders.push_back(entry.path());
    for (const auto& folder : folders) read_job(folder);
  }

  void read_job(const fs::path& folder) {
    try {
      const auto text = read_file(folder / "batch.json");
      if (!text) {  // its submission or its removal was cut short
        fs::remove_all(folder);
        return;
      }
      auto j = job_of(folder, *text);
      try {
        if (const auto c = read_checkpoint(folder / "checkpoint")) note(*j, *c);
      } catch (const checkpoint_error&) {  // all of it again, once it runs
      }
      jobs[j->now.id] = std::move(j);
    } catch (const std::exception& e) {
      say(folder.filename().string(), batch_event::halted,
          "what is on disk of it can't be read (" + std::string(e.what()) + "); it is left alone");
    }
  }

  static void note(job& j, const checkpoint& c) {
    j.now.bytes_done = c.input.offset;
    j.now.lines_done = c.done;
    j.now.lines_errors = c.errors;
    j.now.result_bytes = c.output;
  }

  static void save(const job& j) { save(j, j.now); }
  static void save(const job& j, const batch_status& s) {
    replace_file(j.folder / "batch.json", text_of(j, s));
  }

  void say(const std::string& id, batch_event what, const std::string& text) const {
    if (options.tell) options.tell(id, what, text);
  }

  /// With the mutex.
  void tell_count() const {
    if (!options.count) return;
    std::size_t running = 0;
    std::size_t queued = 0;
    for (const auto& [id, j] : jobs) {
      running += j->now.state == batch_state::running;
      queued += j->now.state == batch_state::queued;
    }
    options.count(running, queued);
  }

  [[nodiscard]] std::shared_ptr<job> get(std::string_view id) const {
    const std::lock_guard lock(mutex);
    const auto it = jobs.find(id);
    return it == jobs.end() ? nullptr : it->second;
  }

  // --- inputs by path
  // -------------------------------------------------------------------------------------------------

  /// Opens it, and only then looks where it really is: nothing can be put in its place in between.
  [[nodiscard]] file_handle open_named(const std::string& name) const {
    const fs::path path = (options.input_directory / name).lexically_normal();
    const std::system_error none(std::make_error_code(std::errc::no_such_file_or_directory),
                                 "'" + name + "' is no file in batches.input_directory");
    if (!inside(path, options.input_directory)) throw none;
    file_handle f;
    try {
      f = open_input(path);
    } catch (const std::system_error&) {
      throw none;
    }
    std::error_code ec;
    const fs::path real = fs::read_symlink("/proc/self/fd/" + std::to_string(f.fd()), ec);
    if (ec || !inside(real, options.input_directory)) throw none;
    return f;
  }

  [[nodiscard]] file_handle open_of(const job& j) const {
    return j.now.input.empty() ? open_input(j.folder / "input") : open_named(j.now.input);
  }

  // --- the runner
  // -----------------------------------------------------------------------------------------------------

  void run() {
    std::unique_lock lock(mutex);
    while (!stop) {
      remove_old(lock);
      std::shared_ptr<job> next;
      for (const auto& [id, j] : jobs) {
        if (over(j->now.state)) continue;
        if (!next || (j->now.state == batch_state::running && next->now.state != batch_state::running))
          next = j;
      }
      if (!next || stop) {
        if (!stop) changed.wait_for(lock, std::chrono::seconds(5));
        continue;
      }
      next->now.state = batch_state::running;  // from here on nobody else ends it
      lock.unlock();
      run_one(*next);
      lock.lock();
      tell_count();
      changed.notify_all();
    }
  }

  void remove_old(std::unique_lock<std::mutex>& lock) {
    const std::int64_t before = now_ms() - options.retention / 1'000'000;
    std::vector<std::shared_ptr<job>> old;
    for (auto it = jobs.begin(); it != jobs.end();) {
      if (over(it->second->now.state) && it->second->now.ended_ms < before) {
        old.push_back(it->second);
        it = jobs.erase(it);
      } else {
        ++it;
      }
    }
    if (old.empty()) return;
    lock.unlock();
    for (const auto& j : old) erase(*j);
    lock.lock();
  }

  static void erase(const job& j) {
    std::error_code ec;
    fs::remove(j.folder / "batch.json", ec);  // first: without it the rest goes at the next start
    fs::remove_all(j.folder, ec);
  }

  void change(job& j, const std::function<void(batch_status&)>& how) {
    const std::lock_guard lock(mutex);
    how(j.now);
  }

  [[nodiscard]] bool stopping() const {
    const std::lock_guard lock(mutex);
    return stop;
  }

  /// That would be scored.
  [[nodiscard]] std::uint64_t lines_of(const line_reader::source& source, line_format format, bool csv_names,
                                       const std::function<bool()>& stops) const {
    std::uint64_t total = 0;
    input_line line;
    line_reader all(source, format, options.rules.max_line);
    while (all.next(line))
      if (++total % 65'536 == 0 && stops()) break;
    if (format == line_format::csv && csv_names && total > 0) --total;
    return total;
  }

  /// The input of what is submitted, which is not a job yet.
  void read_request(const batch_request& r, const std::function<void(const line_reader::source&)>& to) const {
    if (!r.input.empty()) {
      const file_handle in = open_named(r.input);
      return to([&](char* at, std::size_t most) { return read_some(in, at, most, r.input); });
    }
    std::string_view left = r.body;
    to([&](char* at, std::size_t most) {
      const std::size_t n = left.copy(at, most);
      left.remove_prefix(n);
      return n;
    });
  }

  [[nodiscard]] std::optional<service_error> look_at_head(const batch_request& r, bool& names) const {
    std::optional<service_error> wrong;
    read_request(r, [&](const line_reader::source& source) {
      line_reader reader(source, line_format::csv, options.rules.max_line);
      input_line first;
      if (!reader.next(first)) return;
      if (first.size > options.rules.max_line)
        wrong = service_error{400, "the first line has " + std::to_string(first.size) +
                                       " bytes: is it the header of a CSV file?"};
      else
        wrong = r.csv_head(first.text, names);
    });
    return wrong;
  }

  /// To its end, over full disks.
  void run_one(job& j) {
    std::string why;
    say(j.now.id, batch_event::started,
        j.now.started_ms == 0
            ? "begins"
            : "goes on after a restart, behind " + std::to_string(j.now.lines_done) + " lines");
    for (;;) {
      end how = end::failed;
      try {
        {
          const std::lock_guard lock(mutex);
          if (j.now.started_ms == 0) j.now.started_ms = now_ms();
          tell_count();
        }
        save(j);
        how = score(j, why);
        if (how == end::stopped) return;
        const batch_state last = how == end::finished    ? batch_state::succeeded
                                 : how == end::cancelled ? batch_state::cancelled
                                                         : batch_state::failed;
        finish(j, last, why);
        return;
      } catch (const std::system_error& e) {
        why = e.what();
        if (full_disk(e)) {
          why += ": the batch goes on once there is room";
          change(j, [&](batch_status& s) { s.problem = why; });
          say(j.now.id, batch_event::halted, why);
          std::unique_lock lock(mutex);
          changed.wait_for(lock, full_disk_pause, [&] { return stop || j.cancel; });
          if (stop) return;
          if (!j.cancel) continue;
        }
      } catch (const std::exception& e) {
        why = e.what();
      }
      try {
        finish(j, j.cancel ? batch_state::cancelled : batch_state::failed, why);
      } catch (const std::exception&) {  // a full disk; failed already
      }
      return;
    }
  }

  /// Its end is on disk before anyone sees it: from then on it may be removed. On a disk that is full it is
  /// only said.
  void finish(job& j, batch_state state, const std::string& why) {
    batch_status last = j.now;
    last.state = state;
    last.ended_ms = now_ms();
    last.problem = state == batch_state::failed ? why : "";
    try {
      save(j, last);
    } catch (const std::system_error& e) {
      if (full_disk(e) && state != batch_state::cancelled) throw;
    }
    std::string text = std::string(to_string(state)) + ": " + std::to_string(last.lines_done) + " lines, " +
                       std::to_string(last.lines_errors) + " errors";
    if (!last.problem.empty()) text += "; " + last.problem;
    say(last.id, state == batch_state::failed ? batch_event::halted : batch_event::ended, text);
    const std::lock_guard lock(mutex);
    j.now = std::move(last);
    changed.notify_all();
  }

  end score(job& j, std::string& why) {
    const file_handle in = open_of(j);
    const std::string name = j.now.input.empty() ? (j.folder / "input").string() : j.now.input;
    if (stamp_of(in, name) != j.of) {
      why = "the input has changed since the batch was submitted";
      return end::failed;
    }
    const fs::path out_path = j.folder / "results.jsonl";
    const fs::path mark_path = j.folder / "checkpoint";
    const file_handle out = open_output(out_path);
    checkpoint mark;
    mark.of = j.of;
    try {
      const auto found = read_checkpoint(mark_path);
      if (found && found->of == j.of && stamp_of(out, out_path).size >= found->output) mark = *found;
    } catch (const checkpoint_error&) {  // then all of it again
    }
    cut(out, mark.output, out_path);
    change(j, [&](batch_status&) { note(j, mark); });

    const auto source = [&](char* to, std::size_t most) { return read_some(in, to, most, name); };
    auto rules = std::make_shared<line_rules>(options.rules);
    rules->format = j.now.format;
    rules->csv_names = j.csv_names;
    rules->model = j.now.model;
    rules->version = j.now.version;
    rules->timestamp_ms = j.now.created_ms;
    if (options.judge && !j.now.client.empty())
      rules->judge = [this, client = j.now.client, model = j.now.model](record& r, record_batch& batch) {
        options.judge(client, model, r, batch);
      };
    input_line line;
    if (!j.now.lines_total) {
      const std::uint64_t total =
          lines_of(source, j.now.format, j.csv_names, [&] { return j.cancel || stopping(); });
      if (j.cancel) return end::cancelled;
      if (stopping()) return end::stopped;
      change(j, [&](batch_status& s) { s.lines_total = total; });
      save(j);
      seek(in, 0, name);
    }
    line_reader reader(source, j.now.format, rules->max_line);
    if (j.now.format == line_format::csv && j.csv_names && reader.next(line)) {
      if (line.size > rules->max_line) {
        why = "the first line has " + std::to_string(line.size) + " bytes: is it the header of a CSV file?";
        return end::failed;
      }
      rules->csv_header = line.text;
    }
    if (mark.input.offset > 0) {
      seek(in, mark.input.offset, name);
      reader = line_reader(source, j.now.format, rules->max_line, mark.input);
    }

    const auto window = std::make_shared<line_window>(rules, second, most_tries);
    {
      const std::lock_guard lock(mutex);
      j.window = window;
    }
    struct leave {
      impl& of;
      job& j;
      ~leave() {
        const std::lock_guard lock(of.mutex);
        j.window->abandon();
        j.window.reset();
      }
    } leaves{*this, j};
    return go(j, reader, *window, out, out_path, mark_path, mark);
  }

  end go(job& j, line_reader& reader, line_window& window, const file_handle& out, const fs::path& out_path,
         const fs::path& mark_path, checkpoint& mark) {
    auto marked = clock::now();
    bool ended = false;
    input_line line;
    const auto write_mark = [&] {
      sync(out, out_path);
      write_checkpoint(mark_path, mark);
      marked = clock::now();
      change(j, [&](batch_status&) { note(j, mark); });
    };
    for (;;) {
      answered_lines done = window.take();
      if (done.lines > 0) {
        write_all(out, done.text, out_path);
        mark.input = done.end;
        mark.output += done.text.size();
        mark.done += done.lines;
        mark.errors += done.errors;
        if (options.lines) options.lines(done.lines - done.errors, done.errors);
      }
      change(j, [&](batch_status& s) {
        s.bytes_done = mark.input.offset;
        s.lines_done = mark.done;
        s.lines_errors = mark.errors;
        s.problem = window.trouble();
      });
      const std::size_t waiting = window.lines();
      const bool all = ended && waiting == 0;
      const bool stops = stopping();
      if (all || stops || j.cancel || clock::now() - marked >= checkpoint_every) write_mark();
      if (all) return end::finished;
      if (j.cancel) return end::cancelled;
      if (stops) return end::stopped;

      auto calls = window.again(steady_now());
      std::size_t room = options.in_flight - std::min(options.in_flight, waiting);
      std::size_t bytes = window.bytes();
      while (!ended && room > 0 && bytes < window_bytes && calls.size() < hand_in_lines) {
        if (!reader.next(line)) {
          ended = true;
          break;
        }
        calls.push_back(window.add(line));
        bytes += line.text.size();
        --room;
      }
      const bool more = !ended && room > 0 && bytes < window_bytes;
      const bool idle = calls.empty();
      if (!idle) options.hand_in(std::move(calls));
      if (idle || !more) window.wait(20'000'000);
    }
  }
};

service::service(service_options options) : impl_(std::make_unique<impl>(std::move(options))) {
  impl_->open();
}

service::~service() {
  stop();
}

void service::start() {
  const std::lock_guard lock(impl_->mutex);
  impl_->tell_count();
  if (!impl_->runner.joinable()) impl_->runner = std::thread([this] { impl_->run(); });
}

void service::stop() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
    for (const auto& [id, j] : impl_->jobs)
      if (j->window) j->window->wake();
  }
  impl_->changed.notify_all();
  if (impl_->runner.joinable()) impl_->runner.join();
}

std::optional<service_error> service::submit(const batch_request& request, batch_status& made) {
  auto& s = *impl_;
  {
    const std::lock_guard lock(s.mutex);
    if (s.stop) return service_error{503, "the service is going down"};
    std::size_t open = 0;
    for (const auto& [id, j] : s.jobs) open += !over(j->now.state);
    if (open >= s.options.max_queued)
      return service_error{
          429, std::to_string(open) + " batches have not ended yet, as many as batches.max_queued allows"};
  }
  auto j = std::make_shared<job>();
  j->now.client = request.client;
  j->now.model = request.model;
  j->now.version = request.version;
  j->now.format = request.format;
  j->now.input = request.input;
  j->now.created_ms = now_ms();
  j->now.id = new_id(j->now.created_ms);
  j->folder = s.options.directory / j->now.id;
  const auto too_large = [&](std::uint64_t size) {
    return service_error{413, "the input has " + std::to_string(size) + " bytes, more than the " +
                                  std::to_string(s.options.max_bytes) + " of batches.max_bytes"};
  };
  try {
    if (!request.input.empty()) {
      if (s.options.input_directory.empty())
        return service_error{403, "inputs by path are off: set batches.input_directory, or send the input"};
      j->of = stamp_of(s.open_named(request.input), request.input);
    }
  } catch (const std::system_error& e) {
    return service_error{400, "'" + request.input + "' is no file in batches.input_directory"};
  }
  const std::uint64_t size = request.input.empty() ? request.body.size() : j->of.size;
  if (size > s.options.max_bytes) return too_large(size);
  if (size == 0) return service_error{400, "the input is empty"};
  try {
    if (request.format == line_format::csv && request.csv_head)
      if (auto wrong = s.look_at_head(request, j->csv_names)) return wrong;
    fs::create_directory(j->folder);
    if (request.input.empty()) {
      const fs::path path = j->folder / "input";
      const file_handle f = open_output(path);
      write_all(f, request.body, path);
      sync(f, path);
      j->of = stamp_of(f, path);
    }
    j->now.input_bytes = j->of.size;
    if (request.admit) {
      s.read_request(request, [&](const line_reader::source& source) {
        j->now.lines_total = s.lines_of(source, request.format, j->csv_names, [&] { return s.stopping(); });
      });
      if (auto refused = request.admit(*j->now.lines_total)) {
        impl::erase(*j);
        return refused;
      }
    }
    impl::save(*j);
    sync_directory(s.options.directory);
  } catch (const std::system_error& e) {
    impl::erase(*j);
    if (full_disk(e)) return service_error{507, "there is no room in batches.directory for this input"};
    return service_error{500, "the batch could not be kept: " + std::string(e.what())};
  }
  made = j->now;
  {
    const std::lock_guard lock(s.mutex);
    s.jobs[j->now.id] = j;
    s.tell_count();
  }
  s.changed.notify_all();
  return std::nullopt;
}

std::vector<batch_status> service::list() const {
  std::vector<batch_status> all;
  const std::lock_guard lock(impl_->mutex);
  for (auto it = impl_->jobs.rbegin(); it != impl_->jobs.rend(); ++it) all.push_back(it->second->now);
  return all;
}

std::optional<batch_status> service::find(std::string_view id) const {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->jobs.find(id);
  if (it == impl_->jobs.end()) return std::nullopt;
  return it->second->now;
}

std::optional<service_error> service::remove(std::string_view id, batch_status& was, bool& removed) {
  auto& s = *impl_;
  std::unique_lock lock(s.mutex);
  const auto it = s.jobs.find(id);
  if (it == s.jobs.end()) return service_error{404, "no such batch"};
  const auto j = it->second;
  removed = over(j->now.state);
  if (removed) {
    s.jobs.erase(it);
    was = j->now;
    lock.unlock();
    impl::erase(*j);
    return std::nullopt;
  }
  j->cancel = true;
  if (j->window) j->window->wake();
  s.changed.notify_all();
  if (j->now.state == batch_state::queued) {
    // The runner may be busy with another one for hours.
    j->now.state = batch_state::cancelled;
    j->now.ended_ms = now_ms();
    s.tell_count();
    was = j->now;
    try {
      impl::save(*j);  // with the mutex: nobody removes it meanwhile
    } catch (const std::system_error& e) {
      return service_error{500, "cancelled, but that could not be kept: " + std::string(e.what())};
    }
    return std::nullopt;
  }
  s.changed.wait_for(lock, std::chrono::seconds(5), [&] { return over(j->now.state) || s.stop; });
  was = j->now;
  return std::nullopt;
}

std::optional<service_error> service::results(std::string_view id, std::uint64_t from, std::uint64_t most,
                                              std::string& into) const {
  const auto j = impl_->get(id);
  if (!j) return service_error{404, "no such batch"};
  std::uint64_t there = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    there = j->now.result_bytes;
  }
  into.clear();
  if (from >= there) return std::nullopt;
  const std::uint64_t size = std::min(most, there - from);
  try {
    const fs::path path = j->folder / "results.jsonl";
    const file_handle f = open_input(path);
    seek(f, from, path);
    into.resize(size);
    std::size_t have = 0;
    while (have < size) {
      const std::size_t n = read_some(f, into.data() + have, size - have, path);
      if (n == 0) break;
      have += n;
    }
    into.resize(have);
  } catch (const std::system_error& e) {
    return service_error{500, "the results can't be read: " + std::string(e.what())};
  }
  return std::nullopt;
}

}  // namespace troupe::batches

#include "cli/parquet_source.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "cli/commands.hpp"
#include "cli/script.hpp"

namespace troupe::cli {
namespace {

constexpr int refused = 2;  // parquet.py
constexpr int not_found = 127;
constexpr std::size_t longest_head = 4096;
constexpr std::size_t pipe_bytes = std::size_t{1} << 20;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

batches::file_handle memory_file(const char* name) {
  batches::file_handle f(::memfd_create(name, MFD_CLOEXEC));
  if (!f) fail("a file in memory");
  return f;
}

/// The last line that is not empty, and not more of it than a line should have.
std::string last_line(const batches::file_handle& of) {
  batches::seek(of, 0, "the reader's errors");
  std::string line;
  std::string last;
  std::array<char, 4096> part;
  const auto end = [&] {
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
    line.clear();
  };
  while (const std::size_t n = batches::read_some(of, part.data(), part.size(), "the reader's errors"))
    for (const char c : std::string_view(part.data(), n)) {
      if (c == '\n')
        end();
      else if (line.size() < 1000)
        line += c;
    }
  end();
  return last;
}

}  // namespace

parquet_source::parquet_source(const batches::file_handle& file, options o, const std::atomic<bool>& stop)
    : options_(std::move(o)), stop_(stop) {
  try {
    start(file);
    std::string head;
    for (char c = 0; head.size() < longest_head && read(&c, 1) == 1 && c != '\n';) head += c;
    if (stop_) return;
    const auto j = nlohmann::json::parse(head, nullptr, false);
    if (!j.is_object() || !j.contains("rows") || !j["rows"].is_number_unsigned())
      throw std::runtime_error(options_.command.back() + " does not say how many rows " + options_.name +
                               " has");
    rows_ = j["rows"].get<std::uint64_t>();
  } catch (...) {
    stop_reader();
    throw;
  }
}

parquet_source::~parquet_source() {
  stop_reader();
}

void parquet_source::start(const batches::file_handle& file) {
  const auto names = memory_file("features");
  batches::write_all(names, nlohmann::json(options_.features).dump(), "features");
  batches::seek(names, 0, "features");
  errors_ = memory_file("errors");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("a pipe");
  pipe_ = batches::file_handle(ends[0]);
  const batches::file_handle out(ends[1]);
  (void)::fcntl(out.fd(), F_SETPIPE_SZ,
                static_cast<int>(pipe_bytes));  // more at a time, where that is allowed
  // The file by its descriptor: what is read is what the checkpoint is about, whatever has its name by now.
  constexpr int file_at = 3;
  auto words = options_.command;
  words.insert(words.end(), {"/proc/self/fd/" + std::to_string(file_at), "--features", "--head", "--skip",
                             std::to_string(options_.skip)});
  std::vector<char*> raw;
  for (auto& w : words) raw.push_back(w.data());
  raw.push_back(nullptr);
  child_ = ::fork();
  if (child_ < 0) throw std::runtime_error("a process for python3 can't be started");
  if (child_ > 0) return;
  // Ctrl-C goes to the whole group; this command ends its reader itself.
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGTERM, SIG_IGN);
  std::array<int, 4> from = {names.fd(), out.fd(), errors_.fd(), file.fd()};
  for (int& fd : from) fd = ::fcntl(fd, F_DUPFD_CLOEXEC, file_at + 1);
  for (int to = 0; to <= file_at; ++to)
    if (::dup2(from[static_cast<std::size_t>(to)], to) < 0) ::_exit(not_found);
  ::execvp(raw[0], raw.data());
  ::_exit(not_found);
}

std::size_t parquet_source::read_pipe(char* to, std::size_t most) {
  while (!stop_) {
    pollfd p{pipe_.fd(), POLLIN, 0};
    if (::poll(&p, 1, 200) > 0) return batches::read_some(pipe_, to, most, options_.name);
  }
  return 0;
}

std::size_t parquet_source::read(char* to, std::size_t most) {
  if (ended_) return 0;
  const std::size_t n = read_pipe(to, most);
  if (n == 0 && !stop_) {
    ended_ = true;
    reap();
  }
  return n;
}

/// The pipe has ended: whether that was the file's end.
void parquet_source::reap() {
  int status = 0;
  while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
  child_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  if (WIFEXITED(status) && WEXITSTATUS(status) == not_found)
    throw usage_error(options_.name + ": " + options_.command.front() +
                      " is not installed; reading Parquet needs it, and pyarrow");
  std::string why = last_line(errors_);
  if (WIFSIGNALED(status))
    why = options_.command.back() + " was ended by signal " + std::to_string(WTERMSIG(status));
  else if (why.empty())
    why = options_.command.back() + " failed";
  if (WIFEXITED(status) && WEXITSTATUS(status) == refused) throw usage_error(options_.name + ": " + why);
  throw std::runtime_error(options_.name + ": " + why);
}

void parquet_source::stop_reader() {
  if (child_ <= 0) return;
  ::kill(child_, SIGKILL);
  while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
  child_ = -1;
}

std::vector<std::string> parquet_command() {
  return {"python3", script_path("batch/parquet.py").string()};
}

}  // namespace troupe::cli

#include "runtime/model/engine_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "runtime/model/cells.hpp"
#include "runtime/model/engine_wire.hpp"

namespace troupe::model {
namespace {

using clock = std::chrono::steady_clock;

constexpr int child_socket = 3;
constexpr std::size_t most_rows = 4096;
// Of one batch's texts; pages that are never written cost nothing.
constexpr std::size_t text_room = std::size_t{32} << 20;

std::string errno_text() {
  return std::generic_category().message(errno);
}

class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_ = -1;
};

class mapping {
 public:
  mapping() = default;
  mapping(int fd, std::size_t bytes, int protection, int flags) : bytes_(bytes) {
    void* const at = mmap(nullptr, bytes, protection, flags, fd, 0);
    if (at == MAP_FAILED) throw load_error("memory cannot be mapped: " + errno_text());
    at_ = static_cast<std::byte*>(at);
  }
  mapping(mapping&& other) noexcept : at_(std::exchange(other.at_, nullptr)), bytes_(other.bytes_) {}
  mapping& operator=(mapping&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~mapping() {
    if (at_) munmap(at_, bytes_);
  }
  [[nodiscard]] double* doubles() const { return reinterpret_cast<double*>(at_); }
  [[nodiscard]] char* text() const { return reinterpret_cast<char*>(at_); }

 private:
  std::byte* at_ = nullptr;
  std::size_t bytes_ = 0;
};

descriptor memory_file(const char* name, std::size_t bytes) {
  descriptor fd(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd.get() < 0 || ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
    throw load_error("memory cannot be shared: " + errno_text());
  return fd;
}

void seal(const descriptor& fd, int more) {
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | more) != 0)
    throw load_error("memory cannot be sealed: " + errno_text());
}

/// False: the other end is gone, or does not read.
bool send_packet(int socket, std::span<const std::byte> head, std::string_view text, int fd, int flags) {
  iovec parts[2] = {{const_cast<std::byte*>(head.data()), head.size()},
                    {const_cast<char*>(text.data()), text.size()}};
  msghdr m{};
  m.msg_iov = parts;
  m.msg_iovlen = text.empty() ? 1 : 2;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  if (fd >= 0) {
    m.msg_control = room.data();
    m.msg_controllen = room.size();
    cmsghdr* const c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  ssize_t sent = 0;
  do sent = sendmsg(socket, &m, MSG_NOSIGNAL | flags);
  while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(head.size() + text.size());
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// The size of the packet; 0: the other end is gone; -1: errno says why. `fd` takes a descriptor that came.
ssize_t receive_packet(int socket, std::span<char> into, descriptor* fd, int flags) {
  iovec part{into.data(), into.size()};
  msghdr m{};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  if (fd) {
    m.msg_control = room.data();
    m.msg_controllen = room.size();
  }
  ssize_t got = 0;
  do got = recvmsg(socket, &m, MSG_CMSG_CLOEXEC | flags);
  while (got < 0 && errno == EINTR);
  if (got <= 0) return got;
  for (cmsghdr* c = fd ? CMSG_FIRSTHDR(&m) : nullptr; c; c = CMSG_NXTHDR(&m, c)) {
    int raw = -1;
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof raw)) {
      std::memcpy(&raw, CMSG_DATA(c), sizeof raw);
      *fd = descriptor(raw);
    }
  }
  return m.msg_flags & MSG_TRUNC ? static_cast<ssize_t>(into.size()) + 1 : got;
}

int milliseconds_until(clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, INT_MAX));
}

/// Environment that a library may need; nothing of the configuration, which holds passwords.
std::vector<std::string> child_environment() {
  std::vector<std::string> kept;
  for (char** e = environ; e && *e; ++e) {
    const std::string_view entry = *e;
    for (const std::string_view wanted :
         {"PATH=", "HOME=", "TMPDIR=", "TZ=", "LANG=", "LC_", "LD_LIBRARY_PATH=", "CUDA_", "NVIDIA_", "OMP_",
          "OPENVINO_", "ASAN_", "UBSAN_", "TSAN_"})
      if (entry.starts_with(wanted)) {
        kept.emplace_back(entry);
        break;
      }
  }
  return kept;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (auto& t : texts) list.push_back(t.data());
  list.push_back(nullptr);
  return list;
}

std::string end_of(int status) {
  if (WIFSIGNALED(status)) return "was ended by signal " + std::to_string(WTERMSIG(status));
  if (WIFEXITED(status)) return "ended with status " + std::to_string(WEXITSTATUS(status));
  return "ended";
}

struct child {
  pid_t pid = 0;
  descriptor process;  // pidfd
  descriptor socket;
  mapping rows;
  std::size_t capacity = 0;
  char* texts = nullptr;  ///< behind the answers; null: no cell is a text

  child() = default;
  child(const child&) = delete;
  child& operator=(const child&) = delete;
  ~child() {
    kill();
    reap();
  }
  void kill() const {
    if (process.get() >= 0) syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
  }
  /// Its exit, waited for.
  std::string reap() {
    const std::lock_guard lock(life);
    if (pid == 0) return ending;
    int status = 0;
    pid_t got = 0;
    do got = waitpid(pid, &status, 0);
    while (got < 0 && errno == EINTR);
    ending = end_of(status);
    pid = 0;
    return ending;
  }
  /// Where that fails (a narrower cpuset, say), the scheduler's choice holds. One caller at a time.
  void run_on(int which) {
    if (which == core) return;
    core = which;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(static_cast<std::size_t>(which), &only);
    const std::lock_guard lock(life);  // once reaped, its number may be another's
    if (pid != 0) (void)sched_setaffinity(pid, sizeof only, &only);
  }
  std::string ending;
  std::atomic<bool> scored = false;  ///< a whole batch
  int core = -1;                     ///< where it was put; -1: anywhere
  std::mutex life;                   ///< of `pid`, once batches are scored
};

}  // namespace

class engine_process::body {
 public:
  body(std::string_view file, onnxruntime::table_hints hints, engine_process_options how)
      : how_(std::move(how)),
        hints_(std::move(hints)),
        stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        model_(memory_file("troupe-model", file.size())),
        model_bytes_(file.size()) {
    if (stop_.get() < 0) throw load_error("the engine process cannot be watched: " + errno_text());
    for (std::size_t at = 0; at < file.size();) {
      const ssize_t n = pwrite(model_.get(), file.data() + at, file.size() - at, static_cast<off_t>(at));
      if (n <= 0) throw load_error("the model cannot be copied for the engine process: " + errno_text());
      at += static_cast<std::size_t>(n);
    }
    seal(model_, F_SEAL_WRITE);
    // The thread that starts children lives as long as they may: a child is killed when its starter ends.
    keeper_ = std::thread([this] { keep(); });
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return started_; });
    if (!ready_ && !refused_.empty()) {
      lock.unlock();
      keeper_.join();
      throw load_error(refused_);
    }
  }

  ~body() {
    if (!keeper_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    eventfd_write(stop_.get(), 1);
    keeper_.join();
  }

  void score(std::span<const double* const> rows, double* out) {
    const auto deadline = clock::now() + std::chrono::nanoseconds(how_.batch_limit);
    const std::unique_lock turn(turn_, deadline);
    if (!turn) throw engine_away("the engine process was busy with other batches" + limit_text());
    std::shared_ptr<child> c;
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait_until(lock, deadline, [this] { return ready_ || stopping_; }) || !ready_)
        throw engine_away("no engine process is ready" + limit_text() +
                          (why_.empty() ? "" : " (" + why_ + ")"));
      c = ready_;
    }
    for (std::size_t at = 0; at < rows.size();) {
      const std::size_t n = rows_that_fit(*c, rows.subspan(at));
      round_trip(c, rows.subspan(at, n), out + at * spec_.width, deadline);
      at += n;
    }
    c->scored.store(true, std::memory_order_relaxed);
  }

  [[nodiscard]] const onnxruntime::table_spec& spec() const { return spec_; }

  [[nodiscard]] pid_t pid() {
    const std::lock_guard lock(mutex_);
    return ready_ ? ready_->pid : 0;
  }
  [[nodiscard]] std::uint64_t crashes() {
    const std::lock_guard lock(mutex_);
    return crashes_;
  }

 private:
  [[nodiscard]] std::string limit_text() const {
    return " within " + std::to_string(how_.batch_limit / policy::millisecond) + " ms (onnxruntime.timeout)";
  }

  /// Nobody else is given a batch by this child.
  [[noreturn]] void lose(const std::shared_ptr<child>& c, const std::string& what) {
    {
      const std::lock_guard lock(mutex_);
      if (ready_ == c) ready_.reset();
      why_ = what;
    }
    c->kill();
    throw engine_died(what);
  }

  [[nodiscard]] std::size_t rows_that_fit(const child& c, std::span<const double* const> rows) const {
    const std::size_t most = std::min(c.capacity, rows.size());
    if (!c.texts) return most;
    std::size_t bytes = 0;
    for (std::size_t r = 0; r < most; ++r) {
      each_text([&](std::size_t cell) { bytes += text_in(rows[r][cell]).size(); });
      if (bytes <= text_room) continue;
      if (r == 0)
        throw row_error("the request's texts have more than " + std::to_string(text_room) + " bytes");
      return r;
    }
    return most;
  }

  template <class Use>
  void each_text(Use use) const {
    for (const auto& i : spec_.inputs)
      if (i.holds != tensor_input::kind::number)
        for (std::size_t k = 0; k < i.size; ++k) use(i.begin + k);
  }

  /// Rows into the shared buffer, their texts behind.
  void put(const child& c, std::span<const double* const> rows) const {
    double* to = c.rows.doubles();
    std::size_t used = 0;
    for (const double* row : rows) {
      std::copy_n(row, spec_.columns, to);
      if (c.texts) {
        each_text([&](std::size_t cell) {
          const std::string_view text = text_in(row[cell]);
          text.copy(c.texts + used, text.size());
          // An empty text is no zero cell: that stands for no input at all.
          to[cell] =
              std::bit_cast<double>((std::uint64_t{used} << 32) | text.size() | std::uint64_t{1} << 63);
          used += text.size();
        });
      }
      to += spec_.columns;
    }
  }

  /// The child runs where its caller does, who sleeps meanwhile. The scheduler would rather wake it on
  /// another core: one that is idle is slow to wake, one that is busy makes it wait.
  void follow(child& c) const {
    const int here = sched_getcpu();
    if (how_.session.threads == 1 && here >= 0 && here < CPU_SETSIZE) c.run_on(here);
  }

  void round_trip(const std::shared_ptr<child>& c, std::span<const double* const> rows, double* out,
                  clock::time_point deadline) {
    put(*c, rows);
    follow(*c);
    const wire::request ask{++last_id_, static_cast<std::uint32_t>(rows.size()), 0};
    if (!send_packet(c->socket.get(), bytes_of(ask), {}, -1, MSG_DONTWAIT))
      lose(c, "the engine process was gone when a batch came");
    std::array<char, sizeof(wire::reply) + 1024> packet;
    const ssize_t got = receive(c->socket.get(), packet, deadline, false);
    if (got == -2) lose(c, "the engine process gave no answer" + limit_text() + " and was killed");
    if (got <= 0) lose(c, "the engine process ended while it scored a batch");
    wire::reply said;
    const auto size = static_cast<std::size_t>(got);
    if (size >= sizeof said) std::memcpy(&said, packet.data(), sizeof said);
    if (size < sizeof said || size > packet.size() || said.id != ask.id || said.rows != ask.rows ||
        said.said > wire::result::bad_row || (said.said == wire::result::scored && size != sizeof said))
      lose(c, "the engine process answered what it was not asked, and was killed");
    const std::string why(packet.data() + sizeof said, size - sizeof said);
    if (said.said == wire::result::bad_row) throw row_error(why);
    if (said.said == wire::result::refused) throw model_error(why);
    std::copy_n(c->rows.doubles() + c->capacity * spec_.columns, rows.size() * spec_.width, out);
  }

  /// Like receive_packet; -2: not until the deadline, -3: this engine is being ended.
  ssize_t receive(int socket, std::span<char> into, clock::time_point deadline, bool may_stop) const {
    for (;;) {
      pollfd wait[2] = {{socket, POLLIN, 0}, {stop_.get(), POLLIN, 0}};
      const int n = poll(wait, may_stop ? 2 : 1, milliseconds_until(deadline));
      if (n < 0 && errno != EINTR) return -1;
      if (n > 0 && may_stop && wait[1].revents) return -3;
      if (n > 0 && wait[0].revents) {
        const ssize_t got = receive_packet(socket, into, nullptr, MSG_DONTWAIT);
        if (got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return got;
      }
      if (clock::now() >= deadline) return -2;
    }
  }

  // --- on the keeper's thread

  void keep() {
    auto anew = [this, seed = static_cast<std::uint64_t>(getpid())]() mutable {
      return policy::restart_policy(how_.restarts, seed++);
    };
    auto restarts = anew();
    for (bool first = true;; first = false) {
      std::shared_ptr<child> c = std::make_shared<child>();
      std::string failed;
      try {
        start(*c, first);
      } catch (const load_error& e) {
        failed = e.what();
      } catch (const std::exception& e) {
        failed = "the engine process could not be started: " + std::string(e.what());
      }
      if (failed.empty()) {
        {
          const std::lock_guard lock(mutex_);
          started_ = true;
          ready_ = c;
        }
        changed_.notify_all();
        if (!first) tell("the engine process is ready again");
        watch(*c);
        {
          const std::lock_guard lock(mutex_);
          ready_.reset();
        }
        c->kill();
        failed = "the engine process " + c->reap();
      } else if (first) {
        c.reset();
        {
          const std::lock_guard lock(mutex_);
          started_ = true;
          refused_ = failed;
        }
        changed_.notify_all();
        return;
      }
      // What works until a certain record comes need not be waited for; the delays are for what ends anyway.
      if (c->scored.load(std::memory_order_relaxed)) restarts = anew();
      c.reset();
      std::unique_lock lock(mutex_);
      if (stopping_) return;
      ++crashes_;
      why_ = failed;
      const auto now = std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now().time_since_epoch());
      auto decided = restarts.on_crash(now.count());
      // Beyond the budget it goes on at the slowest pace: one model's crashes must not end the others'
      // service.
      if (decided.escalate) decided.after = how_.restarts.max_delay;
      lock.unlock();
      tell(failed + "; it is started again in " + std::to_string(decided.after / policy::millisecond) +
           " ms");
      lock.lock();
      if (changed_.wait_for(lock, std::chrono::nanoseconds(decided.after), [this] { return stopping_; }))
        return;
    }
  }

  void tell(const std::string& what) const {
    if (how_.tell) how_.tell(what);
  }

  /// Returns when the child has ended or this engine is being ended.
  void watch(const child& c) const {
    for (;;) {
      pollfd wait[2] = {{c.process.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
      const int n = poll(wait, 2, -1);
      if (n > 0 || (n < 0 && errno != EINTR)) return;
    }
  }

  void spawn(child& c) const {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
      throw load_error("the engine process cannot be reached: " + errno_text());
    c.socket = descriptor(pair[0]);
    const descriptor theirs(pair[1]);
    std::vector<std::string> words = how_.command;
    const std::string program = words.empty() ? "/proc/self/exe" : words[0];
    if (words.empty()) words = {"troupe", "engine"};
    auto environment = child_environment();
    const auto argv = pointers(words);
    const auto envp = pointers(environment);
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) throw load_error("the engine process cannot be started: " + errno_text());
    if (pid == 0) {  // only what is safe between fork and exec in a process with threads
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(127);
      if (how_.background) (void)setpriority(PRIO_PROCESS, 0, 19);
      sigset_t none;
      sigemptyset(&none);
      sigprocmask(SIG_SETMASK, &none, nullptr);
      const int null = open("/dev/null", O_RDONLY);
      if (null >= 0) dup2(null, 0);
      dup2(2, 1);
      if (theirs.get() == child_socket)
        fcntl(child_socket, F_SETFD, 0);
      else
        dup2(theirs.get(), child_socket);
      close_range(child_socket + 1, ~0U, 0);
      execve(program.c_str(), argv.data(), envp.data());
      _exit(127);
    }
    c.pid = pid;
    c.process = descriptor(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (c.process.get() < 0) {
      const std::string why = errno_text();
      ::kill(pid, SIGKILL);
      throw load_error("the engine process cannot be watched: " + why);
    }
  }

  /// What the child says until part::last or part::ready.
  std::string hear(child& c, wire::part wanted, clock::time_point deadline) const {
    std::string text;
    std::vector<char> packet(wire::most_packet);
    for (;;) {
      const ssize_t got = receive(c.socket.get(), packet, deadline, true);
      if (got == -3) throw load_error("it is being ended");
      if (got == -2)
        throw load_error("the engine process was not ready within " +
                         std::to_string(how_.load_limit / policy::second) + " s");
      if (got <= 0) {
        c.kill();
        throw load_error("the engine process " + c.reap() + " while it loaded the model");
      }
      const auto size = static_cast<std::size_t>(got);
      wire::part kind{};
      if (size < sizeof kind || size > packet.size()) throw load_error("the engine process sent nonsense");
      std::memcpy(&kind, packet.data(), sizeof kind);
      text.append(packet.data() + sizeof kind, size - sizeof kind);
      if (kind == wire::part::failed) throw load_error(text);
      if (kind == wanted) return text;
      if (kind != wire::part::more || text.size() > wire::most_description)
        throw load_error("the engine process sent nonsense");
    }
  }

  void start(child& c, bool first) {
    const auto deadline = clock::now() + std::chrono::nanoseconds(how_.load_limit);
    spawn(c);
    const wire::job head{wire::magic, 0, model_bytes_};
    send_packet(c.socket.get(), bytes_of(head), wire::text_of({how_.session, hints_}), model_.get(),
                MSG_DONTWAIT);
    auto spec = wire::spec_from(hear(c, wire::part::last, deadline));
    if (first)
      spec_ = std::move(spec);
    else if (spec != spec_)
      throw load_error("the engine process describes its model differently than before");
    const std::size_t row_bytes = (spec_.columns + spec_.width) * sizeof(double);
    c.capacity = std::clamp<std::size_t>(how_.buffer_bytes / row_bytes, 1, most_rows);
    bool texts = false;
    each_text([&](std::size_t) { texts = true; });
    const std::size_t text_bytes = texts ? text_room : 0;
    const wire::buffer size{wire::magic, static_cast<std::uint32_t>(c.capacity),
                            c.capacity * row_bytes + text_bytes, text_bytes};
    const descriptor shared = memory_file("troupe-rows", size.bytes);
    seal(shared, 0);
    c.rows = mapping(shared.get(), size.bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
    if (texts) c.texts = c.rows.text() + c.capacity * row_bytes;
    send_packet(c.socket.get(), bytes_of(size), {}, shared.get(), MSG_DONTWAIT);
    hear(c, wire::part::ready, deadline);
  }

  const engine_process_options how_;
  const onnxruntime::table_hints hints_;
  const descriptor stop_;
  const descriptor model_;
  const std::size_t model_bytes_;
  onnxruntime::table_spec spec_;  // written before started_, then read-only

  std::timed_mutex turn_;  // one batch at a time
  std::uint64_t last_id_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<child> ready_;
  bool started_ = false;
  bool stopping_ = false;
  std::string refused_;
  std::string why_;
  std::uint64_t crashes_ = 0;
  std::thread keeper_;
};

engine_process::engine_process(std::string_view file, onnxruntime::table_hints hints,
                               engine_process_options how)
    : body_(std::make_unique<body>(file, std::move(hints), std::move(how))) {}

engine_process::~engine_process() = default;

const onnxruntime::table_spec& engine_process::spec() const {
  return body_->spec();
}

void engine_process::score(std::span<const double* const> rows, double* out) const {
  body_->score(rows, out);
}

pid_t engine_process::pid() const {
  return body_->pid();
}

std::uint64_t engine_process::crashes() const {
  return body_->crashes();
}

// -- the child
// -------------------------------------------------------------------------------------------------------

namespace {

bool say(int socket, wire::part kind, std::string_view text) {
  return send_packet(socket, bytes_of(kind), text, -1, 0);
}

bool describe(int socket, std::string_view text) {
  constexpr std::size_t piece = wire::most_packet - 64;
  while (text.size() > piece) {
    if (!say(socket, wire::part::more, text.substr(0, piece))) return false;
    text.remove_prefix(piece);
  }
  return say(socket, wire::part::last, text);
}

std::unique_ptr<const onnxruntime::table> load(std::string_view packet, const descriptor& model) {
  wire::job head;
  if (packet.size() < sizeof head) throw load_error("the job is too short");
  std::memcpy(&head, packet.data(), sizeof head);
  struct stat s {};
  if (head.magic != wire::magic || fstat(model.get(), &s) != 0 ||
      static_cast<std::uint64_t>(s.st_size) != head.model_bytes || head.model_bytes == 0)
    throw load_error("the job does not fit the model that came with it");
  wire::work what = wire::work_from(packet.substr(sizeof head));
  const mapping file(model.get(), head.model_bytes, PROT_READ, MAP_PRIVATE);
  return std::make_unique<const onnxruntime::table>(std::string_view(file.text(), head.model_bytes),
                                                    what.session, std::move(what.hints));
}

/// The texts of a batch, which cells of rows point to. The rows are the parent's own, and trusted.
class incoming_texts {
 public:
  incoming_texts(const onnxruntime::table_spec& spec, std::string_view room) : room_(room) {
    for (const auto& i : spec.inputs)
      if (i.holds != tensor_input::kind::number)
        for (std::size_t k = 0; k < i.size; ++k) cells_.push_back(i.begin + k);
  }
  void point(std::span<const double* const> rows, double* first, std::size_t columns) {
    if (cells_.empty()) return;
    views_.resize(rows.size() * cells_.size());
    std::size_t n = 0;
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (const std::size_t c : cells_) {
        double& cell = first[r * columns + c];
        const auto bits = std::bit_cast<std::uint64_t>(cell) & ~(std::uint64_t{1} << 63);
        const std::uint64_t at = std::min<std::uint64_t>(bits >> 32, room_.size());
        views_[n] = room_.substr(at, bits & 0xffffffff);
        cell = text_cell(&views_[n++]);
      }
  }

 private:
  std::string_view room_;
  std::vector<std::size_t> cells_;
  std::vector<std::string_view> views_;
};

}  // namespace

int serve_engine(int socket) {
  int type = 0;
  socklen_t length = sizeof type;
  if (getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_SEQPACKET) return 2;
  std::vector<char> packet(wire::most_packet);
  try {
    std::unique_ptr<const onnxruntime::table> table;
    {
      descriptor model;
      const ssize_t got = receive_packet(socket, packet, &model, 0);
      if (got <= 0 || static_cast<std::size_t>(got) > packet.size()) return 1;
      table = load(std::string_view(packet.data(), static_cast<std::size_t>(got)), model);
    }
    const auto& spec = table->spec();
    if (!describe(socket, wire::text_of(spec))) return 0;

    wire::buffer size;
    descriptor shared;
    const ssize_t got = receive_packet(socket, packet, &shared, 0);
    if (got <= 0) return 0;
    if (static_cast<std::size_t>(got) != sizeof size) return 1;
    std::memcpy(&size, packet.data(), sizeof size);
    struct stat s {};
    if (size.magic != wire::magic || size.capacity == 0 || fstat(shared.get(), &s) != 0 ||
        static_cast<std::uint64_t>(s.st_size) != size.bytes || size.text_bytes > size.bytes ||
        size.bytes - size.text_bytes != size.capacity * (spec.columns + spec.width) * sizeof(double))
      throw load_error("the buffer does not fit the model");
    const mapping rows(shared.get(), size.bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
    double* const answers = rows.doubles() + size.capacity * spec.columns;
    incoming_texts texts(spec, {rows.text() + size.bytes - size.text_bytes, size.text_bytes});
    std::vector<const double*> pointers(size.capacity);
    for (std::size_t r = 0; r < size.capacity; ++r) pointers[r] = rows.doubles() + r * spec.columns;
    // The first runs of a graph are slow: they are had before anyone waits.
    for (const std::size_t n : {std::size_t{1}, std::min<std::size_t>(size.capacity, 16)})
      table->score(std::span(pointers).first(n), answers);
    if (!say(socket, wire::part::ready, {})) return 0;

    for (;;) {
      wire::request ask;
      const ssize_t n = receive_packet(socket, packet, nullptr, 0);
      if (n <= 0) return 0;  // the parent has closed: that is the end
      if (static_cast<std::size_t>(n) != sizeof ask) return 1;
      std::memcpy(&ask, packet.data(), sizeof ask);
      if (ask.rows == 0 || ask.rows > size.capacity) return 1;
      wire::reply answer{ask.id, ask.rows, wire::result::scored};
      std::string why;
      try {
        const auto asked = std::span(pointers).first(ask.rows);
        texts.point(asked, rows.doubles(), spec.columns);
        table->score(asked, answers);
      } catch (const model_error& e) {
        const bool row = dynamic_cast<const row_error*>(&e) != nullptr;
        answer.said = row ? wire::result::bad_row : wire::result::refused;
        why = std::string(e.what()).substr(0, 1000);
      }
      if (!send_packet(socket, bytes_of(answer), why, -1, 0)) return 0;
    }
  } catch (const std::exception& e) {
    say(socket, wire::part::failed, std::string_view(e.what()).substr(0, 8000));
    return 1;
  }
}

}  // namespace troupe::model

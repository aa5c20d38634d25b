#include "runtime/observe/otlp_exporter.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "runtime/observe/log.hpp"

namespace troupe::observe {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t most_answer = std::size_t{64} << 10;
constexpr std::string_view traces_path = "/v1/traces";
constexpr int told_every = 30;  // seconds

struct transfer {
  std::string body;
  const std::atomic<steady_clock::time_point::rep>* until = nullptr;
};

std::size_t on_data(char* data, std::size_t one, std::size_t count, void* self) {
  auto& t = *static_cast<transfer*>(self);
  const std::size_t size = one * count;
  t.body.append(data, std::min(size, most_answer - std::min(most_answer, t.body.size())));
  return size;
}

int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return steady_clock::now().time_since_epoch().count() > static_cast<transfer*>(self)->until->load() ? 1 : 0;
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

bool worth_another(long status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

/// One connection to the receiver. Of one thread.
class sender {
 public:
  explicit sender(const otlp_options& options) {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
    fields_ = curl_slist_append(nullptr, "Content-Type: application/json");
    fields_ = curl_slist_append(fields_, "Expect:");
    for (const auto& [name, value] : options.headers)
      fields_ = curl_slist_append(fields_, (name + ": " + value).c_str());
    handle_ = curl_easy_init();
    if (handle_ != nullptr) set_up(options);
  }
  ~sender() {
    curl_easy_cleanup(handle_);
    curl_slist_free_all(fields_);
  }
  sender(const sender&) = delete;
  sender& operator=(const sender&) = delete;

  /// An attempt that is under way ends then. Any thread.
  std::atomic<steady_clock::time_point::rep> until{
      steady_clock::time_point::max().time_since_epoch().count()};

  /// How an attempt ended.
  struct attempt {
    bool done = false;
    bool again = false;
    milliseconds wanted{0};  ///< by Retry-After
    CURLcode code = CURLE_OK;
    long status = 0;  ///< where there is an answer
    std::string why;
  };

  attempt try_once(const std::string& body) {
    attempt a;
    if (handle_ == nullptr) {
      a.why = "libcurl has no memory";
      return a;
    }
    answer_.body.clear();
    curl_easy_setopt(handle_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(handle_, CURLOPT_POSTFIELDS, body.data());
    details_[0] = '\0';
    a.code = curl_easy_perform(handle_);
    if (a.code != CURLE_OK) {
      a.again = true;
      a.why = details_[0] != '\0' ? details_.data() : curl_easy_strerror(a.code);
      long system = 0;
      if (a.code == CURLE_COULDNT_CONNECT &&
          curl_easy_getinfo(handle_, CURLINFO_OS_ERRNO, &system) == CURLE_OK && system != 0)
        a.why += " (" + std::generic_category().message(static_cast<int>(system)) + ")";
      return a;
    }
    curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &a.status);
    a.done = a.status >= 200 && a.status < 300;
    a.again = worth_another(a.status);
    curl_off_t seconds = 0;
    if (a.again && curl_easy_getinfo(handle_, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK && seconds > 0)
      a.wanted = milliseconds(std::min<std::int64_t>(seconds, 86'400) * 1'000);
    if (!a.done) a.why = "it answered with status " + std::to_string(a.status);
    return a;
  }

  /// To the last attempt.
  [[nodiscard]] const std::string& answer() const { return answer_.body; }

 private:
  void set_up(const otlp_options& options) {
    const long ms = static_cast<long>(options.timeout.count());
    curl_easy_setopt(handle_, CURLOPT_URL, options.url.c_str());
    curl_easy_setopt(handle_, CURLOPT_HTTPHEADER, fields_);
    curl_easy_setopt(handle_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle_, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle_, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(handle_, CURLOPT_CONNECTTIMEOUT_MS, ms);
    curl_easy_setopt(handle_, CURLOPT_TIMEOUT_MS, ms);
    curl_easy_setopt(handle_, CURLOPT_ERRORBUFFER, details_.data());
    curl_easy_setopt(handle_, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(handle_, CURLOPT_WRITEDATA, &answer_);
    curl_easy_setopt(handle_, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(handle_, CURLOPT_XFERINFODATA, &answer_);
    curl_easy_setopt(handle_, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(handle_, CURLOPT_USERAGENT, "troupe");
    if (!options.tls_ca.empty()) curl_easy_setopt(handle_, CURLOPT_CAINFO, options.tls_ca.c_str());
    answer_.until = &until;
  }

  curl_slist* fields_ = nullptr;
  CURL* handle_ = nullptr;
  transfer answer_;
  std::array<char, CURL_ERROR_SIZE> details_{};
};

}  // namespace

struct otlp_exporter::impl {
  explicit impl(otlp_options o) : options(std::move(o)), to(options) {
    thread = std::thread([this] { run(); });
  }
  ~impl() { stop(); }

  otlp_options options;
  sender to;
  std::mt19937 jitter{std::random_device{}()};

  std::mutex mutex;  // guards the next two
  std::vector<span> waiting;
  bool ends = false;
  std::condition_variable wake;
  std::thread thread;

  void count(const char* result, std::size_t n) const {
    if (options.metrics && n != 0) options.metrics->trace_spans(result, n);
  }

  void put(span&& one) {
    {
      const std::lock_guard lock(mutex);
      if (!ends && waiting.size() < options.queue) {
        waiting.push_back(std::move(one));
        if (waiting.size() == options.batch) wake.notify_one();
        return;
      }
    }
    count("dropped", 1);
  }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      if (!ends) to.until = (steady_clock::now() + options.last_words).time_since_epoch().count();
      ends = true;
      wake.notify_one();
    }
    if (thread.joinable()) thread.join();
  }

  [[nodiscard]] bool over() const { return steady_clock::now().time_since_epoch().count() > to.until.load(); }

  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      wake.wait_for(lock, options.interval, [this] { return ends || waiting.size() >= options.batch; });
      std::vector<span> all = std::exchange(waiting, {});
      const bool last = ends;
      lock.unlock();
      for (std::size_t at = 0; at < all.size(); at += options.batch)
        send(std::span<const span>(all).subspan(at, std::min(options.batch, all.size() - at)));
      if (last) return;
      all.clear();
      lock.lock();
    }
  }

  /// Between half of the pause and all of it, so that nodes that failed together do not come back together.
  [[nodiscard]] milliseconds pause_after(int failures, milliseconds wanted) {
    milliseconds pause = options.first_pause;
    for (int i = 1; i < failures && pause < options.longest_pause; ++i) pause *= 2;
    pause = std::min(pause, options.longest_pause);
    const auto half = pause.count() / 2;
    pause = milliseconds(half + std::uniform_int_distribution<std::int64_t>(0, pause.count() - half)(jitter));
    return std::min(std::max(pause, wanted), options.longest_pause);
  }

  void send(std::span<const span> spans) {
    const std::string body = otlp_request(options.sender, spans);
    for (int n = 1;; ++n) {
      if (over()) return count("dropped", spans.size());
      const auto a = to.try_once(body);
      if (a.done) {
        const auto refused = otlp_response(to.answer());
        const std::size_t lost = std::min(refused.spans, spans.size());
        count("exported", spans.size() - lost);
        count("failed", lost);
        if (lost != 0) tell(std::to_string(lost) + " spans were not taken: " + refused.why);
        return;
      }
      if (!a.again || n >= options.attempts) {
        count("failed", spans.size());
        return tell(a.why);
      }
      tell(a.why);
      std::unique_lock lock(mutex);
      const auto pause = pause_after(n, a.wanted);
      if (!ends) {
        wake.wait_for(lock, pause, [this] { return ends; });
      } else {
        lock.unlock();
        const auto end = steady_clock::time_point(steady_clock::duration(to.until.load()));
        std::this_thread::sleep_until(std::min(steady_clock::now() + pause, end + milliseconds(1)));
      }
    }
  }

  void tell(const std::string& why) const {
    log_every(level::warn, "tracing", "spans_not_exported", told_every,
              "the receiver of traces does not take them; requests are answered all the same",
              {{"endpoint", options.url}, {"error", why.substr(0, 300)}});
  }
};

otlp_exporter::otlp_exporter(otlp_options options) : impl_(std::make_unique<impl>(std::move(options))) {}
otlp_exporter::~otlp_exporter() = default;

void otlp_exporter::put(span&& one) {
  impl_->put(std::move(one));
}

void otlp_exporter::stop() {
  impl_->stop();
}

std::string otlp_fault(const otlp_options& options) {
  const auto a = sender(options).try_once(otlp_request(options.sender, {}));
  if (a.done) return {};
  std::string why = a.why.substr(0, 300);
  if (a.status == 401 || a.status == 403) why += ": look at tracing.headers";
  if (a.status == 404 || a.status == 405) why += ": what listens there takes no OTLP/HTTP";
  if (a.code == CURLE_UNSUPPORTED_PROTOCOL)
    why += ": what listens there is no OTLP/HTTP receiver; OTLP over gRPC (port 4317) is not spoken";
  return why;
}

std::string otlp_traces_url(std::string_view endpoint) {
  std::string url(endpoint);
  const std::unique_ptr<CURLU, void (*)(CURLU*)> parts(curl_url(), curl_url_cleanup);
  const bool web = url.starts_with("http://") || url.starts_with("https://");
  if (!web || url.find_first_of(" ?#") != std::string::npos || !parts ||
      curl_url_set(parts.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK)
    throw std::invalid_argument(
        "'" + url + "' is no address of an OTLP/HTTP receiver; use for example http://collector:4318");
  while (url.ends_with('/')) url.pop_back();
  if (!url.ends_with(traces_path)) url += traces_path;
  return url;
}

std::vector<std::pair<std::string, std::string>> otlp_headers(std::string_view text) {
  constexpr std::string_view marks = "!#$%&'*+-.^_`|~";  // of a token, RFC 9110
  std::vector<std::pair<std::string, std::string>> all;
  while (!text.empty()) {
    const auto comma = text.find(',');
    std::string_view one = text.substr(0, comma);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    one = trimmed(one);
    if (one.empty()) continue;
    const auto equals = one.find('=');
    const std::string_view name = trimmed(one.substr(0, std::min(equals, one.size())));
    const bool fine = equals != std::string_view::npos && !name.empty() &&
                      std::all_of(name.begin(), name.end(), [&](char c) {
                        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                               marks.find(c) != std::string_view::npos;
                      });
    if (!fine) throw std::invalid_argument("headers are written NAME=VALUE, with commas between them");
    int size = 0;
    const std::string coded(trimmed(one.substr(equals + 1)));
    const std::unique_ptr<char, void (*)(void*)> plain(
        curl_easy_unescape(nullptr, coded.c_str(), static_cast<int>(coded.size()), &size), curl_free);
    std::string value(plain ? plain.get() : "", plain ? static_cast<std::size_t>(size) : 0);
    if (std::any_of(value.begin(), value.end(),
                    [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }))
      throw std::invalid_argument("the value of header '" + std::string(name) + "' has a control character");
    all.emplace_back(name, std::move(value));
  }
  return all;
}

}  // namespace troupe::observe

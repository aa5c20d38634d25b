#include "runtime/guard/token_keys.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace troupe::guard {
namespace {

using std::chrono::steady_clock;

std::string text_of(const std::string& path) {
  std::error_code ignored;
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path, ignored)) throw key_set_error("can't be read");
  std::string text;
  text.resize(most_key_set + 1);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) throw key_set_error("can't be read");
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

struct transfer {
  std::string body;
  const std::atomic<bool>* ends;
};

std::size_t on_data(char* data, std::size_t one, std::size_t count, void* self) {
  auto& t = *static_cast<transfer*>(self);
  if (t.body.size() + one * count > most_key_set) return 0;
  t.body.append(data, one * count);
  return one * count;
}

int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<transfer*>(self)->ends->load() ? 1 : 0;
}

std::string text_of(const token_keys_options& o, const std::atomic<bool>& ends) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  const std::unique_ptr<CURL, void (*)(CURL*)> h(curl_easy_init(), curl_easy_cleanup);
  if (!h) throw key_set_error("libcurl has no memory");
  transfer t{{}, &ends};
  const long ms = static_cast<long>(o.timeout.count());
  curl_easy_setopt(h.get(), CURLOPT_URL, o.url.c_str());
  curl_easy_setopt(h.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(h.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(h.get(), CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(h.get(), CURLOPT_CONNECTTIMEOUT_MS, ms);
  curl_easy_setopt(h.get(), CURLOPT_TIMEOUT_MS, ms);
  curl_easy_setopt(h.get(), CURLOPT_MAXFILESIZE, static_cast<long>(most_key_set));
  curl_easy_setopt(h.get(), CURLOPT_WRITEFUNCTION, on_data);
  curl_easy_setopt(h.get(), CURLOPT_WRITEDATA, &t);
  curl_easy_setopt(h.get(), CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(h.get(), CURLOPT_XFERINFODATA, &t);
  curl_easy_setopt(h.get(), CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(h.get(), CURLOPT_USERAGENT, "troupe");
  if (!o.tls_ca.empty()) curl_easy_setopt(h.get(), CURLOPT_CAINFO, o.tls_ca.c_str());
  const CURLcode code = curl_easy_perform(h.get());
  if (code == CURLE_WRITE_ERROR || code == CURLE_FILESIZE_EXCEEDED)
    throw key_set_error("is larger than 1 MiB");
  if (code != CURLE_OK) throw key_set_error(curl_easy_strerror(code));
  long status = 0;
  curl_easy_getinfo(h.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) throw key_set_error("answered with status " + std::to_string(status));
  return std::move(t.body);
}

}  // namespace

struct token_keys::impl {
  explicit impl(token_keys_options o) : options(std::move(o)) {}

  token_keys_options options;
  std::string name = options.url.empty() ? options.file : options.url;
  std::string last_text;     // what is in force was made of it
  std::string last_problem;  // that was told
  std::atomic<bool> ends{false};
  std::mutex mutex;
  std::condition_variable wake;
  bool soon = false, now = false;
  std::thread thread;

  void look() {
    std::string text = options.url.empty() ? text_of(options.file) : text_of(options, ends);
    if (text == last_text) return;
    auto keys = key_set::parse(text);
    last_text = std::move(text);
    options.found(std::move(keys));
  }

  void try_to_look() {
    std::string why;
    try {
      look();
    } catch (const std::exception& e) {
      why = name + ": " + e.what();
    }
    if (ends || why == last_problem) return;
    last_problem = why;
    if (options.problem) options.problem(why);
  }

  void run() {
    auto last = steady_clock::now();
    bool first = !options.url.empty();
    std::unique_lock lock(mutex);
    for (;;) {
      if (!first) {
        const bool bad = !last_problem.empty();
        wake.wait_until(lock, last + (bad ? std::min(options.refresh, options.least_pause) : options.refresh),
                        [this] { return ends || soon || now; });
        if (soon && !now && !ends)
          wake.wait_until(lock, last + options.least_pause, [this] { return ends || now; });
      }
      if (ends) return;
      first = soon = now = false;
      lock.unlock();
      try_to_look();
      last = steady_clock::now();
      lock.lock();
    }
  }
};

std::shared_ptr<const key_set> look_once(const token_keys_options& options) {
  const std::atomic<bool> ends{false};
  return key_set::parse(options.url.empty() ? text_of(options.file) : text_of(options, ends));
}

token_keys::token_keys(token_keys_options options) : impl_(std::make_unique<impl>(std::move(options))) {
  if (impl_->options.url.empty()) {
    try {
      impl_->look();
    } catch (const key_set_error& e) {
      throw key_set_error("auth.jwks_file: '" + impl_->name + "' " + e.what());
    }
  }
  impl_->thread = std::thread([i = impl_.get()] { i->run(); });
}

token_keys::~token_keys() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ends = true;
  }
  impl_->wake.notify_all();
  impl_->thread.join();
}

void token_keys::look_soon() {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->soon) return;
    impl_->soon = true;
  }
  impl_->wake.notify_all();
}

void token_keys::look_now() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->now = true;
  }
  impl_->wake.notify_all();
}

}  // namespace troupe::guard

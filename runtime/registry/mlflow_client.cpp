#include "runtime/registry/mlflow_client.hpp"

#include <curl/curl.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <utility>

namespace troupe::registry {
namespace {

using json = nlohmann::json;
using std::chrono::steady_clock;

constexpr int most_redirects = 5;
constexpr int most_pages = 100;

std::string encoded(std::string_view text, bool path) {
  constexpr const char* digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~' || (path && c == '/');
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += digits[u >> 4];
      out += digits[u & 15];
    }
  }
  return out;
}

struct url_parts {
  std::string scheme, host, port, user;
  [[nodiscard]] std::string origin() const { return scheme + "://" + host + ":" + port; }
};

std::optional<url_parts> parts_of(const std::string& url) {
  const std::unique_ptr<CURLU, void (*)(CURLU*)> u(curl_url(), curl_url_cleanup);
  if (!u || curl_url_set(u.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return std::nullopt;
  const auto part = [&](CURLUPart which, unsigned flags = 0) {
    char* text = nullptr;
    if (curl_url_get(u.get(), which, &text, flags) != CURLUE_OK) return std::string();
    std::string copy(text);
    curl_free(text);
    return copy;
  };
  return url_parts{part(CURLUPART_SCHEME), part(CURLUPART_HOST), part(CURLUPART_PORT, CURLU_DEFAULT_PORT),
                   part(CURLUPART_USER)};
}

std::string one_line(std::string_view text, std::size_t most) {
  std::string out;
  for (const char c : text.substr(0, most)) out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  return out;
}

struct answer {
  long status = 0;
  std::string body;  ///< of a call; of a download only when the status is an error
  std::string type;
};

/// Where a running transfer writes to, and why it was ended from here.
struct transfer {
  CURL* handle = nullptr;
  std::string body;
  std::size_t most_body = 0;
  int file = -1;
  std::uint64_t written = 0;
  std::uint64_t most_file = 0;
  curl_off_t seen = 0;
  steady_clock::time_point moved = steady_clock::now();
  steady_clock::duration patience{};
  const std::function<bool()>* stop = nullptr;
  std::string why;  ///< a limit or a write error
  bool stalled = false;
  bool stopped = false;
};

std::size_t on_data(char* data, std::size_t one, std::size_t count, void* self) {
  auto& t = *static_cast<transfer*>(self);
  const std::size_t size = one * count;
  long status = 0;
  curl_easy_getinfo(t.handle, CURLINFO_RESPONSE_CODE, &status);
  if (t.file < 0 || status != 200) {
    if (t.body.size() + size > t.most_body) {
      t.why = "the answer is longer than " + std::to_string(t.most_body) + " bytes";
      return 0;
    }
    t.body.append(data, size);
    return size;
  }
  if (t.written + size > t.most_file) {
    t.why = "the file is longer than the " + std::to_string(t.most_file) + " bytes that were expected";
    return 0;
  }
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = ::write(t.file, data + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      t.why = std::string("cannot be written (") + std::strerror(errno) + ")";
      return 0;
    }
    done += static_cast<std::size_t>(n);
  }
  t.written += size;
  return size;
}

curl_socket_t open_watched(void* watch, curlsocktype, curl_sockaddr* to) {
  auto& sockets = *static_cast<policy::socket_watch*>(watch);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  std::uint16_t instead = 0;
  if (::getnameinfo(&to->addr, to->addrlen, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
    instead =
        sockets.opening(host.data(), static_cast<std::uint16_t>(std::strtoul(port.data(), nullptr, 10)));
  if (instead != 0) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons(instead);
    to->family = AF_INET;
    to->addrlen = sizeof at;
    std::memcpy(&to->addr, &at, sizeof at);
  }
  const int fd = ::socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
  if (fd < 0) return CURL_SOCKET_BAD;
  sockets.opened(fd, instead != 0);
  return fd;
}

int close_watched(void* watch, curl_socket_t fd) {
  static_cast<policy::socket_watch*>(watch)->closing(fd);
  return ::close(fd);
}

int on_progress(void* self, curl_off_t, curl_off_t now, curl_off_t, curl_off_t) {
  auto& t = *static_cast<transfer*>(self);
  if (now != t.seen) {
    t.seen = now;
    t.moved = steady_clock::now();
  }
  t.stopped = *t.stop && (*t.stop)();
  t.stalled = steady_clock::now() - t.moved > t.patience;
  return t.stopped || t.stalled ? 1 : 0;
}

std::string text_of(const json& o, const char* key) {
  const auto it = o.find(key);
  if (it == o.end()) return {};
  if (it->is_string()) return it->get<std::string>();
  return it->is_number_integer() ? std::to_string(it->get<std::int64_t>()) : std::string();
}

std::int64_t integer_of(const json& o, const char* key) {
  const auto it = o.find(key);
  if (it == o.end()) return 0;
  if (it->is_number_integer()) return it->get<std::int64_t>();
  if (!it->is_string()) return 0;
  return std::strtoll(it->get_ref<const std::string&>().c_str(), nullptr, 10);
}

}  // namespace

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > 1024) return false;
  for (const char c : path)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\') return false;
  while (true) {
    const auto slash = path.find('/');
    const auto part = path.substr(0, slash);
    if (part.empty() || part.front() == '.') return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

struct mlflow_client::impl {
  client_options options;
  std::string base;
  std::string origin;
  CURL* handle = nullptr;
  curl_slist* headers = nullptr;
  std::minstd_rand random{std::random_device{}()};
  std::map<std::string, std::string> artifact_uris;

  ~impl() {
    curl_slist_free_all(headers);
    if (handle) curl_easy_cleanup(handle);
  }

  [[noreturn]] void fail(failure kind, const std::string& what) const {
    throw registry_error(kind, "MLflow at " + base + ": " + what);
  }

  [[nodiscard]] bool stopping() const { return options.stop && options.stop(); }

  [[nodiscard]] steady_clock::duration pause_after(int attempt) {
    const double factor = 0.5 + std::uniform_real_distribution<>(0, 1)(random);
    return std::chrono::nanoseconds(
        static_cast<policy::nanos>(static_cast<double>(options.pause << std::min(attempt, 10)) * factor));
  }

  void rest(steady_clock::duration pause) {
    const auto until = steady_clock::now() + pause;
    while (!stopping() && steady_clock::now() < until)
      std::this_thread::sleep_for(
          std::min<steady_clock::duration>(std::chrono::milliseconds(20), until - steady_clock::now()));
    if (stopping()) fail(failure::stopped, "stopped");
  }

  /// One request, redirects followed within the origin. Throws on what no HTTP status came for, and when a
  /// call (not a download) has not come by `until`.
  answer once(std::string url, transfer& t, steady_clock::time_point until) {
    for (int hop = 0; hop <= most_redirects; ++hop) {
      t.body.clear();
      t.written = 0;
      t.seen = 0;
      t.why.clear();
      t.moved = steady_clock::now();
      if (t.file >= 0 && (::ftruncate(t.file, 0) != 0 || ::lseek(t.file, 0, SEEK_SET) != 0))
        fail(failure::bad_answer, std::string("a file cannot be written (") + std::strerror(errno) + ")");
      const auto ms = [](steady_clock::duration d) {
        return static_cast<long>(
            std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::milliseconds>(d).count()));
      };
      const long budget = ms(std::chrono::nanoseconds(options.timeout));
      const long left = t.file < 0 ? ms(until - steady_clock::now()) : budget;
      curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
      curl_easy_setopt(handle, CURLOPT_WRITEDATA, &t);
      curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &t);
      curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, left);
      curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, t.file < 0 ? left : 0L);
      const CURLcode code = curl_easy_perform(handle);
      if (t.stopped) fail(failure::stopped, "stopped");
      if (!t.why.empty()) fail(failure::bad_answer, t.why);
      if (code == CURLE_OPERATION_TIMEDOUT || t.stalled)
        fail(failure::unreachable, "no answer within " + std::to_string(budget) + " ms (mlflow.timeout)");
      if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        fail(failure::refused, std::string("its certificate is not trusted (") + curl_easy_strerror(code) +
                                   "); name its authority in mlflow.tls_ca");
      if (code != CURLE_OK) fail(failure::unreachable, curl_easy_strerror(code));
      answer a;
      curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &a.status);
      char* next = nullptr;
      curl_easy_getinfo(handle, CURLINFO_REDIRECT_URL, &next);
      if (a.status >= 300 && a.status < 400 && next) {
        const auto to = parts_of(next);
        if (!to || to->origin() != origin)
          fail(failure::refused,
               "redirects to " + (to ? to->origin() : std::string("another address")) +
                   "; credentials are not sent there: set mlflow.uri to the server's own address");
        url = next;
        continue;
      }
      char* type = nullptr;
      curl_easy_getinfo(handle, CURLINFO_CONTENT_TYPE, &type);
      if (type) a.type = type;
      a.body = std::move(t.body);
      return a;
    }
    fail(failure::bad_answer, "redirects in a circle");
  }

  answer get(const std::string& path, bool is_artifact, int file = -1, std::uint64_t most_file = 0,
             std::uint64_t* written = nullptr) {
    const auto until = steady_clock::now() + std::chrono::nanoseconds(options.timeout);
    for (int attempt = 0;; ++attempt) {
      const auto pause = pause_after(attempt);
      const auto last = [&] {
        return attempt + 1 >= options.attempts || (file < 0 && steady_clock::now() + pause >= until);
      };
      try {
        transfer t;
        t.handle = handle;
        t.most_body = options.max_answer_bytes;
        t.file = file;
        t.most_file = most_file;
        t.patience = std::chrono::nanoseconds(options.timeout);
        t.stop = &options.stop;
        answer a = once(base + path, t, until);
        const bool passing = a.status == 429 || (a.status >= 500 && !(is_artifact && a.status == 500));
        if (a.status == 200 || !passing || last()) {
          if (a.status != 200) explain(a, is_artifact);
          if (written) *written = t.written;
          return a;
        }
      } catch (const registry_error& e) {
        if (e.kind != failure::unreachable || last()) throw;
      }
      rest(pause);
    }
  }

  /// Throws what an answer other than 200 means.
  [[noreturn]] void explain(const answer& a, bool is_artifact) const {
    std::string said;
    std::string code;
    const json body = json::parse(a.body, nullptr, false);
    if (body.is_object()) {
      said = one_line(text_of(body, "message"), 300);
      code = text_of(body, "error_code");
    }
    const std::string status = std::to_string(a.status);
    const std::string tail = said.empty() ? "" : ": " + said;
    if (a.status == 401)
      fail(failure::refused,
           options.username.empty() && options.token.empty()
               ? "asks for a login (401): set mlflow.username and mlflow.password, or mlflow.token"
               : "refuses the credentials (401): check mlflow.username and mlflow.password, or "
                 "mlflow.token");
    if (a.status == 403 && a.body.find("Host header") != std::string::npos)
      fail(failure::refused,
           "refuses the name it is called by (403, Host header): start the server with --allowed-hosts and "
           "this name");
    if (a.status == 403) fail(failure::refused, "denies access (403)" + tail);
    if (is_artifact && a.status == 500)
      fail(failure::not_found, "has no such file, or can't read its storage (500)" + tail);
    if (a.status >= 500 || a.status == 429) fail(failure::unreachable, "answers " + status + tail);
    if (body.is_object() &&
        (code == "RESOURCE_DOES_NOT_EXIST" || said.find("not found") != std::string::npos))
      fail(failure::not_found, said);
    if (a.status == 404)
      fail(failure::not_found, "answers 404" + tail + "; is mlflow.uri the address of an MLflow server?");
    fail(failure::bad_answer, "answers " + status + tail);
  }

  json call(const std::string& path) {
    const answer a = get(path, false);
    json body = json::parse(a.body, nullptr, false);
    if (!body.is_object())
      fail(failure::bad_answer,
           "answers " + std::string(a.type.find("html") != std::string::npos ? "HTML" : "something") +
               ", not JSON; is mlflow.uri the address of an MLflow server?");
    return body;
  }

  version_info info(const json& v) const {
    version_info i;
    if (v.is_object()) {
      i.name = text_of(v, "name");
      i.version = text_of(v, "version");
      i.stage = text_of(v, "current_stage");
      i.status = text_of(v, "status");
      i.created_ms = integer_of(v, "creation_timestamp");
      i.updated_ms = integer_of(v, "last_updated_timestamp");
      if (const auto it = v.find("aliases"); it != v.end() && it->is_array())
        for (const auto& alias : *it)
          if (alias.is_string()) i.aliases.push_back(alias.get<std::string>());
    }
    const bool number = !i.version.empty() && i.version.size() <= 18 && i.version.front() != '0' &&
                        i.version.find_first_not_of("0123456789") == std::string::npos;
    if (!number) fail(failure::bad_answer, "a model version in its answer has no number");
    return i;
  }

  [[nodiscard]] static const json* member(const json& o, const char* key) {
    const auto it = o.find(key);
    return it == o.end() ? nullptr : &*it;
  }

  /// The folder behind the server's proxy; nullopt for storage that only the server reads.
  std::optional<std::string> proxied(const std::string& name, const std::string& version) {
    std::string& uri = artifact_uris[name + "/" + version];
    if (uri.empty())
      uri = text_of(call("/api/2.0/mlflow/model-versions/get-download-uri?name=" + encoded(name, false) +
                         "&version=" + encoded(version, false)),
                    "artifact_uri");
    constexpr std::string_view scheme = "mlflow-artifacts:/";
    if (!uri.starts_with(scheme) || uri.starts_with("mlflow-artifacts://")) return std::nullopt;
    std::string folder = uri.substr(scheme.size());
    while (!folder.empty() && folder.back() == '/') folder.pop_back();
    if (!is_safe_path(folder)) fail(failure::bad_answer, "names an unsafe folder of files");
    return folder;
  }

  std::string file_path(const std::string& name, const std::string& version, const std::string& path) {
    if (!is_safe_path(path))
      fail(failure::bad_answer, "names an unsafe path of a file: " + one_line(path, 100));
    if (const auto folder = proxied(name, version))
      return "/api/2.0/mlflow-artifacts/artifacts/" + encoded(*folder, true) + "/" + encoded(path, true);
    return "/model-versions/get-artifact?name=" + encoded(name, false) +
           "&version=" + encoded(version, false) + "&path=" + encoded(path, false);
  }
};

mlflow_client::mlflow_client(client_options options) : impl_(std::make_unique<impl>()) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  auto& i = *impl_;
  i.options = std::move(options);
  i.base = i.options.uri;
  while (!i.base.empty() && i.base.back() == '/') i.base.pop_back();
  const auto parts = parts_of(i.base);
  if (!parts || parts->host.empty() || (parts->scheme != "http" && parts->scheme != "https")) {
    i.base = "mlflow.uri";
    i.fail(failure::bad_answer, "is not an address like http://mlflow:5000");
  }
  if (!parts->user.empty()) {
    i.base = parts->origin();
    i.fail(failure::refused, "the address holds a user: give it as mlflow.username and mlflow.password");
  }
  i.origin = parts->origin();
  for (const auto* secret : {&i.options.username, &i.options.password, &i.options.token})
    if (secret->find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos)
      i.fail(failure::refused, "a credential holds a line break");
  i.handle = curl_easy_init();
  if (!i.handle) i.fail(failure::unreachable, "libcurl can't start");
  curl_easy_setopt(i.handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(i.handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(i.handle, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(i.handle, CURLOPT_WRITEFUNCTION, on_data);
  curl_easy_setopt(i.handle, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(i.handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(i.handle, CURLOPT_USERAGENT, "troupe");
  if (i.options.sockets) {
    curl_easy_setopt(i.handle, CURLOPT_OPENSOCKETDATA, i.options.sockets.get());
    curl_easy_setopt(i.handle, CURLOPT_OPENSOCKETFUNCTION, open_watched);
    curl_easy_setopt(i.handle, CURLOPT_CLOSESOCKETDATA, i.options.sockets.get());
    curl_easy_setopt(i.handle, CURLOPT_CLOSESOCKETFUNCTION, close_watched);
  }
  if (!i.options.tls_ca.empty()) curl_easy_setopt(i.handle, CURLOPT_CAINFO, i.options.tls_ca.c_str());
  if (!i.options.username.empty()) {
    curl_easy_setopt(i.handle, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
    curl_easy_setopt(i.handle, CURLOPT_USERNAME, i.options.username.c_str());
    curl_easy_setopt(i.handle, CURLOPT_PASSWORD, i.options.password.c_str());
  } else if (!i.options.token.empty()) {
    i.headers = curl_slist_append(nullptr, ("Authorization: Bearer " + i.options.token).c_str());
    curl_easy_setopt(i.handle, CURLOPT_HTTPHEADER, i.headers);
  }
}

mlflow_client::~mlflow_client() = default;

void mlflow_client::attempts(int most) {
  impl_->options.attempts = most;
}

std::string mlflow_client::server_version() {
  return one_line(impl_->get("/version", false).body, 40);
}

version_info mlflow_client::resolve(const policy::model_reference& r) {
  using kind = policy::model_reference::kind;
  auto& i = *impl_;
  i.artifact_uris.clear();  // a name and number may stand for another version by now
  const std::string api = "/api/2.0/mlflow/";
  const std::string name = encoded(r.name, false);
  version_info found;
  if (r.by == kind::alias || r.by == kind::number) {
    const json body =
        r.by == kind::alias
            ? i.call(api + "registered-models/alias?name=" + name + "&alias=" + encoded(r.value, false))
            : i.call(api + "model-versions/get?name=" + name + "&version=" + r.value);
    const json* one = impl::member(body, "model_version");
    found = i.info(one ? *one : json());
  } else if (r.by == kind::stage) {
    const json body = i.call(api + "registered-models/get-latest-versions?name=" + name +
                             "&stages=" + encoded(r.value, false));
    const json* list = impl::member(body, "model_versions");
    if (!list || !list->is_array() || list->empty())
      i.fail(failure::not_found, "no version of " + r.name + " is in stage " + r.value);
    found = i.info(list->front());
  } else {
    const json body = i.call(search_path(r.name, 1));
    const json* list = impl::member(body, "model_versions");
    if (!list || !list->is_array() || list->empty())
      i.fail(failure::not_found, "there is no model " + r.name + ", or it has no version");
    found = i.info(list->front());
  }
  if (found.name != r.name) i.fail(failure::bad_answer, "answers for another model than " + r.name);
  if (!found.status.empty() && found.status != "READY")
    i.fail(failure::not_found,
           r.name + " version " + found.version + " is not ready (" + one_line(found.status, 40) + ")");
  return found;
}

std::string mlflow_client::search_path(const std::string& name, int most) const {
  if (name.find('\'') != std::string::npos)
    impl_->fail(failure::not_found, "a model's name can't hold a quote");
  return "/api/2.0/mlflow/model-versions/search?max_results=" + std::to_string(most) +
         "&order_by=version_number%20DESC&filter=" + encoded("name='" + name + "'", false);
}

std::vector<version_info> mlflow_client::versions(const std::string& name) {
  auto& i = *impl_;
  std::vector<version_info> all;
  std::string token;
  for (int page = 0; page < most_pages; ++page) {
    std::string path = search_path(name, 100);
    if (!token.empty()) path += "&page_token=" + encoded(token, false);
    const json body = i.call(path);
    if (const json* list = impl::member(body, "model_versions"); list && list->is_array())
      for (const auto& v : *list) all.push_back(i.info(v));
    token = text_of(body, "next_page_token");
    if (token.empty()) break;
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::stoll(a.version) > std::stoll(b.version);
  });
  if (all.empty()) return all;
  // Aliases are not in the answers of a search.
  const json body = i.call("/api/2.0/mlflow/registered-models/get?name=" + encoded(name, false));
  const json* model = impl::member(body, "registered_model");
  const json* aliases = model && model->is_object() ? impl::member(*model, "aliases") : nullptr;
  if (aliases && aliases->is_array())
    for (const auto& a : *aliases) {
      if (!a.is_object()) continue;
      for (auto& v : all)
        if (v.version == text_of(a, "version") &&
            std::find(v.aliases.begin(), v.aliases.end(), text_of(a, "alias")) == v.aliases.end())
          v.aliases.push_back(text_of(a, "alias"));
    }
  return all;
}

std::optional<std::vector<artifact>> mlflow_client::list(const std::string& name,
                                                         const std::string& version) {
  auto& i = *impl_;
  const auto folder = i.proxied(name, version);
  if (!folder) return std::nullopt;
  const json body = i.call("/api/2.0/mlflow-artifacts/artifacts?path=" + encoded(*folder, false));
  std::vector<artifact> all;
  const json* files = impl::member(body, "files");
  if (!files || !files->is_array()) return all;
  for (const auto& f : *files) {
    if (!f.is_object()) continue;
    artifact a;
    a.path = text_of(f, "path");
    if (!is_safe_path(a.path)) i.fail(failure::bad_answer, "lists an unsafe path: " + one_line(a.path, 100));
    const auto it = f.find("is_dir");
    a.directory = it != f.end() && it->is_boolean() && it->get<bool>();
    const std::int64_t size = integer_of(f, "file_size");
    if (size < 0) i.fail(failure::bad_answer, "lists a negative size for " + a.path);
    a.size = static_cast<std::uint64_t>(size);
    all.push_back(std::move(a));
  }
  return all;
}

std::string mlflow_client::read(const std::string& name, const std::string& version,
                                const std::string& path) {
  auto& i = *impl_;
  return i.get(i.file_path(name, version, path), true).body;
}

void mlflow_client::download(const std::string& name, const std::string& version, const artifact& file,
                             const std::filesystem::path& to, bool size_known) {
  auto& i = *impl_;
  if (file.size > i.options.max_file_bytes)
    i.fail(failure::bad_answer, file.path + " has " + std::to_string(file.size) +
                                    " bytes, more than the limit of " +
                                    std::to_string(i.options.max_file_bytes));
  const std::string path = i.file_path(name, version, file.path);
  const int fd = ::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0)
    throw registry_error(failure::bad_answer,
                         to.string() + ": cannot be written (" + std::strerror(errno) + ")");
  std::uint64_t written = 0;
  try {
    i.get(path, true, fd, size_known ? file.size : i.options.max_file_bytes, &written);
    if (size_known && written != file.size)
      i.fail(failure::unreachable, file.path + " came with " + std::to_string(written) +
                                       " bytes, and the listing says " + std::to_string(file.size));
    if (::fsync(fd) != 0) i.fail(failure::bad_answer, "a file cannot be synced");
  } catch (...) {
    ::close(fd);
    ::unlink(to.c_str());
    throw;
  }
  ::close(fd);
}

}  // namespace troupe::registry

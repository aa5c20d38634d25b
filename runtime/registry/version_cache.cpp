#include "runtime/registry/version_cache.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <vector>

namespace troupe::registry {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;
constexpr const char* manifest_name = ".manifest";
/// Longer than any download takes; a hidden folder this old belongs to nobody.
constexpr auto abandoned_after = std::chrono::hours(6);

[[noreturn]] void fail(const fs::path& where, const std::string& what) {
  throw std::runtime_error(where.string() + ": " + what + " (mlflow.cache_directory)");
}

class digest {
 public:
  digest() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
  }
  void add(const void* data, std::size_t size) { EVP_DigestUpdate(context_.get(), data, size); }
  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
    unsigned size = 0;
    EVP_DigestFinal_ex(context_.get(), raw.data(), &size);
    std::string text;
    for (unsigned i = 0; i < size; ++i) {
      text += "0123456789abcdef"[raw[i] >> 4];
      text += "0123456789abcdef"[raw[i] & 15];
    }
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

std::optional<std::string> sha256_of_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  digest d;
  std::vector<char> buffer(1 << 16);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0)
    d.add(buffer.data(), static_cast<std::size_t>(in.gcount()));
  if (in.bad()) return std::nullopt;
  return d.hex();
}

void sync(const fs::path& what) {
  const int fd = ::open(what.c_str(), O_RDONLY | O_CLOEXEC);
  const bool done = fd >= 0 && ::fsync(fd) == 0;
  if (fd >= 0) ::close(fd);
  if (!done) fail(what, "cannot be synced");
}

void write_synced(const fs::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) fail(file, "cannot be written");
  sync(file);
}

json read_json(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return json();
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  json j = json::parse(text, nullptr, false);
  return j.is_object() ? j : json();
}

std::string unique() {
  std::random_device random;
  return std::to_string(::getpid()) + "-" + std::to_string(random()) + std::to_string(random());
}

bool matches(const fs::path& folder, const std::string& origin, bool& same_origin) {
  const json m = read_json(folder / manifest_name);
  same_origin = true;
  if (!m.is_object() || !m.contains("files") || !m["files"].is_object() || m["files"].empty()) return false;
  same_origin = origin.empty() || m.value("origin", json()) == origin;
  if (!same_origin) return false;
  for (const auto& [name, sum] : m["files"].items())
    if (name.find("..") != std::string::npos || !sum.is_string() ||
        sha256_of_file(folder / name) != sum.get<std::string>())
      return false;
  return true;
}

/// What a reference's file says.
std::optional<std::pair<version_cache::resolved, std::uint64_t>> read_note(const fs::path& file) {
  const json j = read_json(file);
  if (!j.is_object() || !j.value("name", json()).is_string() || !j.value("version", json()).is_string())
    return std::nullopt;
  const json files = j.value("stamp", json());
  return std::pair{version_cache::resolved{j["name"].get<std::string>(), j["version"].get<std::string>()},
                   files.is_number_unsigned() ? files.get<std::uint64_t>() : 0};
}

/// Out of sight first: a reader sees a version whole or not at all.
void remove_version(const fs::path& folder) {
  const fs::path gone = folder.parent_path() / (".bad-" + unique());
  std::error_code error;
  fs::rename(folder, gone, error);
  if (!error) fs::remove_all(gone, error);
}

}  // namespace

std::string sha256_of(std::string_view text) {
  digest d;
  d.add(text.data(), text.size());
  return d.hex();
}

std::uint64_t version_cache::stamp(const fs::path& version) const {
  std::ifstream in(version / manifest_name, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  return std::stoull(sha256_of(text).substr(0, 16), nullptr, 16);
}

version_cache::version_cache(fs::path directory) : directory_(std::move(directory)) {
  std::error_code error;
  fs::create_directories(directory_ / "models", error);
  if (!error) fs::create_directories(directory_ / "references", error);
  if (error) fail(directory_, "cannot be made (" + error.message() + ")");
  const auto now = fs::file_time_type::clock::now();
  for (const char* below : {"models", "references"})
    for (fs::recursive_directory_iterator at(directory_ / below, error), end; !error && at != end;
         at.increment(error)) {
      const std::string name = at->path().filename().string();
      if (!name.starts_with(".new-") && !name.starts_with(".bad-")) continue;
      if (at->is_directory(error)) at.disable_recursion_pending();
      std::error_code ignored;
      const auto written = fs::last_write_time(at->path(), ignored);
      if (!ignored && now - written > abandoned_after) fs::remove_all(at->path(), ignored);
    }
}

fs::path version_cache::place(const std::string& name, const std::string& version) const {
  return directory_ / "models" / name / version;
}

fs::path version_cache::note(const std::string& registry, const std::string& reference) const {
  return directory_ / "references" / sha256_of(registry + "\n" + reference);
}

std::optional<fs::path> version_cache::find(const std::string& name, const std::string& version,
                                            const std::string& origin) const {
  const fs::path folder = place(name, version);
  std::error_code error;
  if (!fs::is_directory(folder, error)) return std::nullopt;
  bool same_origin = true;
  if (matches(folder, origin, same_origin)) return folder;
  fs::rename(folder, folder.parent_path() / (".bad-" + unique()),
             error);  // kept a while, for who looks into it
  return std::nullopt;
}

fs::path version_cache::add(const std::string& name, const std::string& version, const std::string& origin,
                            const std::function<void(const fs::path&)>& fill) {
  const fs::path to = place(name, version);
  const fs::path fresh = to.parent_path() / (".new-" + unique());
  std::error_code error;
  fs::create_directories(fresh, error);
  if (error) fail(fresh, "cannot be made (" + error.message() + ")");
  try {
    fill(fresh);
    json files = json::object();
    for (const auto& entry : fs::recursive_directory_iterator(fresh)) {
      if (entry.is_directory()) continue;
      const auto sum = sha256_of_file(entry.path());
      if (!sum) fail(entry.path(), "cannot be read back");
      files[fs::relative(entry.path(), fresh).generic_string()] = *sum;
      sync(entry.path());
    }
    write_synced(fresh / manifest_name, json({{"origin", origin}, {"files", files}}).dump(1) + "\n");
    sync(fresh);
    fs::rename(fresh, to, error);
    if (error) {
      const auto other = find(name, version, origin);  // somebody was faster
      if (!other) {
        error.clear();
        fs::rename(fresh, to, error);  // or it was broken, and stands aside now
        if (error) fail(to, "cannot be made (" + error.message() + ")");
      } else {
        fs::remove_all(fresh, error);
      }
    }
    sync(to.parent_path());
    return to;
  } catch (...) {
    fs::remove_all(fresh, error);
    throw;
  }
}

void version_cache::remember(const std::string& registry, const std::string& reference, const resolved& to,
                             std::uint64_t files) {
  const fs::path file = note(registry, reference);
  if (recall(registry, reference) == to && read_note(file)->second == files) return;
  const fs::path fresh = file.parent_path() / (".new-" + unique());
  write_synced(fresh, json({{"registry", registry},
                            {"reference", reference},
                            {"name", to.first},
                            {"version", to.second},
                            {"stamp", files}})
                              .dump(1) +
                          "\n");
  std::error_code error;
  fs::rename(fresh, file, error);
  if (error) fail(file, "cannot be written (" + error.message() + ")");
  sync(file.parent_path());
}

std::optional<version_cache::resolved> version_cache::recall(const std::string& registry,
                                                             const std::string& reference) const {
  const fs::path file = note(registry, reference);
  const auto n = read_note(file);
  if (!n || read_json(file).value("reference", json()) != reference) return std::nullopt;
  return n->first;
}

std::vector<std::pair<version_cache::resolved, std::uint64_t>> version_cache::remembered() const {
  std::vector<std::pair<resolved, std::uint64_t>> all;
  std::error_code error;
  for (fs::directory_iterator at(directory_ / "references", error), end; !error && at != end;
       at.increment(error)) {
    if (const auto n = read_note(at->path())) all.push_back(*n);
  }
  return all;
}

void version_cache::discard(const std::string& name, const std::string& version, std::uint64_t of) {
  const fs::path folder = place(name, version);
  if (stamp(folder) != of) return;
  for (const auto& [to, files] : remembered())
    if (to == resolved{name, version} && (files == 0 || files == of)) return;
  remove_version(folder);
}

void version_cache::prune(std::size_t most, const std::set<resolved>& used) {
  std::set<resolved> keep = used;
  for (const auto& [to, files] : remembered()) keep.insert(to);
  std::error_code error;
  for (fs::directory_iterator model(directory_ / "models", error), end; !error && model != end;
       model.increment(error)) {
    std::vector<std::pair<fs::file_time_type, fs::path>> versions;
    std::size_t kept = 0;
    std::error_code inner;
    for (fs::directory_iterator at(model->path(), inner); !inner && at != end; at.increment(inner)) {
      const std::string version = at->path().filename().string();
      if (version.starts_with('.')) continue;
      std::error_code ignored;
      if (keep.contains({model->path().filename().string(), version}))
        ++kept;
      else
        versions.emplace_back(fs::last_write_time(at->path(), ignored), at->path());
    }
    std::sort(versions.rbegin(), versions.rend());
    for (std::size_t i = most > kept ? most - kept : 0; i < versions.size(); ++i) {
      remove_version(versions[i].second);
    }
  }
}

}  // namespace troupe::registry

#include "runtime/guard/key_file.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <system_error>

namespace troupe::guard {
namespace {

constexpr std::size_t most_names = 1'000;  // models or classes of one client

class reader {
 public:
  explicit reader(std::string file) : file_(std::move(file)) {}

  std::vector<client_entry> run(std::string_view text) {
    if (text.size() > most_key_file) fail(0, "is larger than 16 MiB");
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first != std::string_view::npos && text[first] == '{') {
      lines(text);
    } else {
      const YAML::Node all = parsed(text, 0);
      if (all.IsDefined() && !all.IsNull()) {
        if (!all.IsSequence()) fail(1, "expected a list of entries such as {name: billing, sha256: 5e88...}");
        for (const auto& one : all) entry(one, one.Mark().line + 1);
      }
    }
    return std::move(clients_);
  }

 private:
  [[noreturn]] void fail(int line, const std::string& what) const {
    throw key_file_error(file_ + (line > 0 ? ":" + std::to_string(line) : "") + ": " + what);
  }

  YAML::Node parsed(std::string_view text, int line) const {
    try {
      return YAML::Load(std::string(text));
    } catch (const YAML::Exception& e) {
      fail(line > 0 ? line : e.mark.line + 1, e.msg);
    }
  }

  void lines(std::string_view text) {
    for (int line = 1; !text.empty(); ++line) {
      const auto end = text.find('\n');
      const auto one = text.substr(0, end);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      entry(parsed(one, line), line);
    }
  }

  std::string plain(const YAML::Node& node, const std::string& key, int line) const {
    if (!node.IsScalar()) fail(line, key + ": expected one value");
    return node.Scalar();
  }

  double number(const YAML::Node& node, const std::string& key, double most, int line) const {
    const std::string text = plain(node, key, line);
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= most))
      fail(line, key + ": expected a number from 0");
    return value;
  }

  std::vector<std::string> names(const YAML::Node& node, const std::string& key, int line) const {
    if (!node.IsSequence() || node.size() == 0)
      fail(line, key + ": expected a list of names such as [churn, fraud]; leave it out to allow all");
    if (node.size() > most_names) fail(line, key + ": at most 1000 names are possible");
    std::vector<std::string> all;
    for (const auto& one : node) {
      all.push_back(plain(one, key, line));
      if (all.back().empty()) fail(line, key + ": a name is empty");
    }
    return all;
  }

  void entry(const YAML::Node& node, int line) {
    if (!node.IsMap()) fail(line, "expected an entry such as {name: billing, sha256: 5e88...}");
    client_entry c;
    std::set<std::string> seen;
    for (const auto& field : node) {
      const std::string key = field.first.IsScalar() ? field.first.Scalar() : std::string("?");
      const YAML::Node& value = field.second;
      if (!seen.insert(key).second) fail(line, key + " is there twice");
      if (key == "name") {
        c.name = plain(value, key, line);
      } else if (key == "sha256") {
        const auto d = parse_digest(plain(value, key, line));
        if (!d)
          fail(line, "sha256: expected 64 hexadecimal digits; `troupe key NAME` makes a key and its entry");
        c.keys.push_back(*d);
      } else if (key == "models") {
        c.models = names(value, key, line);
      } else if (key == "classes") {
        c.classes = names(value, key, line);
      } else if (key == "per_minute") {
        c.per_minute = number(value, key, 1e9, line);
      } else if (key == "burst") {
        c.burst = number(value, key, 1e9, line);
        if (*c.burst < 1) fail(line, "burst: expected a number from 1");
      } else if (key == "per_month") {
        c.per_month = static_cast<std::uint64_t>(number(value, key, 1e15, line));
      } else if (key == "admin") {
        const std::string text = plain(value, key, line);
        if (text != "true" && text != "false") fail(line, "admin: expected true or false");
        c.admin = text == "true";
      } else if (key == "key" || key == "secret" || key == "password" || key == "token") {
        fail(line, "keys do not belong into this file, only their sha256; `troupe key NAME` makes an entry");
      } else {
        fail(line,
             "unknown field; known are name, sha256, models, classes, per_minute, burst, per_month, admin");
      }
    }
    if (!is_client_name(c.name)) fail(line, "name: expected 1 to 128 printable characters without spaces");
    if (c.burst && (!c.per_minute || *c.per_minute == 0)) fail(line, "burst: needs per_minute beside it");
    for (const auto& k : c.keys)
      if (!digests_.insert(k).second) fail(line, "sha256: another entry has the same key");
    const auto [at, is_new] = by_name_.emplace(c.name, clients_.size());
    if (is_new) {
      if (clients_.size() >= most_clients) fail(line, "at most 100000 clients are possible");
      clients_.push_back(std::move(c));
      return;
    }
    if (c.keys.empty()) fail(line, "name: there are two entries of '" + c.name + "', and this has no sha256");
    if (seen.size() > 2)
      fail(line,
           "a further key of '" + c.name + "' has a name and a sha256 only; the first entry says the rest");
    clients_[at->second].keys.push_back(c.keys.front());
  }

  std::string file_;
  std::vector<client_entry> clients_;
  std::map<std::string, std::size_t> by_name_;
  std::set<digest> digests_;
};

}  // namespace

bool is_client_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~'; });
}

std::vector<client_entry> parse_key_file(std::string_view text, const std::string& file) {
  return reader(file).run(text);
}

std::vector<client_entry> read_key_file(const std::string& path) {
  std::error_code ignored;
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path, ignored))
    throw key_file_error("auth.keys_file: '" + path + "' can't be read");
  if (const auto size = std::filesystem::file_size(path, ignored); !ignored && size > most_key_file)
    throw key_file_error(path + ": is larger than 16 MiB");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw key_file_error("auth.keys_file: '" + path + "' can't be read");
  return parse_key_file(text, path);
}

}  // namespace troupe::guard

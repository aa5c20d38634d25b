#include "cli/load_doors.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "cli/command_line.hpp"
#include "cli/commands.hpp"
#include "runtime/traffic/grpc_run.hpp"
#include "runtime/traffic/http_run.hpp"
#include "runtime/traffic/requests.hpp"

namespace troupe::cli {
namespace {

using named_value = std::pair<std::string, std::string>;

std::string trimmed(const std::string& text) {
  const auto from = text.find_first_not_of(" \t\r\n");
  if (from == std::string::npos) return "";
  return text.substr(from, text.find_last_not_of(" \t\r\n") - from + 1);
}

bool printable_ascii(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

/// --header, and the API key as a header of its own.
std::vector<named_value> headers_of(const door_load_options& o) {
  std::vector<named_value> out;
  for (const auto& h : o.headers) {
    const auto colon = h.find(':');
    const std::string name = trimmed(h.substr(0, colon));
    if (colon == std::string::npos || name.empty() || !printable_ascii(h) ||
        name.find(' ') != std::string::npos)
      throw usage_error("--header " + traffic::printable(h) + ": expected \"Name: value\"");
    out.emplace_back(name, trimmed(h.substr(colon + 1)));
  }
  std::string key;
  if (!o.api_key_file.empty()) {
    key = trimmed(read_text(o.api_key_file, "--api-key-file"));
    if (key.empty()) throw usage_error("--api-key-file " + o.api_key_file + ": no key in it");
  } else if (const char* text = std::getenv("TROUPE_API_KEY")) {
    key = trimmed(text);
  }
  if (!printable_ascii(key)) throw usage_error("the API key has characters that no header may have");
  if (!key.empty()) out.emplace_back("X-API-Key", key);
  return out;
}

/// A segment of a path.
std::string encoded(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    char hex[4];
    std::snprintf(hex, sizeof hex, "%%%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += plain ? std::string(1, c) : std::string(hex);
  }
  return out;
}

traffic::plan plan_of(const load_command_options& o) {
  traffic::plan p;
  p.rate = o.load.rate;
  p.connections = o.door.connections;
  p.seconds = o.door.seconds;
  p.requests = o.door.requests_given ? o.load.records : 0;
  if (p.seconds == 0 && p.requests == 0) p.seconds = 10;
  p.warmup = o.door.warmup_s;
  if (p.seconds > 0 && p.warmup >= p.seconds) throw usage_error("--warmup: less than --seconds");
  p.wait_for = o.wait_for_s;
  p.target_ms = o.door.target_s * 1000;
  p.interval = o.load.interval;
  return p;
}

traffic::report over_http(const load_command_options& o, const std::vector<std::string>& rows,
                          const traffic::request_options& request, const traffic::plan& p,
                          const traffic::observer& who) {
  traffic::http_target to;
  try {
    const bool bare = o.door.http.find("://") == std::string::npos;
    to = traffic::read_url(bare ? "http://" + o.door.http : o.door.http);
  } catch (const std::invalid_argument& e) {
    throw usage_error("--http " + std::string(e.what()));
  }
  to.files = {o.door.tls_ca, o.door.tls_certificate, o.door.tls_key};
  if (!to.tls && !o.door.tls_ca.empty())
    throw usage_error("--tls-ca: the URL of --http must begin with https://");
  const std::string format = !o.door.format.empty() ? o.door.format : o.load.model.empty() ? "score" : "v2";
  if (format == "score") {
    if (!o.load.model.empty() || !o.load.model_version.empty())
      throw usage_error("--model: /score asks the default model; --format v2 or binary asks a model by name");
    if (request.priority > 0 || request.timeout_us > 0)
      throw usage_error(std::string(request.priority > 0 ? "--priority" : "--timeout-ms") +
                        ": /score has no place for it; --format v2 or binary has");
  } else if (o.load.model.empty() && to.path == "/") {
    throw usage_error("--format " + format + ": --model is needed");
  }
  if (to.path == "/")
    to.path = format == "score"
                  ? "/score"
                  : "/v2/models/" + encoded(o.load.model) +
                        (o.load.model_version.empty() ? "" : "/versions/" + encoded(o.load.model_version)) +
                        "/infer";
  const auto bodies = format == "score" ? traffic::score_bodies(rows, request)
                      : format == "v2"  ? traffic::v2_bodies(rows, request)
                                        : traffic::binary_bodies(rows, request);
  std::vector<std::string> requests;
  for (const auto& body : bodies) {
    auto headers = headers_of(o.door);
    headers.emplace_back("Content-Type",
                         format == "binary" ? "application/octet-stream" : "application/json");
    if (format == "binary")
      headers.emplace_back("Inference-Header-Content-Length", std::to_string(body.json));
    requests.push_back(traffic::http_request(to, "POST", body.bytes, headers));
  }
  return traffic::run_http(to, requests, p, who);
}

traffic::report over_grpc(const load_command_options& o, const std::vector<std::string>& rows,
                          traffic::request_options request, const traffic::plan& p,
                          const traffic::observer& who) {
  traffic::grpc_target to;
  try {
    to = traffic::read_grpc_address(o.door.grpc);
  } catch (const std::invalid_argument& e) {
    throw usage_error("--grpc " + std::string(e.what()));
  }
  if (o.load.model.empty()) throw usage_error("--grpc: --model is needed");
  if (!o.door.format.empty()) throw usage_error("--format: gRPC has one format only");
  to.files = {o.door.tls_ca, o.door.tls_certificate, o.door.tls_key};
  to.tls = to.tls || !o.door.tls_ca.empty();
  for (auto& [name, value] : headers_of(o.door)) {
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    to.metadata.emplace_back(name, value);
  }
  request.model = o.load.model;
  request.model_version = o.load.model_version;
  return traffic::run_grpc(to, traffic::grpc_messages(rows, request), p, who);
}

}  // namespace

void add_door_load(CLI::App* c, load_command_options& o) {
  auto& d = o.door;
  auto* http = c->add_option("--http", d.http, "Send over HTTP, to http://host:port or https://host:port")
                   ->type_name("URL");
  auto* grpc = c->add_option("--grpc", d.grpc, "Send over gRPC; https://host:port or --tls-ca for TLS")
                   ->type_name("HOST:PORT");
  http->excludes(grpc);
  std::vector<CLI::Option*> of_kafka;
  for (const char* name : {"--brokers", "--requests-topic", "--results-topic", "--dead-letter-topic",
                           "--window", "--keyed", "--run-id", "--no-wait", "--raw"})
    of_kafka.push_back(c->get_option(name)->group("Kafka"));
  const char* doors = "HTTP and gRPC";
  c->add_option(
       "--format", d.format,
       "HTTP: score (/score), v2 (JSON) or binary (V2 with binary tensors); default: v2 with --model, "
       "else score")
      ->check(CLI::IsMember({"score", "v2", "binary"}))
      ->type_name("FORMAT")
      ->group(doors);
  whole_number(c->add_option("--connections", d.connections,
                             "Connections; without --rate each has one request at a time")
                   ->capture_default_str(),
               1, 10'000)
      ->group(doors);
  finite_number(c->add_option("--seconds", d.seconds, "How long (default without --requests: 10)"), 0.1, 1e6,
                "SECONDS")
      ->group(doors);
  duration(c->add_option("--warmup", d.warmup_s, "Do not count what is sent in this time, e.g. 1s"))
      ->group(doors);
  duration(c->add_option("--target", d.target_s, "Predictions within it are in time (default: 100ms)"))
      ->group(doors);
  whole_number(c->add_option("--rows", d.rows, "Rows of a request")->capture_default_str(), 1, 100'000)
      ->group(doors);
  repeated(c->add_option("--header", d.headers, "Header, or metadata of gRPC; may be repeated")
               ->type_name("\"NAME: VALUE\""))
      ->group(doors);
  c->add_option("--api-key-file", d.api_key_file, "File of the API key (else TROUPE_API_KEY)")
      ->type_name("FILE")
      ->group(doors);
  c->add_option("--tls-ca", d.tls_ca, "PEM file of authorities to trust (default: the system's)")
      ->type_name("FILE")
      ->group(doors);
  auto* certificate =
      c->add_option("--tls-cert", d.tls_certificate, "PEM file of a client certificate (chain)")
          ->type_name("FILE")
          ->group(doors);
  auto* key = c->add_option("--tls-key", d.tls_key, "PEM file of its key")->type_name("FILE")->group(doors);
  certificate->needs(key);
  key->needs(certificate);
  c->final_callback([c, &d, doors, of_kafka] {
    if (d.wanted()) {
      for (const auto* option : of_kafka)
        if (option->count() > 0)
          throw CLI::ValidationError(option->get_name(),
                                     "is Kafka's; --http and --grpc have no place for it");
      return;
    }
    for (const auto* option : c->get_options())
      if (option->get_group() == doors && option->count() > 0)
        throw CLI::ValidationError(option->get_name(), "needs --http or --grpc");
  });
}

int load_door(const load_command_options& o, const std::vector<std::string>& given) {
  const traffic::plan p = plan_of(o);
  traffic::request_options request;
  request.model_version = o.load.model_version;
  request.priority = o.load.priority;
  request.timeout_us = o.load.timeout_ms * 1000;
  request.rows = o.door.rows;
  const auto rows =
      given.empty() ? traffic::generated_rows(o.load.distinct, o.load.features, o.load.seed) : given;
  const auto before = o.metrics.empty() ? std::nullopt : std::optional(cache_counts_of(o.metrics));
  progress_line line;
  traffic::observer who;
  who.stop = &stop_requested();
  who.on_progress = [&](const traffic::progress& at) {
    char text[160];
    std::snprintf(text, sizeof text, "%.0f s: sent %lld, answered %lld", at.seconds,
                  static_cast<long long>(at.sent), static_cast<long long>(at.answered));
    line.show(text);
  };
  traffic::report r;
  try {
    r = o.door.grpc.empty() ? over_http(o, rows, request, p, who) : over_grpc(o, rows, request, p, who);
  } catch (const std::invalid_argument& e) {  // rows that a tensor can't have
    throw usage_error((given.empty() ? "" : "--features-file: ") + std::string(e.what()));
  }
  line.clear();
  std::optional<double> hit_ratio;
  try {
    if (before) hit_ratio = cache_counts_of(o.metrics).ratio_since(*before);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "troupe: --metrics %s\n", e.what());
  }
  if (o.common.json)
    std::printf("%s\n", report_json(r, p, hit_ratio).c_str());
  else
    std::printf("%s", report_text(r, p, hit_ratio).c_str());
  const bool none = r.sent > 0 && r.predicted == 0;
  return r.lost > 0 || none || (o.fail_on_errors && r.errors > 0) ? failed : ok;
}

}  // namespace troupe::cli

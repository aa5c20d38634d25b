#pragma once
// `troupe load` over HTTP and gRPC: its options, what it sends, its report.

#include <optional>
#include <string>
#include <vector>

#include "runtime/traffic/run.hpp"

namespace CLI {
class App;
}

namespace troupe::cli {

struct load_command_options;

struct door_load_options {
  std::string http;    ///< URL; with a path other than / that one is posted to
  std::string grpc;    ///< host:port
  std::string format;  ///< of HTTP: score, v2 or binary; empty: v2 with a model, else score
  int connections = 16;
  double seconds = 0;
  double warmup_s = 0;
  double target_s = 0.1;
  std::size_t rows = 1;
  std::vector<std::string> headers;  ///< Name: value
  std::string api_key_file;          ///< else TROUPE_API_KEY
  std::string tls_ca, tls_certificate, tls_key;
  bool requests_given = false;  ///< --requests

  [[nodiscard]] bool wanted() const { return !http.empty() || !grpc.empty(); }
};

/// Adds the options, and says of those of Kafka that they do not go with them.
void add_door_load(CLI::App* c, load_command_options& o);

/// `rows`: those of --features-file, if any. Throws usage_error, std::runtime_error when nobody answers.
int load_door(const load_command_options& o, const std::vector<std::string>& rows);

[[nodiscard]] std::string report_json(const traffic::report& r, const traffic::plan& p,
                                      std::optional<double> cache_hit_ratio);
[[nodiscard]] std::string report_text(const traffic::report& r, const traffic::plan& p,
                                      std::optional<double> cache_hit_ratio);

}  // namespace troupe::cli

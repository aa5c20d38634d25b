#pragma once
// Sends spans to an OTLP/HTTP receiver (https://opentelemetry.io/docs/specs/otlp/#otlphttp), in JSON, from a
// thread of its own. What comes while the queue is full is dropped and counted; a receiver that is slow,
// wrong or gone costs nothing else.

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/observe/metrics.hpp"
#include "runtime/observe/otlp_json.hpp"

namespace troupe::observe {

struct otlp_options {
  std::string url;  ///< as otlp_traces_url makes it
  std::vector<std::pair<std::string, std::string>> headers;
  std::string tls_ca;  ///< file of authorities; empty: the system's
  otlp_sender sender;
  std::size_t queue = 4096;  ///< spans that wait
  std::size_t batch = 512;   ///< spans of one request at most; as many are sent without waiting longer
  std::chrono::milliseconds interval{1'000};
  std::chrono::milliseconds timeout{10'000};  ///< of one attempt
  int attempts = 5;                           ///< then the batch is given up
  std::chrono::milliseconds first_pause{1'000};
  std::chrono::milliseconds longest_pause{30'000};  ///< also of what Retry-After asks for
  std::chrono::milliseconds last_words{2'000};      ///< stop() sends so long what is left
  std::shared_ptr<observe::metrics> metrics;        ///< may be null
};

class otlp_exporter final : public span_sink {
 public:
  explicit otlp_exporter(otlp_options options);
  ~otlp_exporter() override;
  otlp_exporter(const otlp_exporter&) = delete;
  otlp_exporter& operator=(const otlp_exporter&) = delete;

  /// After stop() everything is dropped.
  void put(span&& one) override;
  /// Sends what is left, as long as last_words allows. Idempotent.
  void stop();

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

/// Sends one request without spans and waits for the answer, options.timeout at most. Empty: the receiver
/// took it; else why not, in one line.
[[nodiscard]] std::string otlp_fault(const otlp_options& options);

/// The receiver of traces at an endpoint as OTEL_EXPORTER_OTLP_ENDPOINT has it: with /v1/traces behind it,
/// unless it is there. Throws std::invalid_argument (one line) for what is no http or https URL.
[[nodiscard]] std::string otlp_traces_url(std::string_view endpoint);

/// "NAME=VALUE,NAME=VALUE" with percent-encoded values, as OTEL_EXPORTER_OTLP_HEADERS has it. Throws
/// std::invalid_argument, without showing a value.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> otlp_headers(std::string_view text);

}  // namespace troupe::observe

#pragma once
// Writes what goes back: result and error values, and the headers of results and dead letters
// (docs/formats.md).

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/codec/prediction_text.hpp"

namespace troupe::codec {

struct writer_options {
  bool iso_timestamp = false;  ///< `timestamp` as an ISO 8601 string (UTC, milliseconds) instead of epoch
                               ///< milliseconds, also where the request's batch does not ask for it
  std::uint64_t seed = 0;      ///< of the span ids; 0: the system's randomness
};

/// Owns small caches of texts; not thread safe, one an actor.
class result_writer {
 public:
  explicit result_writer(writer_options options = {});

  /// Appends the result value of `request` to `out`. `outputs`: request.rows x output width doubles,
  /// row-major, as the engine of request.model wrote them. False, and nothing appended, when one of them is
  /// not finite. `more`: further fields, each behind a comma.
  [[nodiscard]] bool prediction(std::string& out, const record& request, const double* outputs,
                                std::string_view more = {});

  /// Appends an error value. `message` is plain text (UTF-8; anything else in it is replaced).
  void error(std::string& out, const record& request, error_code code, std::string_view message);

  /// Appends Kafka Connect's __connect.errors.* headers for a dead letter of `request`, to follow the
  /// record's own. Names and values are good until the next call or the end of this writer, whichever is
  /// first; `message` must live as long.
  void dead_letter_headers(std::vector<header>& out, const record& request, error_code code,
                           std::string_view message);

  /// Appends what says that a dead letter's value was left out, and how long it was. Good as long as the
  /// headers of the dead_letter_headers call before.
  void dropped_value_headers(std::vector<header>& out, const record& request);

  /// Appends the headers that a result carries on: all of the request's but those that this service read. A
  /// `traceparent` gets a new span id (W3C Trace Context); an invalid one is left out, `tracestate` with it,
  /// and a `tracestate` that is invalid or too long by itself. Values point into the request, a new
  /// traceparent into this writer until the next call. `traceparent`: of a request that is traced, to be sent
  /// whether it came with one or not.
  void result_headers(std::vector<header>& out, std::span<const header> request_headers,
                      std::string_view traceparent = {});

  /// Appends to a dead letter's headers the traceparent of a trace that began here; one that the record
  /// brought stays as it is. Good as long as a new traceparent of result_headers.
  void trace_header(std::vector<header>& out, std::span<const header> request_headers,
                    std::string_view traceparent);

 private:
  /// What a value says about its model, escaped once.
  struct model_text {
    const model::loaded_model* model = nullptr;
    std::uint64_t digest = 0;
    std::string name;
    std::string version;
    std::string tail;           ///< ,"model_name":"..","model_version":".."
    std::string version_field;  ///< ,"model_version":".."
    prediction_text prediction;
  };
  const model_text& text_of(const model::loaded_model& model);
  [[nodiscard]] bool says_iso(const record& request) const;
  void timestamp(std::string& out, const record& request) const;
  std::uint64_t random();

  writer_options options_;
  std::uint64_t random_state_;
  std::vector<model_text> texts_;
  std::size_t oldest_ = 0;
  std::string buffer_;  ///< of prediction()
  std::array<char, 24> partition_{};
  std::array<char, 24> offset_{};
  std::array<char, 24> length_{};
  std::array<char, 55> traceparent_{};
};

}  // namespace troupe::codec

#pragma once
// The bodies that a load run sends: rows of features as /score, as the Open Inference Protocol (V2) in JSON
// and with binary tensors, and as its gRPC message. Numbers of V2 are FP32, in one input called `input`.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace troupe::traffic {

constexpr std::uint64_t usual_seed = 7;

/// Seeded rows as JSON lists, scaled like the training rows of the shipped diabetes models.
[[nodiscard]] std::vector<std::string> generated_rows(std::int64_t distinct, std::size_t features,
                                                      std::uint64_t seed = usual_seed);

struct request_options {
  std::string model;  ///< of gRPC
  std::string model_version;
  int priority = 0;             ///< 0: says nothing
  std::int64_t timeout_us = 0;  ///< 0: none
  std::size_t rows = 1;         ///< of a request
};

struct http_body {
  std::string bytes;
  std::size_t json = 0;  ///< of a binary one: how many of the bytes are JSON
};

// Request n has the rows from n times `rows` on, by turns. V2 throws std::invalid_argument, which names the
// row, for one that is no list of numbers or has another length than the first.

/// {"data": [rows]}
[[nodiscard]] std::vector<http_body> score_bodies(const std::vector<std::string>& rows,
                                                  const request_options& o);
[[nodiscard]] std::vector<http_body> v2_bodies(const std::vector<std::string>& rows,
                                               const request_options& o);
/// The reply is asked for as binary tensors, too.
[[nodiscard]] std::vector<http_body> binary_bodies(const std::vector<std::string>& rows,
                                                   const request_options& o);
/// ModelInferRequest, with raw contents.
[[nodiscard]] std::vector<std::string> grpc_messages(const std::vector<std::string>& rows,
                                                     const request_options& o);

}  // namespace troupe::traffic

#pragma once
// A model's predictions as JSON values: numbers, lists of them, objects by output name, or class labels.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "messages/batch.hpp"

namespace troupe::codec {

class appender;

/// What a prediction says about its model, escaped once.
struct prediction_text {
  prediction_text() = default;
  explicit prediction_text(const model::loaded_model& m);

  std::vector<std::string> classes;  ///< as JSON strings
  std::vector<std::string> parts;    ///< what stands before the value of each output
};

/// The prediction of each of `rows` rows, as a list when `list` (else there is one). `outputs`: rows x output
/// width finite doubles.
void append_predictions(appender& out, const model::loaded_model& m, const prediction_text& text,
                        std::size_t rows, bool list, const double* outputs);

/// [{"class":..,"probability":..}, ...] of each row, the likeliest first; the model's output has a top_k.
void append_top_k(appender& out, const model::loaded_model& m, const prediction_text& text, std::size_t rows,
                  bool list, const double* outputs);

/// "2024-11-15T05:53:20.123Z" with its quotes.
void append_iso_time(std::string& out, std::int64_t epoch_ms);

}  // namespace troupe::codec

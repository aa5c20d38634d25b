#pragma once
// The plain formats beside V2: POST /score, and /invocations as MLflow and SageMaker send it.
//
//   /score         {"data": [[1, 2, 3], ...]}: rows of numbers, or objects by feature name
//   /invocations   {"instances": [...]}, {"inputs": [...]}: rows
//                  {"inputs": {"age": [1, 2], "bmi": [3, 4]}}: columns, or tensors with the rows in front
//                  {"dataframe_split": {"columns": [...], "data": [[...], ...]}}
//                  {"dataframe_records": [{...}, ...]}
//                  text/csv: a line of feature names, then a line a row; an empty field is missing.
//                  Without that line, which is a row itself then: all features by position

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/codec/json_reader.hpp"
#include "runtime/codec/prediction_text.hpp"
#include "runtime/codec/request_head.hpp"
#include "runtime/codec/tensor_rows.hpp"

namespace troupe::codec {

/// The values of a record that has its model. After a fault `values` may hold part of them.
[[nodiscard]] request_fault read_score(std::string_view body, json_reader& json, record& r,
                                       record_batch& batch, const tensor_limits& most);
[[nodiscard]] request_fault read_invocations(std::string_view body, json_reader& json, record& r,
                                             record_batch& batch, const tensor_limits& most);
/// What the first record of CSV text is: the features' names, or a row. To be found out: a row has as many
/// fields as the model has features, none of them a name, and numbers where numbers belong; 0, 1, 2, ... are
/// no row, for so a table without names is written out.
enum class csv_head : std::uint8_t { unknown, names, row };
[[nodiscard]] request_fault read_csv(std::string_view body, record& r, record_batch& batch,
                                     const tensor_limits& most, csv_head head = csv_head::unknown);

/// For who gets the records one by one: what `first` is, or what is wrong with it as names of the model's
/// features, one that must be there but is not among that, and with the model itself.
[[nodiscard]] request_fault look_at_csv(std::string_view first, const model::loaded_model& m, csv_head& head);

/// What metadata says besides the record's own.
struct score_metadata {
  std::string_view deployment;
  nanos model_time = 0;
};

/// Owns texts of the models it met; not thread safe.
class score_writer {
 public:
  /// {"predictions":[...],"metadata":{"model_name", "model_version", "deployment", "request_id",
  /// "inference_time_ms", "timestamp", "num_predictions"}}; timestamp: ISO 8601, UTC. A model
  /// with top_k has "top_k" too, a list of {"class", "probability"} a row. False, and nothing appended: an
  /// output is not finite.
  [[nodiscard]] bool score(std::string& out, const record& request, const double* outputs,
                           const score_metadata& metadata, std::string_view explanation = {});
  /// {"predictions":[...]}
  [[nodiscard]] bool invocations(std::string& out, const record& request, const double* outputs);

 private:
  struct model_text {
    std::uint64_t digest = 0;
    std::string name, version;
    std::string head;  ///< ],"metadata":{"model_name":"..","model_version":"..","deployment":
    prediction_text prediction;
  };
  const model_text& text_of(const model::loaded_model& m);
  bool predictions(std::string& out, const record& request, const double* outputs, bool top_k);

  std::vector<model_text> texts_;
  std::size_t oldest_ = 0;
  std::string buffer_;
};

/// {"error":"..","trace":"..","metadata":{"request_id","timestamp","model_version"}}: trace is the stage that
/// the request ended in (parse, validate, route, queue, predict); model_version null where none was found.
/// `stage`: of a request that was refused for another reason than an error code says.
[[nodiscard]] std::string score_error(const record& request, error_code code, std::string_view message,
                                      std::string_view stage = {});

}  // namespace troupe::codec

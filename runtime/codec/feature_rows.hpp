#pragma once
// The rows of a request for any model. In JSON: a list of numbers, an object by feature name, a list of
// those; a table by its columns; or tensors (tensor_rows.hpp). And what each cell becomes, by whichever door
// it came.

#include <cstddef>
#include <string>
#include <string_view>

#include "messages/batch.hpp"
#include "runtime/codec/request_head.hpp"
#include "runtime/codec/tensor_rows.hpp"

namespace simdjson::dom {
class element;
}

namespace troupe::codec {

/// Fills r.rows, r.list and batch.values. `field`: what the request calls `given`, for messages. After a
/// fault `values` may hold part of it. The same goes for the next two, whose r.list is always true.
[[nodiscard]] request_fault read_features(const simdjson::dom::element& given, record& r, record_batch& batch,
                                          const tensor_limits& most, std::string_view field = "features");

/// A list of rows, each a list of values in the order of `columns`, a list of feature names.
[[nodiscard]] request_fault read_table(const simdjson::dom::element& columns,
                                       const simdjson::dom::element& rows, record& r, record_batch& batch,
                                       const tensor_limits& most, std::string_view field);

/// An object of lists: feature name to one value a row.
[[nodiscard]] request_fault read_columns(const simdjson::dom::element& given, record& r, record_batch& batch,
                                         const tensor_limits& most, std::string_view field);

/// None, if the model takes as many rows.
[[nodiscard]] request_fault check_rows(std::size_t rows, std::size_t width, const tensor_limits& most);

/// A number for a feature. NaN is a missing value: it becomes what model.yaml puts in its place, or stays one
/// where the model defines its meaning. Bounds are applied. Empty: x is the cell; else what is wrong, to
/// follow the cell's name: " is missing and ..." (`missing_is`: what the request has there instead).
[[nodiscard]] std::string take_number(const model::loaded_model& m, std::size_t column, double& x,
                                      std::string_view missing_is = "missing");
/// The number of a category; else what is wrong, as above.
[[nodiscard]] std::string take_category(const model::loaded_model& m, std::size_t column,
                                        std::string_view text, double& x);
/// Whether the feature's values are texts.
[[nodiscard]] bool takes_category(const model::loaded_model& m, std::size_t column);

/// "'x' is not a feature of model ...; did you mean ...?"
[[nodiscard]] std::string unknown_feature(const model::loaded_model& m, std::string_view name);
/// "model ... takes 3 features (a, b, c), got 2"
[[nodiscard]] std::string wrong_width(const model::loaded_model& m, std::size_t got);

}  // namespace troupe::codec

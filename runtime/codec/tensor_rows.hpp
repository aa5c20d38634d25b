#pragma once
// The features of a request to a model whose rows are tensors: an object by input name, or what the only
// input takes, nested by its shape or flat; a list of those is a list of rows. Texts are copied into the
// batch's arena, bytes are decoded from base64.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "messages/batch.hpp"
#include "runtime/codec/request_head.hpp"

namespace simdjson::dom {
class element;
}

namespace troupe::codec {

struct tensor_limits {
  std::uint32_t max_rows = 0;
  std::size_t max_values = 0;
};

/// The cell of a text that lives as long as the batch.
[[nodiscard]] double text_cell_in(record_batch& batch, std::string_view kept);

/// Fills r.rows, r.list and batch.values of a record whose model has tensor inputs. After a fault `values`
/// may hold part of it.
[[nodiscard]] request_fault read_tensors(const simdjson::dom::element& given, record& r, record_batch& batch,
                                         const tensor_limits& most, std::string_view field = "features");

/// Whether a request can be the bytes of the model's only input.
[[nodiscard]] bool takes_bytes(const model::loaded_model& m);

/// The record's whole value as the bytes of the model's only input.
[[nodiscard]] request_fault take_bytes(record& r, record_batch& batch, std::string_view content_type);

}  // namespace troupe::codec

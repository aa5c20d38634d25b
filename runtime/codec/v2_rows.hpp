#pragma once
// Inputs of a V2 request to rows of doubles, however they came (JSON, raw bytes, gRPC's typed contents).
//
// A model whose row is a list of numbers takes either one tensor `input` of shape [rows, features] (or
// [features], one row), or an input for each feature by its name, shape [rows] or [rows, 1]. A model with
// tensors takes each by its name, its own shape with the rows in front, or without: one row. Any numeric
// datatype is taken for a number; texts, categories and bytes are BYTES (bytes in JSON: base64).
//
// Missing values are NaN or, in JSON, null: taken where the model defines what they mean, as Kafka's null.
// Infinity never is. A feature that has no input of its own is missing too. JSON numbers of an FP32 input are
// rounded to floats, of FP16 and BF16 alike, so that JSON and binary data give the same answers.

#include <span>

#include "messages/batch.hpp"
#include "runtime/codec/request_head.hpp"
#include "runtime/codec/tensor_rows.hpp"
#include "runtime/codec/v2_tensor.hpp"

namespace troupe::codec {

/// The name of the only input of a model whose row is a list of numbers.
inline constexpr std::string_view v2_tabular_input = "input";

/// Fills r.rows, r.list (true) and batch.values of a record that has its model; texts go to the batch's
/// arena. `most` limits the rows, and the elements of all inputs together. A fault names the input and the
/// element; `values` may then hold part of it.
[[nodiscard]] request_fault read_v2_rows(std::span<const v2_input> inputs, record& r, record_batch& batch,
                                         const tensor_limits& most);

}  // namespace troupe::codec

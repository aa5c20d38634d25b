#pragma once
// ONNX Runtime through its C API, from a library that is named at run time. Its headers are not needed: the
// API is a table of functions whose order never changes (it only grows), and ten of them are used here, by
// position. See OrtApi in
// https://github.com/microsoft/onnxruntime/blob/main/include/onnxruntime/core/session/onnxruntime_c_api.h

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

class onnx_runtime {
 public:
  /// Opens `library`, then `model` with one thread. Throws std::runtime_error.
  onnx_runtime(const std::string& library, const std::string& model);
  onnx_runtime(const onnx_runtime&) = delete;
  onnx_runtime& operator=(const onnx_runtime&) = delete;

  /// `rows` x `width` doubles into the first input; `rows` x `out_width` floats or doubles, whichever the
  /// last output holds, are left in the buffer that answer() reads.
  void score(const double* in, std::size_t rows, std::size_t width, std::size_t out_width);
  double answer(std::size_t i) const {
    return double_output_ ? doubles_[i] : static_cast<double>(floats_[i]);
  }

  const std::string& version() const { return version_; }

 private:
  template <std::size_t Position, class... Args>
  void call(Args... args);

  const void* const* api_ = nullptr;
  std::string version_;
  void* environment_ = nullptr;
  void* session_ = nullptr;
  void* memory_ = nullptr;
  std::string input_;
  std::string output_;
  bool double_input_ = false;
  bool double_output_ = false;
  std::vector<float> narrow_;
  std::vector<float> floats_;
  std::vector<double> doubles_;
};

#pragma once
// Layers of a network over blocks of rows, in vector registers: a panel of outputs stays in the cache while
// four rows at a time pass by it.
//
// The sum of an output runs over the inputs in their order whatever the number of rows, so that a row has the
// same answer in every batch. Its last bits may differ from one processor to another (fused additions).

#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe::model {

enum class activation : std::uint8_t { relu, sigmoid, tanh };

/// What a kernel reads of a layer.
struct dense_view {
  const double* weights = nullptr;  ///< panels one after the other, each inputs x vectors x lanes
  const double* bias = nullptr;     ///< outputs, rounded up to whole vectors
  const double* added = nullptr;    ///< as `bias`, after the first rounding; none
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  bool round = false;  ///< to float32 after each operation
  bool relu = false;
};

/// What a kind of processor has. `exp` in there is within 2 units of the last place; beyond a double's range
/// it is 0 or infinite.
struct dense_kernels {
  std::size_t lanes = 0;    ///< doubles of a vector
  std::size_t vectors = 0;  ///< of a panel, at most; the last outputs have panels of 2 and 1
  void (*layer)(const dense_view& l, const double* in, std::size_t rows, double* out) = nullptr;
  /// `in` may be `out` for both.
  void (*activate)(activation how, bool round, const double* in, std::size_t count, double* out) = nullptr;
  void (*softmax)(const double* in, std::size_t rows, std::size_t width, double* out) = nullptr;
};

[[nodiscard]] const dense_kernels& portable_dense();
/// Only where has_avx2_dense() or has_avx512_dense().
[[nodiscard]] const dense_kernels& avx2_dense();
[[nodiscard]] const dense_kernels& avx512_dense();
[[nodiscard]] bool has_avx2_dense();
[[nodiscard]] bool has_avx512_dense();
/// The fastest of this processor.
[[nodiscard]] const dense_kernels& best_dense();

/// relu(x * weights + bias + added), each operation rounded to float32 where `round` says so.
class dense_layer {
 public:
  /// `weights`: outputs x inputs, row-major; `bias`: outputs.
  dense_layer(const std::vector<double>& weights, const std::vector<double>& bias, std::size_t inputs,
              bool round, const dense_kernels& kernels = best_dense());

  /// One number for each output, added behind the bias. Once, and before relu().
  void add(const std::vector<double>& more);
  void relu() { relu_ = true; }

  /// rows x inputs to rows x outputs; they do not overlap.
  void run(const double* in, std::size_t rows, double* out) const;

 private:
  struct alignas(64) line {
    double v[8];
  };
  using numbers = std::vector<line>;
  [[nodiscard]] static numbers padded(const std::vector<double>& of);

  const dense_kernels* kernels_;
  numbers weights_;
  numbers bias_;
  numbers added_;
  std::size_t inputs_;
  std::size_t outputs_;
  bool round_;
  bool relu_ = false;
};

}  // namespace troupe::model

#pragma once
// ONNX Runtime as a library that is opened when a model needs it, by name, at run time: nothing of it is
// needed to build. Its C API is a table of functions that only ever grows at its end, so the functions used
// here are named by their positions in OrtApi
// (https://github.com/microsoft/onnxruntime/blob/main/include/onnxruntime/core/session/onnxruntime_c_api.h).
// Any version from 1.17 on does.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/input_step.hpp"
#include "runtime/model/tensor.hpp"

namespace troupe::model::onnxruntime {

struct session_options {
  std::filesystem::path library;  ///< empty: the one that scripts/deps put there, else the system's
  int threads = 1;                ///< within an operator
  /// In order of preference; cpu, cuda, tensorrt, openvino. What the library lacks is a load_error.
  std::vector<std::string> providers = {"cpu"};
};

/// Where the library would be taken from: `wanted`, or the prefix of scripts/deps, or the name that the
/// system's loader knows.
[[nodiscard]] std::filesystem::path library_path(const std::filesystem::path& wanted);

class library;

/// A loaded graph. Immutable: any number of threads may run it at once.
class session {
 public:
  /// `file`: the bytes of an ONNX file, needed during the call only. Throws load_error: the library is
  /// missing, too old or none; the graph is one it cannot load.
  session(std::string_view file, const session_options& how);
  session(const session&) = delete;
  session& operator=(const session&) = delete;
  ~session();

  [[nodiscard]] const std::vector<tensor_spec>& inputs() const { return inputs_; }
  [[nodiscard]] const std::vector<tensor_spec>& outputs() const { return outputs_; }
  [[nodiscard]] const std::string& library_version() const;

  /// All inputs in, the outputs `wanted` by name out (none: all that are tensors). Throws model_error.
  [[nodiscard]] std::vector<tensor> run(std::span<const tensor> given,
                                        std::span<const std::string> wanted = {}) const;

 private:
  friend class table;
  friend class bare_run;
  const library* library_;
  void* handle_ = nullptr;
  std::vector<tensor_spec> inputs_;
  std::vector<tensor_spec> outputs_;
};

/// What a graph leaves open, or is to be given otherwise than as numbers.
struct table_hints {
  std::size_t columns = 0;  ///< of a graph that leaves its width open; 0: unknown
  /// By input: the dimensions of a row, where the graph leaves more open than the number of rows.
  std::map<std::string, std::vector<std::int64_t>> shapes = {};
  input_step step = {};                   ///< makes the numbers of the only input out of bytes
  std::vector<std::string> outputs = {};  ///< those to answer with; none: chosen by their types
  bool softmax = false;                   ///< the answer holds logits
};

/// How a session reads rows and answers them.
struct table_spec {
  std::size_t columns = 0;         ///< cells of a row
  std::vector<std::string> names;  ///< of the columns, where each has an input of its own
  std::size_t width = 0;           ///< doubles of an answer
  bool classification = false;
  std::vector<std::string> classes;           ///< where the graph's answer itself names them (a map)
  std::vector<tensor_input> inputs = {};      ///< none: a row is a list of numbers
  std::vector<output_spec::part> parts = {};  ///< of an answer of several outputs

  bool operator==(const table_spec&) const = default;
};

/// Rows of cells through a session. Inputs: one of [N, k] of numbers, or k inputs of one such column each,
/// make a table; any other inputs of [N, ...] of numbers or strings are tensors. Outputs: tensors of numbers
/// (regression), or a label and probabilities, as a tensor or as maps. A graph with a fixed number of rows is
/// run as often as it takes, its last rows padded.
class table {
 public:
  /// Scores a row of zeros to learn the width of an answer. Throws load_error.
  table(std::string_view file, const session_options& how, table_hints hints);

  [[nodiscard]] const table_spec& spec() const { return spec_; }
  [[nodiscard]] const session& graph() const { return session_; }

  /// `out`: rows.size() x spec().width. Any number of threads at once. Throws model_error, row_error where a
  /// row's own contents are at fault.
  void score(std::span<const double* const> rows, double* out) const;

 private:
  /// An input and where a row has it.
  struct plan {
    std::vector<std::int64_t> shape;  ///< of a row
    std::size_t begin = 0;
    std::size_t size = 0;  ///< elements a row
  };

  void describe_inputs();
  void describe_table();
  void describe_tensors();
  [[nodiscard]] std::vector<std::int64_t> row_shape(const tensor_spec& input) const;
  void choose_outputs();
  class made;  ///< what a run answered
  [[nodiscard]] made run(std::span<const double* const> rows, std::size_t padded) const;
  std::size_t width_of(const made& first, std::size_t part, std::size_t padded);
  void read(const made& answers, std::size_t rows, std::size_t padded, double* out) const;
  void read_maps(void* answer, std::size_t rows, std::size_t padded, double* out) const;

  session session_;
  table_hints hints_;
  table_spec spec_;
  std::vector<plan> plans_;           ///< by input
  std::size_t fixed_rows_ = 0;        ///< 0: any number
  std::vector<std::size_t> outputs_;  ///< by part, the session's
  std::vector<std::size_t> widths_;   ///< by part
  bool maps_ = false;
};

/// The library's own Run() over one prepared batch of zeros of a graph with one float32 input of
/// [rows, columns], for comparison: nothing is converted or copied.
class bare_run {
 public:
  bare_run(const session& s, std::size_t rows, std::size_t columns);
  bare_run(const bare_run&) = delete;
  bare_run& operator=(const bare_run&) = delete;
  ~bare_run();
  void operator()() const;

 private:
  const session& session_;
  std::vector<float> data_;
  void* input_ = nullptr;
};

}  // namespace troupe::model::onnxruntime

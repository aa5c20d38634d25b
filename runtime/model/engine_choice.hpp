#pragma once
// Which engine scores a model: the built-in ones where they know every operator and answer as ONNX Runtime
// does, else ONNX Runtime.

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/graph.hpp"
#include "runtime/model/onnxruntime.hpp"
#include "runtime/policy/time.hpp"

namespace troupe::model {

enum class engine_mode {
  automatic,   ///< built-in if it can and, where the library is there, agrees with it on probe rows
  builtin,     ///< built-in, or the model is refused
  onnxruntime  ///< ONNX Runtime for every model
};

struct engine_options {
  engine_mode mode = engine_mode::builtin;
  onnxruntime::session_options session;
  bool isolated = true;                         ///< in a process of its own (engine_process.hpp)
  policy::nanos timeout = 10 * policy::second;  ///< of a batch, where isolated
  std::vector<std::string> command;             ///< of the process; empty: this program's own
  /// Told in one line what happens to the process of that model (the first argument); on another thread.
  std::function<void(const std::string&, const std::string&)> tell;
};

struct chosen_engine {
  compiled_graph graph;
  std::string why;
};

/// Rows that tell engines apart: `examples`, then rows whose values lie on, just below and just above the
/// thresholds of the graph's trees, then rows around zero. Seeded, so always the same.
[[nodiscard]] std::vector<std::vector<double>> probe_rows(const onnx::graph& g, std::size_t columns,
                                                          std::span<const std::vector<double>> examples);

/// `name` is for messages. `examples`: rows that came with the model; those of another width are left out.
/// Throws load_error without naming the file.
[[nodiscard]] chosen_engine choose_engine(std::string_view file, const graph_hints& hints,
                                          const onnx::limits& most, const engine_options& how,
                                          const std::string& name,
                                          std::span<const std::vector<double>> examples = {});

/// MLflow's input_example.json, {"columns": [...], "data": [[...]]} or {"inputs": [[...]]}, or a plain list
/// of rows. What holds no rows of numbers gives none.
[[nodiscard]] std::vector<std::vector<double>> read_examples(std::string_view text);

}  // namespace troupe::model

#pragma once
// ONNX Runtime in a process of its own: a graph that crashes, hangs or eats memory there takes no request
// with it but the batch it was given.
//
// The parent passes the model's bytes in a sealed memfd, so that a child started again scores the very same
// model whatever happened to the file, and one buffer of fixed size for rows and answers. A batch is one
// request and one reply over a SOCK_SEQPACKET pair; the numbers lie in the buffer. Nothing that the child
// says is believed: sizes, ids and row counts are checked, and a child that lies is killed. The child holds
// no other descriptor of the parent's, none of its configuration from the environment, and dies with it.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/model.hpp"
#include "runtime/model/onnxruntime.hpp"
#include "runtime/policy/restart_policy.hpp"
#include "runtime/policy/time.hpp"

namespace troupe::model {

/// The process that scores ended, hung or lied within this batch; it is being started again. The batch may be
/// given once more, or be what ended it.
class engine_died : public model_error {
 public:
  using model_error::model_error;
};

/// No process was there to score within the limit: this says nothing about the rows.
class engine_away : public model_error {
 public:
  using model_error::model_error;
};

struct engine_process_options {
  /// What to run; the socket is its descriptor 3. Empty: this program's own `engine` command.
  std::vector<std::string> command;
  onnxruntime::session_options session;
  policy::nanos batch_limit = 10 * policy::second;  ///< for score(), the wait for its turn included
  policy::nanos load_limit = 60 * policy::second;   ///< from the start of a child until it is ready
  /// Of a child; one that has scored a batch is followed after the first delay.
  policy::restart_config restarts = {
      .first_delay = 20 * policy::millisecond, .max_delay = 2 * policy::second, .quiet = 10 * policy::second};
  /// The child takes what processor time others leave (nice 19): for one that is only compared with.
  bool background = false;
  std::size_t buffer_bytes = std::size_t{4} << 20;  ///< a batch that does not fit is scored in parts
  /// Told in one line what happened to the child; called on a thread of the engine's.
  std::function<void(const std::string&)> tell;
};

class engine_process {
 public:
  /// Starts the child and returns when it has loaded and warmed up. Throws load_error.
  engine_process(std::string_view file, onnxruntime::table_hints hints, engine_process_options how);
  engine_process(const engine_process&) = delete;
  engine_process& operator=(const engine_process&) = delete;
  /// Ends the child.
  ~engine_process();

  [[nodiscard]] const onnxruntime::table_spec& spec() const;

  /// Any number of threads; one batch at a time. Returns or throws within batch_limit: engine_died where the
  /// batch was with a child that failed, model_error where the graph refused it,
  /// engine_away where no child was ready.
  void score(std::span<const double* const> rows, double* out) const;

  [[nodiscard]] pid_t pid() const;  ///< of the child that is ready; 0: none is
  [[nodiscard]] std::uint64_t crashes() const;

 private:
  class body;
  std::unique_ptr<body> body_;
};

/// The child's side: loads what it is told to over `socket`, scores until the other end is closed. Returns
/// the exit status.
int serve_engine(int socket);

}  // namespace troupe::model

#pragma once
// What parent and child say to each other (engine_process.hpp), each in one packet of a SOCK_SEQPACKET pair:
//
//   parent: job, then JSON {session options and table hints}; with the model's memfd
//   child:  part::more* part::last, a JSON {table_spec} in pieces; or part::failed and why
//   parent: buffer; with its memfd: capacity x columns doubles of rows, capacity x width doubles of answers,
//           text_bytes of texts. A cell that is a text holds its place and length there: offset << 32 | size.
//   child:  part::ready, or part::failed and why
//   then for each batch   parent: request   child: reply, then the reason if it failed

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/model/onnxruntime.hpp"

namespace troupe::model::wire {

constexpr std::uint32_t magic = 0x54524531;  // TRE1
constexpr std::size_t most_packet = 48U << 10;
constexpr std::size_t most_description = 16U << 20;

struct job {
  std::uint32_t magic = wire::magic;
  std::uint32_t zero = 0;
  std::uint64_t model_bytes = 0;
};

enum class part : std::uint32_t { more = 1, last = 2, failed = 3, ready = 4 };

struct buffer {
  std::uint32_t magic = wire::magic;
  std::uint32_t capacity = 0;    ///< rows
  std::uint64_t bytes = 0;       ///< of all
  std::uint64_t text_bytes = 0;  ///< of the texts, at the end
};

struct request {
  std::uint64_t id = 0;
  std::uint32_t rows = 0;
  std::uint32_t zero = 0;
};

enum class result : std::uint32_t { scored = 0, refused = 1, bad_row = 2 };

struct reply {
  std::uint64_t id = 0;
  std::uint32_t rows = 0;
  result said = result::scored;
};

/// What the child is to load and how, as JSON.
struct work {
  onnxruntime::session_options session;
  onnxruntime::table_hints hints;
};
[[nodiscard]] std::string text_of(const work& w);
/// Throws load_error.
[[nodiscard]] work work_from(std::string_view text);

[[nodiscard]] std::string text_of(const onnxruntime::table_spec& s);
/// Throws load_error for what no graph can be: the text comes from a process that is not trusted.
[[nodiscard]] onnxruntime::table_spec spec_from(std::string_view text);

}  // namespace troupe::model::wire

#pragma once
// What parent and child say to each other (engine_process.hpp), each in one packet of a SOCK_SEQPACKET pair:
//
//   parent: job, then JSON {library, threads, providers, columns}; with the model's memfd
//   child:  part::more* part::last, a JSON {columns, names, width, classification, classes} in pieces;
//           or part::failed and why
//   parent: buffer; with its memfd: capacity x columns doubles of rows, capacity x width doubles of answers
//   child:  part::ready, or part::failed and why
//   then for each batch   parent: request   child: reply, then the reason if it failed

#include <cstddef>
#include <cstdint>

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
  std::uint32_t capacity = 0;  ///< rows
  std::uint64_t bytes = 0;
};

struct request {
  std::uint64_t id = 0;
  std::uint32_t rows = 0;
  std::uint32_t zero = 0;
};

struct reply {
  std::uint64_t id = 0;
  std::uint32_t rows = 0;
  std::uint32_t failed = 0;
};

}  // namespace troupe::model::wire

#pragma once
// JSON text to simdjson's tree, with what its reader is too strict for said clearly: NaN, Infinity and
// numbers beyond a double stand in the tree as the marker strings of dom_text.hpp, long integers as doubles.

#include <cstddef>
#include <memory>
#include <string_view>

namespace simdjson::dom {
class element;
}

namespace troupe::codec {

/// Nesting that a request may have; the request object itself is the first level.
inline constexpr std::size_t max_depth = 64;

/// Not thread safe. Keeps the buffers that usual documents need.
class json_reader {
 public:
  json_reader();
  ~json_reader();
  json_reader(json_reader&&) noexcept;
  json_reader& operator=(json_reader&&) noexcept;

  /// Reads one document: RFC 8259, UTF-8, at most max_depth levels; a byte order mark at its start is
  /// skipped. Empty: `root` is good until the next read. Else what is wrong, to follow a subject: " is
  /// empty". Throws nothing but a failed allocation.
  [[nodiscard]] std::string_view read(std::string_view json, simdjson::dom::element& root);

  /// The last document has tokens that JSON has no number for; markers stand in their places.
  [[nodiscard]] bool repaired() const;
  /// Gives back what an unusually large document needed.
  void shrink();

 private:
  class work;
  std::unique_ptr<work> work_;
};

/// Whether a marker stands anywhere in `e`.
[[nodiscard]] bool holds_not_a_number(const simdjson::dom::element& e);

/// The text of the last top-level number under `key` in a valid JSON object; empty if there is none (or the
/// key is written with escapes). Numbers as ids and versions are taken by their text: 2.10 is not 2.1.
[[nodiscard]] std::string_view number_text(std::string_view json, std::string_view key);

}  // namespace troupe::codec

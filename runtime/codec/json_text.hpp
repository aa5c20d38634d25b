#pragma once
// Pieces of JSON text: what the parser keeps and the writer writes.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::codec {

/// Appends `text` as the inside of a JSON string: quotes, backslashes and control characters escaped, what is
/// not valid UTF-8 replaced by U+FFFD.
void append_escaped(std::string& out, std::string_view text);

/// The same with quotes around it.
void append_quoted(std::string& out, std::string_view text);

/// Whether `text` can stand between quotes as it is: valid UTF-8 with nothing to escape.
[[nodiscard]] bool plain(std::string_view text);

/// Shortest text that reads back as the same double. Finite values only.
void append_number(std::string& out, double value);
void append_number(std::string& out, std::int64_t value);

/// For messages to people: quoted with ', cut after 64 bytes, control characters and invalid UTF-8 as '?'.
[[nodiscard]] std::string shown(std::string_view text);

/// Levenshtein distance; anything above `limit` is reported as limit + 1. Both at most 64 bytes, else limit
/// + 1.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b, std::size_t limit);

/// Of `names` (as `text` reads each), the one with the fewest edits from `name`: at most 2, or a third of its
/// length. Empty if there is none.
template <class Names, class Text>
[[nodiscard]] std::string_view nearest(std::string_view name, const Names& names, Text text) {
  std::string_view best;
  std::size_t bound = 1 + (name.size() > 8 ? name.size() / 3 : name.size() > 3 ? 2 : 1);
  for (const auto& item : names) {
    const std::string_view candidate = text(item);
    if (bound == 0) break;
    const std::size_t distance = edit_distance(name, candidate, bound - 1);
    if (distance < bound) {
      bound = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace troupe::codec

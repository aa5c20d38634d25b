#pragma once
// Durations and sizes as people write them.
//
//   duration  250ms  10s  1h  1h30m  1.5s     units ns, us, ms, s, m, h, d; a bare 0 is allowed; not negative
//   size      512  64KiB  10MiB  1GiB  1.5MiB  units B, KiB, MiB, GiB, TiB (1024) and KB, MB, GB, TB (1000)

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::config {

/// Nanoseconds; nullopt when the text is no duration or does not fit into 64 bits.
[[nodiscard]] std::optional<std::int64_t> parse_duration(std::string_view text);
/// The shortest text that parse_duration reads back as the same number: 1h30m, 250ms, 0.
[[nodiscard]] std::string format_duration(std::int64_t nanoseconds);

/// Bytes; nullopt when the text is no size, is no whole number of bytes, or does not fit into 64 bits.
[[nodiscard]] std::optional<std::size_t> parse_size(std::string_view text);
/// The largest binary unit that divides it: 16MiB, 1536KiB, 1000 (bytes without a unit).
[[nodiscard]] std::string format_size(std::size_t bytes);

}  // namespace troupe::config

#pragma once
// What the librdkafka that is linked says of its own properties: names, aliases, and what they may be.

#include <string>
#include <string_view>
#include <vector>

namespace troupe::kafka {

/// All names, aliases included.
[[nodiscard]] std::vector<std::string> property_names();

/// The name that an alias stands for (queue.buffering.max.ms of linger.ms), else the name itself.
[[nodiscard]] std::string canonical_property(const std::string& name);

/// "0 to 900000", "none, gzip, snappy, lz4 or zstd"; empty where librdkafka does not tell.
[[nodiscard]] std::string allowed_values(const std::string& name);

/// Whether it is a number outside of the property's bounds, or begins as one and goes on as something else:
/// librdkafka takes 5s for 5, and a number that is too large for another one.
[[nodiscard]] bool wrong_number(const std::string& name, std::string_view value);

}  // namespace troupe::kafka

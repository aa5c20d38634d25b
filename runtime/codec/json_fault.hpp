#pragma once
// Where a text stops being JSON, for whoever has to mend it.

#include <string>
#include <string_view>

namespace troupe::codec {

/// `why` is json_reader's complaint about `json`. The same, with line and column (in bytes, from 1), and what
/// was expected there; as it is where neither can be told. Reads the text once more, so only after a failure;
/// no text of more than 1 MiB.
[[nodiscard]] std::string json_fault(std::string_view json, std::string_view why);

}  // namespace troupe::codec

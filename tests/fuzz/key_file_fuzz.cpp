// Any bytes as the file of API keys: clients within the limits, or one line that says what is wrong.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/guard/key_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace troupe::guard;
  try {
    for (const auto& c : parse_key_file({reinterpret_cast<const char*>(data), size}, "keys"))
      if (!is_client_name(c.name) || (c.burst && *c.burst < 1)) std::abort();
  } catch (const key_file_error& e) {
    if (std::string_view(e.what()).empty()) std::abort();
  }
  return 0;
}

// Any bytes as a token and, behind a newline, as a key set: both end with a result or a refusal, and no token
// is good without a signature of a key that the fuzzer does not have.

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "runtime/guard/jwt.hpp"

namespace {

using namespace troupe::guard;

/// The keys of RFC 7515, A.2 and A.3, whose private parts sign only its own examples there.
const key_set& known() {
  static const auto set = key_set::parse(
      R"({"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
      R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})");
  return *set;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto line = text.find('\n');
  const std::string_view token = text.substr(0, line);
  token_rules rules;
  rules.audience = "troupe";
  if (check_token(token, known(), rules, 1'700'000'000).fault == token_fault::none) std::abort();
  (void)looks_like_token(token);
  try {
    const auto set = key_set::parse(line == std::string_view::npos ? text : text.substr(line + 1));
    if (set->size() == 0) std::abort();
    (void)check_token(token, *set, {}, 1'700'000'000);
  } catch (const key_set_error&) {
  }
  return 0;
}

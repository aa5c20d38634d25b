// Any bytes as a request: refused, or understood; and chunks come out the same however they were cut.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/http/content_coding.hpp"
#include "runtime/http/request_head.hpp"

namespace {

using namespace troupe::http;

struct outcome {
  int refused = 0;
  bool done = false;
  std::size_t used = 0;
  std::string body;
  friend bool operator==(const outcome&, const outcome&) = default;
};

/// The chunks behind `head`, shown `cut` bytes more at a time.
outcome chunks(std::string_view head, std::string_view rest, std::size_t cut) {
  head_parser parser;
  std::vector<field_view> fields;
  request_head out;
  if (parser.head(head, fields, out)) std::abort();
  outcome made;
  byte_buffer body;
  for (std::size_t shown = 0; shown < rest.size() && !made.done && made.refused == 0;) {
    shown = std::min(rest.size(), shown + cut);
    // What is left over is moved, as a connection does.
    const std::string kept(rest.substr(made.used, shown - made.used));
    const auto step = parser.chunks(kept, body, 1000);
    if (step.used > kept.size()) std::abort();
    made.used += step.used;
    made.done = step.done;
    made.refused = step.refused.status;
  }
  if (body.size() > 1000) std::abort();
  made.body = body.view();
  if (made.refused != 0) made = {made.refused, false, 0, ""};  // where it was seen depends on the cuts
  return made;
}

bool within(std::string_view part, std::string_view all) {
  return part.empty() || (part.data() >= all.data() && part.data() + part.size() <= all.data() + all.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // In memory of its exact size, so that a read beyond it is caught.
  const auto exact = std::make_unique<char[]>(size);
  if (size > 0) std::memcpy(exact.get(), data, size);
  const std::string_view bytes(exact.get(), size);
  byte_buffer plain;
  for (const coding which : {coding::gzip, coding::deflate}) {
    plain.clear();
    if (inflate_all(which, bytes, 1000, plain) == inflated::ok && plain.size() > 1000) std::abort();
  }
  const auto end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos) return 0;
  const std::string_view head = bytes.substr(0, end + 4);
  head_parser parser;
  std::vector<field_view> fields;
  request_head out;
  if (const refusal bad = parser.head(head, fields, out)) {
    if (bad.status < 400 || bad.status > 499 || bad.why.empty()) std::abort();
    return 0;
  }
  for (const auto& [name, value] : fields) {
    if (!within(name, head) || !within(value, head) || name.empty()) std::abort();
    if (value.find_first_of("\r\n") != std::string_view::npos) std::abort();
  }
  if (out.method.empty() || out.path.empty()) std::abort();
  if (out.body != request_head::framing::chunked) return 0;
  const std::string_view rest = bytes.substr(end + 4);
  const outcome whole = chunks(head, rest, size + 1);
  for (const std::size_t cut : {std::size_t{1}, std::size_t{3}, std::size_t{7}})
    if (!(chunks(head, rest, cut) == whole)) std::abort();
  return 0;
}

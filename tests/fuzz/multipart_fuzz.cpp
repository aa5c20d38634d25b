// Any bytes as an upload form: the first line is the content type, the rest the body. What is read lies
// within the body, and written anew as a form of its own it reads the same.

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/codec/multipart.hpp"

namespace {

using namespace troupe;

#define MUST(condition) \
  if (!(condition)) std::abort()

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const auto line = all.find('\n');
  if (line == std::string_view::npos) return 0;
  const std::string_view type = all.substr(0, line);
  // In memory of its exact size, so that a read beyond it is caught.
  const std::size_t left = size - line - 1;
  const auto copy = std::make_unique<char[]>(left);
  all.substr(line + 1).copy(copy.get(), left);
  const std::string_view body(copy.get(), left);

  codec::uploaded_file file;
  const auto fault = codec::read_upload(body, type, file);
  MUST(static_cast<bool>(fault) == !fault.message.empty());
  if (fault) return 0;
  MUST(file.field == "image" || file.field == "file");
  for (const auto part : {file.field, file.filename, file.content_type, file.bytes})
    MUST(part.data() == nullptr ||
         (part.data() >= body.data() && part.data() + part.size() <= body.data() + left));

  std::string boundary = "b";
  while (file.bytes.find("--" + boundary) != std::string_view::npos && boundary.size() < 60) boundary += "x";
  if (file.bytes.find("--" + boundary) != std::string_view::npos) return 0;
  std::string again = "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" +
                      std::string(file.field) + "\"\r\n\r\n" + std::string(file.bytes) + "\r\n--" + boundary +
                      "--\r\n";
  codec::uploaded_file second;
  MUST(!codec::read_upload(again, "multipart/form-data; boundary=" + boundary, second));
  MUST(second.field == file.field && second.bytes == file.bytes);
  return 0;
}

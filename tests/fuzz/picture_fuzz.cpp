// Any bytes as a picture: a picture of the size it says, or a refusal.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "runtime/model/input_step.hpp"
#include "runtime/model/picture.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace troupe::model;
  constexpr std::size_t most = 100'000;
  // In memory of its exact size, so that a read beyond it is caught.
  const auto exact = std::make_unique<char[]>(size);
  if (size > 0) std::memcpy(exact.get(), data, size);
  const std::string_view bytes(exact.get(), size);
  try {
    const picture p = decode(bytes, most);
    if (p.width == 0 || p.height == 0 || p.width * p.height > most || p.rgb.size() != p.width * p.height * 3)
      std::abort();
  } catch (const row_error&) {
    return 0;
  }
  for (const fit how : {fit::crop, fit::pad, fit::stretch}) {
    input_step s;
    s.is = input_step::kind::image;
    s.image.height = 5;
    s.image.width = 9;
    s.image.how = how;
    s.image.max_pixels = most;
    std::vector<float> out(s.size());
    try {
      apply(s, bytes, out.data());
    } catch (const row_error&) {
      std::abort();
    }
    for (const float x : out)
      if (!(x >= 0 && x <= 255)) std::abort();
  }
  return 0;
}

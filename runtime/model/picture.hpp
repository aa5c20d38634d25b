#pragma once
// Pictures: JPEG (libjpeg-turbo) and PNG (libpng) to 8-bit RGB, and their resizing.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace troupe::model {

struct picture {
  std::size_t width = 0;
  std::size_t height = 0;
  std::vector<std::uint8_t> rgb;  ///< height x width x 3
};

/// Transparent parts come out on black; EXIF orientation is not applied. Throws row_error: neither JPEG nor
/// PNG, damaged, more than `max_pixels`.
[[nodiscard]] picture decode(std::string_view bytes, std::size_t max_pixels);

/// Separable convolution with a triangle (bilinear) or Catmull-Rom-like (bicubic, a = -0.5) filter whose
/// support grows with the factor of reduction, rounded to 8 bits after each direction, as Pillow's
/// Image.resize.
[[nodiscard]] picture resize(const picture& from, std::size_t width, std::size_t height, bool bicubic);

}  // namespace troupe::model

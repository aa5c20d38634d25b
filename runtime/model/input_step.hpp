#pragma once
// How the bytes of a request become the numbers of a model's input: an image is decoded, resized and
// normalised, a file's ends are taken. What a model.yaml says under `input:` (docs/models.md).

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/model/model.hpp"

namespace troupe::model {

/// The request's own fault: its row cannot be scored by this model, whatever engine there is.
class row_error : public model_error {
 public:
  using model_error::model_error;
};

enum class fit : std::uint8_t {
  stretch,  ///< to the size, whatever the sides were
  crop,     ///< the shorter side to `resize`, then the middle of the size
  pad       ///< the longer side to the size, the rest filled with 0 on both sides
};

/// JPEG or PNG to numbers. Filters as Pillow's do: the filter widens where a picture shrinks.
struct image_step {
  std::size_t height = 0;
  std::size_t width = 0;
  std::size_t channels = 3;  ///< 3 or 1
  bool bgr = false;
  bool channels_last = false;  ///< [height, width, channels] instead of [channels, height, width]
  bool bicubic = false;        ///< instead of bilinear
  fit how = fit::crop;
  std::size_t resize = 0;  ///< the shorter side before a crop; 0: no margin
  /// (value - mean) / scale by channel, of values from 0 to 255.
  std::array<double, 3> mean = {0, 0, 0};
  std::array<double, 3> scale = {1, 1, 1};
  std::size_t max_pixels = 50'000'000;  ///< of the picture sent

  [[nodiscard]] std::vector<std::int64_t> shape() const;
};

/// The first and the last bytes, each a number from 0 to 255, the rest `padding`: behind the first, before
/// the last.
struct bytes_step {
  std::size_t first = 0;
  std::size_t last = 0;
  double padding = 0;
  /// White space (ASCII) is passed over at the beginning and at the end, within the first and last `window`
  /// bytes.
  bool strip = false;
  std::size_t window = 4096;
};

/// At most one of the two is used.
struct input_step {
  enum class kind : std::uint8_t { none, image, bytes };
  kind is = kind::none;
  image_step image;
  bytes_step bytes;

  [[nodiscard]] std::size_t size() const;  ///< numbers a row
};

/// `out`: size() numbers. Throws row_error, whose text says what is wrong with the bytes.
void apply(const input_step& step, std::string_view bytes, float* out);

}  // namespace troupe::model

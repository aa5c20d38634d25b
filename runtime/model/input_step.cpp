#include "runtime/model/input_step.hpp"

#include <algorithm>
#include <cmath>

#include "runtime/model/picture.hpp"

namespace troupe::model {
namespace {

std::size_t scaled(std::size_t side, std::size_t by, std::size_t over) {
  return std::max<std::size_t>(1, side * by / over);
}

/// The picture at the size asked for; `at` is where its corner lies in the frame, or the frame's in it.
struct placed {
  picture p;
  std::size_t left = 0;
  std::size_t top = 0;
};

placed place(picture p, const image_step& s) {
  if (s.how == fit::stretch) return {resize(p, s.width, s.height, s.bicubic), 0, 0};
  if (s.how == fit::pad) {
    const bool wide = p.width * s.height >= p.height * s.width;
    const std::size_t w = wide ? s.width : scaled(p.width, s.height, p.height);
    const std::size_t h = wide ? scaled(p.height, s.width, p.width) : s.height;
    return {resize(p, w, h, s.bicubic), (s.width - w) / 2, (s.height - h) / 2};
  }
  const std::size_t shorter = std::min(p.width, p.height);
  std::size_t w = 0;
  std::size_t h = 0;
  if (s.resize > 0) {
    w = scaled(p.width, s.resize, shorter);
    h = scaled(p.height, s.resize, shorter);
  } else if (p.width * s.height >= p.height * s.width) {
    h = s.height;
    w = std::max(s.width, scaled(p.width, s.height, p.height));
  } else {
    w = s.width;
    h = std::max(s.height, scaled(p.height, s.width, p.width));
  }
  placed made{resize(p, w, h, s.bicubic), 0, 0};
  made.left = (w - s.width) / 2;
  made.top = (h - s.height) / 2;
  return made;
}

void fill(const image_step& s, std::string_view bytes, float* out) {
  const placed at = place(decode(bytes, s.max_pixels), s);
  const bool pad = s.how == fit::pad;
  for (std::size_t y = 0; y < s.height; ++y) {
    for (std::size_t x = 0; x < s.width; ++x) {
      const bool inside =
          !pad || (x >= at.left && x < at.left + at.p.width && y >= at.top && y < at.top + at.p.height);
      const std::size_t px = pad ? x - at.left : x + at.left;
      const std::size_t py = pad ? y - at.top : y + at.top;
      const std::uint8_t* const rgb = inside ? at.p.rgb.data() + (py * at.p.width + px) * 3 : nullptr;
      double value[3] = {0, 0, 0};
      if (rgb && s.channels == 1) {
        value[0] = std::floor((rgb[0] * 299 + rgb[1] * 587 + rgb[2] * 114) / 1000.0);
      } else if (rgb) {
        for (std::size_t c = 0; c < 3; ++c) value[c] = rgb[s.bgr ? 2 - c : c];
      }
      for (std::size_t c = 0; c < s.channels; ++c) {
        const std::size_t to =
            s.channels_last ? (y * s.width + x) * s.channels + c : (c * s.height + y) * s.width + x;
        out[to] = static_cast<float>((value[c] - s.mean[c]) / s.scale[c]);
      }
    }
  }
}

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

void fill(const bytes_step& s, std::string_view bytes, float* out) {
  std::string_view head = bytes;
  std::string_view tail = bytes;
  if (s.strip) {
    head = head.substr(0, s.window);
    tail = tail.substr(tail.size() - std::min(tail.size(), s.window));
    while (!head.empty() && is_space(head.front())) head.remove_prefix(1);
    while (!tail.empty() && is_space(tail.back())) tail.remove_suffix(1);
  }
  head = head.substr(0, s.first);
  tail = tail.substr(tail.size() - std::min(tail.size(), s.last));
  std::fill(out, out + s.first + s.last, static_cast<float>(s.padding));
  const auto number = [](char c) { return static_cast<float>(static_cast<unsigned char>(c)); };
  std::transform(head.begin(), head.end(), out, number);
  std::transform(tail.begin(), tail.end(), out + s.first + s.last - tail.size(), number);
}

}  // namespace

std::vector<std::int64_t> image_step::shape() const {
  const auto c = static_cast<std::int64_t>(channels);
  const auto h = static_cast<std::int64_t>(height);
  const auto w = static_cast<std::int64_t>(width);
  if (channels_last) return {h, w, c};
  return {c, h, w};
}

std::size_t input_step::size() const {
  switch (is) {
    case kind::image:
      return image.height * image.width * image.channels;
    case kind::bytes:
      return bytes.first + bytes.last;
    default:
      return 0;
  }
}

void apply(const input_step& step, std::string_view bytes, float* out) {
  if (step.is == input_step::kind::image) fill(step.image, bytes, out);
  if (step.is == input_step::kind::bytes) fill(step.bytes, bytes, out);
}

}  // namespace troupe::model

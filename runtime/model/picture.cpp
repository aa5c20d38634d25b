#include "runtime/model/picture.hpp"

#include <png.h>
#include <turbojpeg.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "runtime/model/input_step.hpp"

namespace troupe::model {
namespace {

using namespace std::string_view_literals;

const unsigned char* data_of(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

void check_size(std::size_t width, std::size_t height, std::size_t max_pixels) {
  if (width == 0 || height == 0) throw row_error("the picture is empty");
  if (width > max_pixels / height)
    throw row_error("the picture has " + std::to_string(width) + " x " + std::to_string(height) +
                    " pixels, more than " + std::to_string(max_pixels) + " in all");
}

picture decode_jpeg(std::string_view bytes, std::size_t max_pixels) {
  // One a picture: a damaged one leaves its tables behind in the handle, and the next would be read by them.
  const std::unique_ptr<void, int (*)(tjhandle)> handle(tjInitDecompress(), tjDestroy);
  if (!handle) throw model_error("libjpeg-turbo cannot be set up");
  const auto size = static_cast<unsigned long>(bytes.size());
  int width = 0;
  int height = 0;
  int subsampling = 0;
  int colours = 0;
  if (tjDecompressHeader3(handle.get(), data_of(bytes), size, &width, &height, &subsampling, &colours) != 0)
    throw row_error("the JPEG cannot be read: " + std::string(tjGetErrorStr2(handle.get())));
  if (colours == TJCS_CMYK || colours == TJCS_YCCK)
    throw row_error("the JPEG is in CMYK, which is not read: save it as RGB");
  if (width <= 0 || height <= 0) throw row_error("the JPEG is cut short");
  picture made;
  made.width = static_cast<std::size_t>(std::max(0, width));
  made.height = static_cast<std::size_t>(std::max(0, height));
  check_size(made.width, made.height, max_pixels);
  made.rgb.resize(made.width * made.height * 3);
  if (tjDecompress2(handle.get(), data_of(bytes), size, made.rgb.data(), width, 0, height, TJPF_RGB,
                    TJFLAG_ACCURATEDCT) != 0)
    throw row_error("the JPEG is damaged: " + std::string(tjGetErrorStr2(handle.get())));
  return made;
}

picture decode_png(std::string_view bytes, std::size_t max_pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const auto refuse = [&](const char* what) {
    std::string why = what;
    why += static_cast<const char*>(image.message);
    png_image_free(&image);
    throw row_error(why);
  };
  if (png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()) == 0)
    refuse("the PNG cannot be read: ");
  picture made;
  made.width = image.width;
  made.height = image.height;
  try {
    check_size(made.width, made.height, max_pixels);
    made.rgb.resize(made.width * made.height * 3);
  } catch (...) {
    png_image_free(&image);
    throw;
  }
  image.format = PNG_FORMAT_RGB;
  const png_color black{0, 0, 0};
  if (png_image_finish_read(&image, &black, made.rgb.data(), 0, nullptr) == 0) refuse("the PNG is damaged: ");
  return made;
}

double weight(double x, bool bicubic) {
  x = std::fabs(x);
  if (!bicubic) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/// For each place of the new line, which places of the old one count how much.
struct taps {
  std::vector<std::size_t> first;
  std::vector<std::size_t> count;
  std::vector<float> weights;
  std::size_t most = 0;

  taps(std::size_t from, std::size_t to, bool bicubic) {
    const double step = static_cast<double>(from) / static_cast<double>(to);
    const double widen = std::max(1.0, step);
    const double reach = (bicubic ? 2.0 : 1.0) * widen;
    most = static_cast<std::size_t>(std::ceil(reach)) * 2 + 1;
    weights.assign(to * most, 0);
    for (std::size_t i = 0; i < to; ++i) {
      const double centre = (static_cast<double>(i) + 0.5) * step;
      const auto begin = static_cast<std::size_t>(std::max(0.0, std::floor(centre - reach + 0.5)));
      const auto end = static_cast<std::size_t>(
          std::clamp(std::floor(centre + reach + 0.5), 0.0, static_cast<double>(from)));
      double sum = 0;
      std::vector<double> w;
      for (std::size_t k = begin; k < end; ++k) {
        w.push_back(weight((static_cast<double>(k) - centre + 0.5) / widen, bicubic));
        sum += w.back();
      }
      first.push_back(begin);
      count.push_back(w.size());
      for (std::size_t k = 0; k < w.size(); ++k)
        weights[i * most + k] = static_cast<float>(sum == 0 ? 0 : w[k] / sum);
    }
  }
};

std::uint8_t to_byte(float x) {
  return static_cast<std::uint8_t>(std::clamp(std::lround(x), 0L, 255L));
}

}  // namespace

picture decode(std::string_view bytes, std::size_t max_pixels) {
  if (bytes.starts_with("\xff\xd8\xff"sv)) return decode_jpeg(bytes, max_pixels);
  if (bytes.starts_with("\x89PNG\r\n\x1a\n"sv)) return decode_png(bytes, max_pixels);
  throw row_error(bytes.empty() ? "the picture has no bytes" : "the bytes are neither a JPEG nor a PNG");
}

picture resize(const picture& from, std::size_t width, std::size_t height, bool bicubic) {
  picture wide;
  wide.width = width;
  wide.height = from.height;
  if (width == from.width) {
    wide.rgb = from.rgb;
  } else {
    const taps t(from.width, width, bicubic);
    wide.rgb.resize(width * from.height * 3);
    for (std::size_t y = 0; y < from.height; ++y) {
      const std::uint8_t* const line = from.rgb.data() + y * from.width * 3;
      std::uint8_t* out = wide.rgb.data() + y * width * 3;
      for (std::size_t x = 0; x < width; ++x) {
        const float* const w = t.weights.data() + x * t.most;
        const std::uint8_t* p = line + t.first[x] * 3;
        float sum[3] = {0, 0, 0};
        for (std::size_t k = 0; k < t.count[x]; ++k, p += 3)
          for (int c = 0; c < 3; ++c) sum[c] += w[k] * static_cast<float>(p[c]);
        for (const float s : sum) *out++ = to_byte(s);
      }
    }
  }
  if (height == from.height) return wide;
  picture made;
  made.width = width;
  made.height = height;
  made.rgb.resize(width * height * 3);
  const taps t(from.height, height, bicubic);
  std::vector<float> line(width * 3);
  for (std::size_t y = 0; y < height; ++y) {
    std::fill(line.begin(), line.end(), 0.0F);
    for (std::size_t k = 0; k < t.count[y]; ++k) {
      const float w = t.weights[y * t.most + k];
      const std::uint8_t* const p = wide.rgb.data() + (t.first[y] + k) * width * 3;
      for (std::size_t x = 0; x < line.size(); ++x) line[x] += w * static_cast<float>(p[x]);
    }
    std::transform(line.begin(), line.end(), made.rgb.begin() + static_cast<std::ptrdiff_t>(y * width * 3),
                   to_byte);
  }
  return made;
}

}  // namespace troupe::model

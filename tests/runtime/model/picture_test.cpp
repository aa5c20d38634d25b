// Pictures against Pillow's answers (scripts/make_picture_fixtures.py), and bytes that are none.
#include "runtime/model/picture.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "runtime/model/input_step.hpp"

namespace troupe::model {
namespace {

namespace fs = std::filesystem;
const fs::path data = fs::path(TROUPE_TEST_DIRECTORY) / "data/pictures";
constexpr std::size_t plenty = 1'000'000;

std::string bytes(const std::string& name) {
  std::ifstream in(data / name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The largest difference of a colour.
int difference(const picture& a, const picture& b) {
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.height, b.height);
  int most = 0;
  for (std::size_t i = 0; i < std::min(a.rgb.size(), b.rgb.size()); ++i)
    most = std::max(most, std::abs(int{a.rgb[i]} - int{b.rgb[i]}));
  return most;
}

std::string refusal(const std::string& text, std::size_t most = plenty) {
  try {
    (void)decode(text, most);
  } catch (const row_error& e) {
    return e.what();
  }
  return "";
}

TEST(Picture, JpegAsPillowReadsIt) {
  EXPECT_LE(difference(decode(bytes("photo.jpg"), plenty), decode(bytes("photo_jpg.png"), plenty)), 2);
}

TEST(Picture, GreyTransparentAndPalette) {
  const picture grey = decode(bytes("grey.jpg"), plenty);
  EXPECT_EQ(grey.width, 61U);
  EXPECT_EQ(grey.rgb[0], grey.rgb[1]);
  const picture half = decode(bytes("transparent.png"), plenty);
  EXPECT_EQ(half.rgb[0], 0) << "what cannot be seen is black";
  EXPECT_NE(half.rgb[60 * 3], 0);
  EXPECT_EQ(decode(bytes("palette.png"), plenty).height, 47U);
}

TEST(Picture, ResizesAsPillow) {
  const picture photo = decode(bytes("photo.png"), plenty);
  int seen = 0;
  for (const auto& f : fs::directory_iterator(data)) {
    std::size_t width = 0;
    std::size_t height = 0;
    char filter[16] = "";
    if (std::sscanf(f.path().filename().c_str(), "photo_%zux%zu_%15[a-z].png", &width, &height, filter) != 3)
      continue;
    ++seen;
    const picture ours = resize(photo, width, height, std::string(filter) == "bicubic");
    EXPECT_LE(difference(ours, decode(bytes(f.path().filename()), plenty)), 1) << f.path();
  }
  EXPECT_EQ(seen, 10);
}

TEST(Picture, TheLimitAndOneBeyond) {
  EXPECT_EQ(refusal(bytes("photo.png"), 61 * 47), "");
  EXPECT_NE(refusal(bytes("photo.png"), 61 * 47 - 1).find("61 x 47 pixels, more than 2866"),
            std::string::npos);
  EXPECT_EQ(refusal(bytes("photo.jpg"), 61 * 47), "");
  EXPECT_NE(refusal(bytes("photo.jpg"), 61 * 47 - 1), "");
}

TEST(Picture, WhatIsNoneIsRefused) {
  EXPECT_NE(refusal("").find("no bytes"), std::string::npos);
  EXPECT_NE(refusal("GIF89a...").find("neither a JPEG nor a PNG"), std::string::npos);
  EXPECT_NE(refusal("\xff\xd8\xff"), "");
  EXPECT_NE(refusal(bytes("photo.png").substr(0, 200)).find("PNG is damaged"), std::string::npos);
}

TEST(Picture, DamageNeverDoesMoreThanARefusal) {
  std::mt19937_64 random(7);
  for (const char* name : {"photo.jpg", "photo.png", "palette.png"}) {
    const std::string whole = bytes(name);
    for (int i = 0; i < 400; ++i) {
      std::string text = whole.substr(0, i % 3 == 0 ? random() % whole.size() : whole.size());
      for (int k = 0; k < 4 && !text.empty(); ++k) text[random() % text.size()] = static_cast<char>(random());
      (void)refusal(text);
    }
  }
}

TEST(InputStep, CropPadAndStretch) {
  input_step s;
  s.is = input_step::kind::image;
  s.image.height = 4;
  s.image.width = 6;
  s.image.mean = {127, 127, 127};
  s.image.scale = {128, 128, 128};
  std::vector<float> out(s.size());
  ASSERT_EQ(out.size(), 72U);
  const picture photo = decode(bytes("photo.png"), plenty);

  s.image.how = fit::stretch;
  apply(s, bytes("photo.png"), out.data());
  const picture small = resize(photo, 6, 4, false);
  for (std::size_t i = 0; i < 24; ++i)
    for (std::size_t c = 0; c < 3; ++c)
      EXPECT_FLOAT_EQ(out[c * 24 + i], (static_cast<float>(small.rgb[i * 3 + c]) - 127) / 128);

  s.image.channels_last = true;
  s.image.bgr = true;
  apply(s, bytes("photo.png"), out.data());
  EXPECT_FLOAT_EQ(out[5], (static_cast<float>(small.rgb[3]) - 127) / 128);

  s.image.channels_last = false;
  s.image.bgr = false;
  s.image.how = fit::crop;
  s.image.resize = 8;
  apply(s, bytes("photo.png"), out.data());
  const picture eight = resize(photo, 61 * 8 / 47, 8, false);  // 10 x 8, its middle 6 x 4
  EXPECT_FLOAT_EQ(out[0], (static_cast<float>(eight.rgb[(2 * 10 + 2) * 3]) - 127) / 128);

  s.image.how = fit::pad;
  s.image.resize = 0;
  apply(s, bytes("photo.png"), out.data());
  const picture five = resize(photo, 61 * 4 / 47, 4, false);  // 5 x 4
  EXPECT_FLOAT_EQ(out[0], (static_cast<float>(five.rgb[0]) - 127) / 128);
  EXPECT_FLOAT_EQ(out[5], -127.0F / 128) << "the sixth column is empty";
}

TEST(InputStep, FirstAndLastBytes) {
  input_step s;
  s.is = input_step::kind::bytes;
  s.bytes = {3, 2, 256, false, 4096};
  const auto of = [&](std::string_view text) {
    std::vector<float> out(s.size());
    apply(s, text, out.data());
    return out;
  };
  EXPECT_EQ(of("abcdefg"), (std::vector<float>{'a', 'b', 'c', 'f', 'g'}));
  EXPECT_EQ(of("\xff"), (std::vector<float>{255, 256, 256, 256, 255}));
  EXPECT_EQ(of("abc"), (std::vector<float>{'a', 'b', 'c', 'b', 'c'}));
  EXPECT_EQ(of(" a "), (std::vector<float>{' ', 'a', ' ', 'a', ' '}));
  s.bytes.strip = true;
  EXPECT_EQ(of(" \n a\t"), (std::vector<float>{'a', '\t', 256, ' ', 'a'}));
  EXPECT_EQ(of("  "), (std::vector<float>{256, 256, 256, 256, 256}));
}

}  // namespace
}  // namespace troupe::model

#include "runtime/codec/json_text.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

namespace troupe::codec {
namespace {

std::string escaped(std::string_view text) {
  std::string out = "<";
  append_escaped(out, text);
  return out.substr(1);
}

std::string number(double value) {
  std::string out;
  append_number(out, value);
  return out;
}

TEST(JsonText, Escapes) {
  EXPECT_EQ(escaped(""), "");
  EXPECT_EQ(escaped("plain text, 12345"), "plain text, 12345");
  EXPECT_EQ(escaped("a\"b\\c/"), R"(a\"b\\c/)");
  EXPECT_EQ(escaped("\b\f\n\r\t"), R"(\b\f\n\r\t)");
  EXPECT_EQ(escaped(std::string("\0\x01\x1f\x7f", 4)), "\\u0000\\u0001\\u001f\x7f");
  EXPECT_EQ(escaped("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
}

TEST(JsonText, ReplacesWhatIsNotUtf8) {
  const std::string r = "\xef\xbf\xbd";
  EXPECT_EQ(escaped("\xff"), r);
  EXPECT_EQ(escaped("a\xc3"), "a" + r);
  EXPECT_EQ(escaped("\xc3\xa9\xff\"z"), "\xc3\xa9" + r + "\\\"z");
  EXPECT_EQ(escaped("\xc0\xaf"), r + r);
  EXPECT_EQ(escaped("\xed\xa0\x80"), r + r + r);
}

TEST(JsonText, EverySingleByteAtEveryPlace) {
  for (std::size_t size = 1; size < 20; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      for (int c = 0; c < 256; ++c) {
        std::string text(size, 'x');
        text[at] = static_cast<char>(c);
        const bool special = c < 0x20 || c == '"' || c == '\\' || c >= 0x80;
        ASSERT_EQ(plain(text), !special) << size << ' ' << at << ' ' << c;
        std::string out;
        append_quoted(out, text);
        const auto back = nlohmann::json::parse(out).get<std::string>();
        ASSERT_TRUE(c >= 0x80 || back == text) << out;
      }
    }
  }
  EXPECT_TRUE(plain(""));
  EXPECT_TRUE(plain("caf\xc3\xa9"));
  EXPECT_FALSE(plain("caf\xc3\xa9\n"));
}

TEST(JsonText, NumbersReadBackTheSame) {
  EXPECT_EQ(number(152.13), "152.13");
  EXPECT_EQ(number(0), "0");
  EXPECT_EQ(number(-0.0), "-0");
  EXPECT_EQ(number(1e22), "1e+22");
  EXPECT_EQ(number(std::numeric_limits<double>::denorm_min()), "5e-324");
  std::mt19937_64 random(3);
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t bits = random();
    double x = 0;
    std::memcpy(&x, &bits, sizeof x);
    if (!std::isfinite(x)) continue;
    ASSERT_EQ(nlohmann::json::parse(number(x)).get<double>(), x);
  }
  std::string out;
  append_number(out, std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(out, "-9223372036854775808");
}

TEST(JsonText, ShownIsShortAndPrintable) {
  EXPECT_EQ(shown("bmi"), "'bmi'");
  EXPECT_EQ(shown("a\nb\x7f"), "'a?b?'");
  EXPECT_EQ(shown("\xc3\xa9\xff"), "'\xc3\xa9?'");
  EXPECT_EQ(shown(std::string(64, 'x')), "'" + std::string(64, 'x') + "'");
  EXPECT_EQ(shown(std::string(65, 'x')), "'" + std::string(64, 'x') + "...'");
}

TEST(JsonText, EditDistance) {
  EXPECT_EQ(edit_distance("bmi", "bmi", 2), 0u);
  EXPECT_EQ(edit_distance("bmi", "bmj", 2), 1u);
  EXPECT_EQ(edit_distance("bmi", "bm", 2), 1u);
  EXPECT_EQ(edit_distance("", "ab", 2), 2u);
  EXPECT_EQ(edit_distance("kitten", "sitting", 9), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting", 2), 3u);
  EXPECT_EQ(edit_distance("abXcde", "abcdeY", 9), 2u);
  EXPECT_EQ(edit_distance(std::string(65, 'x'), std::string(65, 'x'), 5), 6u);
}

TEST(JsonText, NearestName) {
  const std::array<std::string, 4> names = {"age", "sepal_length", "sepal_width", "bmi"};
  const auto of = [&](std::string_view name) {
    return std::string(nearest(name, names, [](const std::string& s) -> std::string_view { return s; }));
  };
  EXPECT_EQ(of("agee"), "age");
  EXPECT_EQ(of("bni"), "bmi");
  EXPECT_EQ(of("sepal_lenght"), "sepal_length");
  EXPECT_EQ(of("SepalWidth"), "sepal_width");
  EXPECT_EQ(of("weight"), "");
  EXPECT_EQ(of("xyz"), "");
}

}  // namespace
}  // namespace troupe::codec

#include "runtime/grpc/unpack.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace troupe::rpc {
namespace {

using namespace std::string_view_literals;

// The message "\n\x04iris\x1a\x03id1": a model's name and a request's id.
constexpr auto message = "\x0a\x04iris\x1a\x03id1"sv;
constexpr auto as_gzip =
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xe3\x62\xc9\x2c\xca\x2c\x96\x62\xce\x4c\x31\x04\x00\xa2\xe0\x42\x22\x0b\x00\x00\x00"sv;
constexpr auto as_deflate = "\x78\x9c\xe3\x62\xc9\x2c\xca\x2c\x96\x62\xce\x4c\x31\x04\x00\x10\x35\x02\xe1"sv;
// 10,000 times "x".
constexpr auto long_deflate =
    "\x78\x9c\xed\xc1\x01\x0d\x00\x00\x00\xc2\xa0\xda\x8f\x6f\x0e\x37\xa0\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe0\xdf\x00\x01\x01\x50\x8f"sv;

TEST(grpc_unpack, knows_what_is_packed) {
  EXPECT_TRUE(packed(as_gzip));
  EXPECT_TRUE(packed(as_deflate));
  EXPECT_TRUE(packed("\x78\x01"sv));
  EXPECT_TRUE(packed("\x78\xda"sv));
  EXPECT_FALSE(packed(message));
  EXPECT_FALSE(packed({}));
  EXPECT_FALSE(packed("\x78"sv));
  EXPECT_FALSE(packed("\x1f"sv));
  EXPECT_FALSE(packed("\x78\x9d"sv)) << "the header's check does not hold";
  EXPECT_FALSE(packed("\x78\xbb"sv)) << "a preset dictionary";
  EXPECT_FALSE(packed("\x1f\x9d"sv));
}

TEST(grpc_unpack, gzip_and_deflate_say_the_same) {
  for (const auto packed_message : {as_gzip, as_deflate}) {
    std::string plain = "left over";
    EXPECT_EQ(unpack(packed_message, 1000, plain), unpacked::done);
    EXPECT_EQ(plain, message);
    EXPECT_EQ(unpack(packed_message, message.size(), plain), unpacked::done);
    EXPECT_EQ(unpack(packed_message, message.size() - 1, plain), unpacked::too_large);
  }
}

TEST(grpc_unpack, stops_at_the_limit) {
  std::string plain;
  EXPECT_EQ(unpack(long_deflate, 10'000, plain), unpacked::done);
  EXPECT_EQ(plain, std::string(10'000, 'x'));
  EXPECT_EQ(unpack(long_deflate, 9'999, plain), unpacked::too_large);
  EXPECT_LE(plain.size(), 10'000U);
}

TEST(grpc_unpack, whatever_is_cut_off_or_changed_is_broken) {
  for (const auto whole : {as_gzip, as_deflate}) {
    std::string plain;
    for (std::size_t n = 0; n < whole.size(); ++n)
      EXPECT_EQ(unpack(whole.substr(0, n), 1000, plain), unpacked::broken) << n << " bytes";
    std::string changed(whole);
    changed[14] = static_cast<char>(changed[14] ^ 0x55);
    EXPECT_NE(unpack(changed, 1000, plain), unpacked::done);
  }
}

}  // namespace
}  // namespace troupe::rpc

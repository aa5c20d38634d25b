#include "cli/raw_records.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace troupe::cli {
namespace {

TEST(from_base64, reads_the_vectors_of_rfc_4648) {
  const struct {
    const char* encoded;
    const char* decoded;
  } table[] = {{"", ""},
               {"Zg==", "f"},
               {"Zm8=", "fo"},
               {"Zm9v", "foo"},
               {"Zm9vYg==", "foob"},
               {"Zm9vYmE=", "fooba"},
               {"Zm9vYmFy", "foobar"},
               {"Zg", "f"},
               {"Zm8", "fo"}};
  for (const auto& [encoded, decoded] : table) EXPECT_EQ(from_base64(encoded), decoded) << encoded;
}

TEST(from_base64, reads_every_byte) {
  EXPECT_EQ(from_base64("AP+A/w=="), std::string("\0\xff\x80\xff", 4));
  EXPECT_EQ(from_base64("+/+/"), "\xfb\xff\xbf");
}

TEST(from_base64, refuses_what_is_not) {
  for (const char* text : {"Zg-_", "Zm9v Yg==", "\"", "Z\xc3"})
    EXPECT_THROW((void)from_base64(text), std::runtime_error) << text;
}

}  // namespace
}  // namespace troupe::cli

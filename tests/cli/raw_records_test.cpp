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

TEST(complaint_about_raw, takes_records_and_tombstones) {
  for (const char* line : {R"({"value": null})", R"({"value": "x", "key": "k", "partition": 0})",
                           R"({"value_base64": "Zg==", "headers": {}, "timestamp_ms": 1})"})
    EXPECT_EQ(complaint_about_raw(line), "") << line;
}

TEST(complaint_about_raw, names_the_key_that_was_probably_meant) {
  EXPECT_EQ(complaint_about_raw(R"({"valu": 1})"), "unknown key 'valu'; did you mean 'value'?");
  EXPECT_EQ(complaint_about_raw(R"({"value": 1, "heders": {}})"),
            "unknown key 'heders'; did you mean 'headers'?");
  EXPECT_NE(complaint_about_raw(R"({"features": [1]})").find("unknown key 'features'"), std::string::npos);
}

TEST(complaint_about_raw, wants_a_value) {
  for (const char* line : {"{}", R"({"key": "k"})"})
    EXPECT_NE(complaint_about_raw(line).find("no value"), std::string::npos) << line;
  for (const char* line : {"", "[1]", "{", "7"})
    EXPECT_EQ(complaint_about_raw(line), "not a JSON object") << line;
}

}  // namespace
}  // namespace troupe::cli

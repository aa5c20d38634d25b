// Forms that upload one file.
#include "runtime/codec/multipart.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace troupe::codec {
namespace {

using ::testing::HasSubstr;

const std::string form = "multipart/form-data; boundary=b1";

std::string part(const std::string& header, const std::string& bytes) {
  return "--b1\r\n" + header + "\r\n\r\n" + bytes + "\r\n";
}

const std::string image = "Content-Disposition: form-data; name=\"image\"";

TEST(Multipart, AFile) {
  uploaded_file f;
  const std::string bytes("\xff\xd8\r\n--b\r\n\0--b1", 15);
  ASSERT_FALSE(read_upload(part("content-disposition: form-data; name=image; filename=\"a b.jpg\"\r\n"
                                "Content-Type: image/jpeg\r\nContent-Transfer-Encoding: Binary",
                                bytes) +
                               "--b1--\r\n",
                           form, f));
  EXPECT_EQ(f.field, "image");
  EXPECT_EQ(f.filename, "a b.jpg");
  EXPECT_EQ(f.content_type, "image/jpeg");
  EXPECT_EQ(f.bytes, bytes);
}

TEST(Multipart, BoundariesAsClientsWriteThem) {
  for (const std::string type :
       {"multipart/form-data;boundary=b1", "Multipart/Form-Data; charset=utf-8; Boundary=\"b1\"",
        "multipart/form-data ; boundary=b1"}) {
    uploaded_file f;
    EXPECT_FALSE(read_upload(part("Content-Disposition: form-data; name=\"file\"", "x") + "--b1--", type, f))
        << type;
    EXPECT_EQ(f.bytes, "x");
  }
  uploaded_file f;
  EXPECT_FALSE(read_upload("--a b?\r\n" + image + "\r\n\r\n\r\n--a b?--\r\n",
                           "multipart/form-data; boundary=\"a b?\"", f));
  EXPECT_EQ(f.bytes, "");
}

TEST(Multipart, IsWhatItsTypeSays) {
  EXPECT_TRUE(holds_form("multipart/form-data"));
  EXPECT_TRUE(holds_form("MULTIPART/form-data; boundary=x"));
  EXPECT_FALSE(holds_form("multipart/form-dataset"));
  EXPECT_FALSE(holds_form("multipart/mixed; boundary=x"));
  EXPECT_FALSE(holds_form(""));
}

TEST(Multipart, WhatIsRefused) {
  const std::string end = "--b1--\r\n";
  struct row {
    std::string type;
    std::string body;
    const char* says;
  };
  const row table[] = {
      {"multipart/form-data", part(image, "x") + end, "no boundary"},
      {"multipart/form-data; boundary=", part(image, "x") + end, "can't be read"},
      {"multipart/form-data; boundary=b1; boundary=b2", part(image, "x") + end, "two boundaries"},
      {"multipart/form-data; boundary=" + std::string(71, 'b'), "", "1 to 70"},
      {"multipart/form-data; boundary=\"b1", part(image, "x") + end, "can't be read"},
      {"multipart/form-data; boundary=\"b1 \"", part(image, "x") + end, "ends with a space"},
      {"multipart/form-data; boundary=\"b\x01\"", part(image, "x") + end, "none may have"},
      {"multipart/mixed; boundary=b1", part(image, "x") + end, "is not multipart/form-data"},
      {form, "", "does not begin with its boundary"},
      {form, "preamble\r\n" + part(image, "x") + end, "does not begin with its boundary"},
      {form, "--b1--\r\n", "has no file"},
      {form, "--b1", "does not end its line"},
      {form, "--b1 \r\n" + image, "does not end its line"},
      {form, "--b1\r\n" + image, "cut short"},
      {form, "--b1\r\n" + image + "\r\nX: " + std::string(9000, 'x') + "\r\n\r\nx\r\n" + end, "8 KiB"},
      {form, "--b1\r\n" + image + "\r\n\r\nx", "last boundary is missing"},
      {form, part(image, "x") + "--b1", "does not end its line"},
      {form, part(image, "x") + end + "more", "goes on behind"},
      {form, part(image, "x") + part(image, "y") + end, "more than one field"},
      {form, part("Content-Disposition: form-data; name=\"colour\"", "x") + end, "a field 'colour'"},
      {form, part("Content-Disposition: attachment; name=\"image\"", "x") + end, "not form-data"},
      {form, part("Content-Disposition: form-data", "x") + end, "without a name"},
      {form, part(image + "; name=\"file\"", "x") + end, "two names"},
      {form, part(image + "\r\n" + image, "x") + end, "two Content-Dispositions"},
      {form, part(image + "; filename=\"a\\\"b\"", "x") + end, "can't be read"},
      {form, part(image + "; filename=\"a", "x") + end, "can't be read"},
      {form, part("Content-Type: image/png", "x") + end, "without a Content-Disposition"},
      {form, "--b1\r\n\r\nx\r\n" + end, "without a Content-Disposition"},
      {form, part(image + "\r\nContent-Type: a/b\r\nContent-Type: a/c", "x") + end, "two Content-Types"},
      {form, part(image + "\r\nContent-Type: multipart/mixed", "x") + end, "multipart itself"},
      {form, part(image + "\r\nContent-Transfer-Encoding: base64", "x") + end, "transfer encoding"},
      {form, part(image + "\r\n folded", "x") + end, "header line"},
      {form, part(image + "\r\nX : y", "x") + end, "header line"},
      {form, part(image + "\r\nX: a\nb", "x") + end, "control character"},
  };
  for (const row& one : table) {
    uploaded_file f;
    const auto fault = read_upload(one.body, one.type, f);
    EXPECT_EQ(fault.code, error_code::invalid_json) << one.says;
    EXPECT_THAT(fault.message, HasSubstr(one.says));
  }
}

}  // namespace
}  // namespace troupe::codec

// Where a text stops being JSON; what json_reader takes has no such place.
#include "runtime/codec/json_fault.hpp"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <random>

#include "runtime/codec/json_reader.hpp"

namespace troupe::codec {
namespace {

std::string complaint(const std::string& text) {
  json_reader reader;
  simdjson::dom::element root;
  const std::string_view why = reader.read(text, root);
  return why.empty() ? "" : json_fault(text, why);
}

TEST(JsonFault, SaysWhereAndWhatWasExpected) {
  struct row {
    std::string text, wanted;
  };
  for (const row& r : std::vector<row>{
           {R"({"data":[[1,2,3]])", "line 1, column 18: the text ends before an object's '}'"},
           {R"({"data":[[1,2,3])", "line 1, column 17: the text ends before a list's ']'"},
           {"{'data':[[1]]}", "line 1, column 2: expected a name in double quotes, found a single quote"},
           {"{\n \"data\":[[1,]]}", "line 2, column 13: expected a value, found ']'"},
           {"{\"a\":1,\n\"b\" 2}", "line 2, column 5: expected ':', found '2'"},
           {R"({"a":1 "b":2})", "line 1, column 8: expected ',' or '}', found '\"'"},
           {R"({"a":[1 2]})", "line 1, column 9: expected ',' or ']', found '2'"},
           {R"({"a":True})", "line 1, column 6: expected a value, found 'T'"},
           {R"({"a":01})", "line 1, column 6: a number that JSON does not have"},
           {R"({"a":1.})", "line 1, column 6: a number that JSON does not have"},
           {R"({"a":NaN,"b":})", "line 1, column 14: expected a value, found '}'"},
           {R"({} x)", "line 1, column 4: something follows the document"},
           {R"({"a":"b)", "line 1, column 6: a string is not closed"},
           {"{\"a\":\"\x01\"}", "line 1, column 7: a control character in a string"},
           {R"({"a":"\x"})", "line 1, column 7: an invalid escape in a string"},
           {R"({"a":"\u12g4"})", "line 1, column 7: an invalid escape in a string"},
           {std::string(100'000, '['), "line 1, column 65: nested deeper than 64 levels"},
       })
    EXPECT_EQ(complaint(r.text), " is not valid JSON at " + r.wanted) << r.text.substr(0, 80);
}

TEST(JsonFault, LeavesWhatItHasNoPlaceFor) {
  EXPECT_EQ(complaint(""), " is empty");
  EXPECT_EQ(complaint("{\"a\":\"\xff\"}"), " is not valid UTF-8");
  EXPECT_EQ(complaint(R"({"a":"\ud800"})"), " is not valid JSON: an invalid escape in a string");
  EXPECT_EQ(complaint(std::string(2'000'000, '[')), " is not valid JSON") << "too long to be read again";
}

/// Texts with a byte changed: whatever the reader refuses as JSON, short of pairs of escapes, has its place.
TEST(JsonFault, AgreesWithTheReader) {
  const std::string good = R"({"data":[[1,-2.5e3,null],{"a":"x\n\u00e4","b":true}],"x":{"y":[[],{}]}})";
  std::mt19937 random(7);
  const std::string letters = "{}[]\",:'\\ 01eE.-+tnN\n\x01x";
  for (int i = 0; i < 20'000; ++i) {
    std::string text = good;
    for (auto n = 1 + random() % 3; n > 0; --n) {
      const std::size_t at = random() % text.size();
      if (random() % 3 == 0)
        text.erase(at, 1);
      else
        text[at] = letters[random() % letters.size()];
    }
    const std::string said = complaint(text);
    if (said.starts_with(" is not valid JSON")) {
      EXPECT_NE(said.find(" at line "), std::string::npos) << text << said;
    }
  }
}

}  // namespace
}  // namespace troupe::codec

#include "runtime/grpc/wire.hpp"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <random>

#include "inference.pb.h"
#include "runtime/grpc/unpack.hpp"

namespace troupe::rpc {
namespace {

using inference::ModelInferRequest;
using kind = codec::v2_contents::kind;

constexpr std::size_t plenty = 100'000;

void expect_same(const infer_request& ours, const ModelInferRequest& theirs) {
  EXPECT_EQ(ours.model_name, theirs.model_name());
  EXPECT_EQ(ours.model_version, theirs.model_version());
  EXPECT_EQ(ours.id, theirs.id());
  ASSERT_EQ(ours.inputs.size(), static_cast<std::size_t>(theirs.inputs_size()));
  ASSERT_EQ(ours.outputs.size(), static_cast<std::size_t>(theirs.outputs_size()));
  ASSERT_EQ(ours.parameters.size(), theirs.parameters().size());
  for (int i = 0; i < theirs.inputs_size(); ++i) {
    const auto& a = ours.inputs[static_cast<std::size_t>(i)];
    const auto& b = theirs.inputs(i);
    EXPECT_EQ(a.name, b.name());
    EXPECT_EQ(a.datatype, b.datatype());
    EXPECT_EQ(std::vector(a.shape.begin(), a.shape.end()), std::vector(b.shape().begin(), b.shape().end()));
    const auto& c = b.contents();
    const auto check = [&](kind k, const auto& list) {
      if (list.empty()) return;
      ASSERT_EQ(a.contents.held, k);
      ASSERT_EQ(a.contents.count, static_cast<std::size_t>(list.size()));
      using element = std::decay_t<decltype(list[0])>;
      const auto* data = static_cast<const element*>(a.contents.data);
      for (int j = 0; j < list.size(); ++j) EXPECT_EQ(std::memcmp(&data[j], &list[j], sizeof(element)), 0);
    };
    check(kind::boolean, c.bool_contents());
    check(kind::int32, c.int_contents());
    check(kind::int64, c.int64_contents());
    check(kind::uint32, c.uint_contents());
    check(kind::uint64, c.uint64_contents());
    check(kind::fp32, c.fp32_contents());
    check(kind::fp64, c.fp64_contents());
    ASSERT_EQ(a.contents.texts.size(), static_cast<std::size_t>(c.bytes_contents_size()));
    for (int j = 0; j < c.bytes_contents_size(); ++j)
      EXPECT_EQ(a.contents.texts[static_cast<std::size_t>(j)], c.bytes_contents(j));
    if (theirs.raw_input_contents_size() > 0) {
      EXPECT_EQ(a.contents.raw, theirs.raw_input_contents(i));
    }
  }
  for (int i = 0; i < theirs.outputs_size(); ++i)
    EXPECT_EQ(ours.outputs[static_cast<std::size_t>(i)].name, theirs.outputs(i).name());
  for (const auto& one : ours.parameters) {
    const auto found = theirs.parameters().find(std::string(one.name));
    ASSERT_NE(found, theirs.parameters().end());
    if (found->second.has_int64_param()) {
      EXPECT_EQ(one.integer, found->second.int64_param());
    }
    if (found->second.has_string_param()) {
      EXPECT_EQ(one.text, found->second.string_param());
    }
  }
}

ModelInferRequest random_request(std::mt19937_64& random) {
  ModelInferRequest r;
  const auto below = [&](std::uint64_t n) { return random() % n; };
  const auto text = [&] { return std::string(below(9), static_cast<char>('a' + below(26))); };
  r.set_model_name(text());
  r.set_model_version(text());
  r.set_id(text());
  const bool raw = below(2) == 0;
  for (std::uint64_t i = below(4); i > 0; --i) {
    auto& in = *r.add_inputs();
    in.set_name(text());
    in.set_datatype("FP32");
    for (std::uint64_t k = below(4); k > 0; --k) in.add_shape(static_cast<std::int64_t>(random()));
    (*in.mutable_parameters())["p"].set_bool_param(true);
    if (raw) {
      r.add_raw_input_contents(text());
      continue;
    }
    auto& c = *in.mutable_contents();
    const std::uint64_t which = below(8);
    for (std::uint64_t k = below(300); k > 0; --k) {
      const std::uint64_t v = random() >> below(64);
      if (which == 0) c.add_bool_contents(v % 2 == 0);
      if (which == 1) c.add_int_contents(static_cast<std::int32_t>(v));
      if (which == 2) c.add_int64_contents(static_cast<std::int64_t>(v));
      if (which == 3) c.add_uint_contents(static_cast<std::uint32_t>(v));
      if (which == 4) c.add_uint64_contents(v);
      if (which == 5) c.add_fp32_contents(static_cast<float>(v));
      if (which == 6) c.add_fp64_contents(static_cast<double>(v));
      if (which == 7) c.add_bytes_contents(text());
    }
  }
  for (std::uint64_t i = below(3); i > 0; --i) {
    auto& out = *r.add_outputs();
    out.set_name(text());
    (*out.mutable_parameters())["classification"].set_int64_param(3);
  }
  if (below(2) == 0)
    (*r.mutable_parameters())["priority"].set_int64_param(static_cast<std::int64_t>(below(9)));
  if (below(2) == 0) (*r.mutable_parameters())["text"].set_string_param(text());
  return r;
}

TEST(Wire, ReadsAsProtobufDoes) {
  std::mt19937_64 random(1);
  infer_request ours;
  for (int i = 0; i < 3000; ++i) {
    const auto theirs = random_request(random);
    const std::string bytes = theirs.SerializeAsString();
    ASSERT_EQ(ours.read(bytes, plenty), "") << theirs.DebugString();
    expect_same(ours, theirs);
  }
}

/// Whatever comes, it is read within its bounds; and what it takes for a message, protobuf does too.
TEST(Wire, BrokenMessagesAreRefused) {
  std::mt19937_64 random(2);
  infer_request ours;
  int taken = 0, refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = random_request(random).SerializeAsString();
    if (bytes.empty()) continue;
    for (std::uint64_t k = 1 + random() % 3; k > 0; --k)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 3 == 0) bytes.resize(random() % bytes.size());
    // A copy of its exact size, so that a sanitizer sees what is read beyond it.
    const std::vector<char> exact(bytes.begin(), bytes.end());
    const bool good = ours.read({exact.data(), exact.size()}, plenty).empty();
    (good ? taken : refused)++;
    ModelInferRequest theirs;
    if (good) {
      EXPECT_TRUE(theirs.ParseFromString(bytes)) << "message " << i << testing::PrintToString(bytes);
    }
  }
  EXPECT_GT(taken, 100);
  EXPECT_GT(refused, 1000);
}

TEST(Wire, UnknownFieldsAndUnpackedElements) {
  // inputs[0] { name "x", unknown group 9 { 1: 5 }, contents { fp64 unpacked 1.5, fp64 packed 2.5 } }
  std::string contents =
      "\x39" + std::string("\0\0\0\0\0\0\xf8\x3f", 8) + "\x3a\x08" + std::string("\0\0\0\0\0\0\x04\x40", 8);
  std::string input = "\x0a\x01x\x4b\x08\x05\x4c\x18\x01\x18\x02\x2a";
  input += static_cast<char>(contents.size()) + contents;
  std::string message = "\xf8\x07\x01\x2a";
  message += static_cast<char>(input.size()) + input;
  ModelInferRequest theirs;
  ASSERT_TRUE(theirs.ParseFromString(message));
  infer_request ours;
  ASSERT_EQ(ours.read(message, plenty), "");
  expect_same(ours, theirs);
  EXPECT_EQ(ours.inputs[0].contents.count, 2U);
}

/// A varint may be longer than its value needs, but a tag's and a size's ends after five bytes.
TEST(Wire, TagsAndSizesThatAreTooLong) {
  const std::string padding(3, '\x80');
  const std::string five = padding + std::string(1, '\0'), six = "\x80" + five;
  const auto longer = [](char last, const std::string& by) { return static_cast<char>(last | '\x80') + by; };
  const struct {
    const char* what;
    std::string message;
    bool good;
  } cases[] = {
      {"a tag of 5 bytes", longer('\x1a', five) + "\x01x", true},
      {"a tag of 6", longer('\x1a', six) + "\x01x", false},
      {"a size of 5 bytes", "\x1a" + longer('\x01', five) + "x", true},
      {"a size of 6", "\x1a" + longer('\x01', six) + "x", false},
      {"a tag in a group", "\x7b" + longer('\x08', six) + "\x01\x7c", false},
      {"a value of 10 bytes", "\x78" + longer('\x01', std::string(8, '\x80') + std::string(1, '\0')), true},
      {"a value of 11", "\x78" + longer('\x01', std::string(9, '\x80') + std::string(1, '\0')), false},
      {"an input's shape", "\x2a\x08\x1a" + longer('\x01', six) + "\x01", false},
  };
  for (const auto& one : cases) {
    infer_request ours;
    ModelInferRequest theirs;
    EXPECT_EQ(theirs.ParseFromString(one.message), one.good) << one.what;
    EXPECT_EQ(ours.read(one.message, plenty).empty(), one.good) << one.what;
  }
}

TEST(Wire, Limits) {
  ModelInferRequest r;
  auto& c = *r.add_inputs()->mutable_contents();
  for (int i = 0; i < 10; ++i) c.add_int_contents(i);
  infer_request ours;
  EXPECT_EQ(ours.read(r.SerializeAsString(), 10), "");
  EXPECT_NE(ours.read(r.SerializeAsString(), 9), "");
  EXPECT_TRUE(ours.too_many());
  c.add_fp32_contents(1);
  EXPECT_NE(ours.read(r.SerializeAsString(), plenty).find("several fields"), std::string::npos);
  r.clear_inputs();
  for (int i = 0; i < 70'000; ++i) r.add_inputs();
  EXPECT_NE(ours.read(r.SerializeAsString(), plenty).find("too many inputs"), std::string::npos);
}

TEST(Wire, RawContents) {
  ModelInferRequest r;
  r.add_inputs()->set_name("a");
  r.add_inputs()->set_name("b");
  r.add_raw_input_contents("1234");
  infer_request ours;
  EXPECT_NE(ours.read(r.SerializeAsString(), plenty).find("1 entries"), std::string::npos);
  r.add_raw_input_contents("");
  const std::string bytes = r.SerializeAsString();  // what is read points into it
  EXPECT_EQ(ours.read(bytes, plenty), "");
  EXPECT_EQ(ours.inputs[0].contents.raw, "1234");
  r.mutable_inputs(1)->mutable_contents()->add_int_contents(1);
  EXPECT_NE(ours.read(r.SerializeAsString(), plenty).find("use one of them"), std::string::npos);
}

TEST(Wire, WritesWhatProtobufReads) {
  const std::int64_t shape[] = {2, 300};
  std::vector<float> numbers(600, 1.5F);
  const std::vector<std::string_view> texts = {"setosa", "", "v"};
  std::vector<output_tensor> outputs(2);
  outputs[0].name = "probabilities";
  outputs[0].datatype = "FP32";
  outputs[0].shape = shape;
  outputs[0].contents.held = kind::fp32;
  outputs[0].contents.data = numbers.data();
  outputs[0].contents.count = numbers.size();
  outputs[1].name = "predicted_class";
  outputs[1].datatype = "BYTES";
  outputs[1].contents.held = kind::texts;
  outputs[1].contents.texts = texts;
  parameter p;
  p.name = "explanation";
  p.held = parameter::kind::text;
  p.text = "[]";
  infer_response r;
  r.model_name = "iris";
  r.model_version = "3";
  r.id = "7";
  r.parameters = {&p, 1};
  r.outputs = outputs;
  r.raw = false;
  std::string bytes;
  write(bytes, r);
  inference::ModelInferResponse back;
  ASSERT_TRUE(back.ParseFromString(bytes));
  EXPECT_EQ(back.id(), "7");
  EXPECT_EQ(back.parameters().at("explanation").string_param(), "[]");
  EXPECT_EQ(back.outputs(0).shape(1), 300);
  EXPECT_EQ(back.outputs(0).contents().fp32_contents_size(), 600);
  EXPECT_EQ(back.outputs(0).contents().fp32_contents(599), 1.5F);
  EXPECT_EQ(back.outputs(1).contents().bytes_contents(0), "setosa");
  EXPECT_EQ(back.outputs(1).contents().bytes_contents_size(), 3);

  bytes.clear();
  write_streamed(bytes, r);
  inference::ModelStreamInferResponse streamed;
  ASSERT_TRUE(streamed.ParseFromString(bytes));
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(streamed.infer_response(), back));
  bytes.clear();
  write_streamed_error(bytes, "no", "9");
  ASSERT_TRUE(streamed.ParseFromString(bytes));
  EXPECT_EQ(streamed.error_message(), "no");
  EXPECT_EQ(streamed.infer_response().id(), "9");
}

}  // namespace
}  // namespace troupe::rpc

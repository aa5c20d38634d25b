// Any bytes as a ModelInferRequest, and as a packed one. What is read is what protobuf reads, lies within the
// message and the limits; answered with the same tensors, protobuf reads the response.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "inference.pb.h"
#include "runtime/grpc/unpack.hpp"
#include "runtime/grpc/wire.hpp"

namespace {

using namespace troupe;
using contents_kind = codec::v2_contents::kind;

constexpr std::size_t max_elements = 1000;

#define MUST(condition) \
  if (!(condition)) std::abort()

bool within(std::string_view part, std::string_view all) {
  return part.empty() || (part.data() >= all.data() && part.data() + part.size() <= all.data() + all.size());
}

template <class List>
void same_elements(const codec::v2_contents& ours, contents_kind k, const List& theirs) {
  if (theirs.empty()) return;
  MUST(ours.held == k && ours.count == static_cast<std::size_t>(theirs.size()));
  using element = std::decay_t<decltype(theirs[0])>;
  const auto* data = static_cast<const element*>(ours.data);
  for (int i = 0; i < theirs.size(); ++i) MUST(std::memcmp(&data[i], &theirs[i], sizeof(element)) == 0);
}

void same(const rpc::infer_request& ours, const inference::ModelInferRequest& theirs) {
  MUST(ours.model_name == theirs.model_name() && ours.model_version == theirs.model_version());
  MUST(ours.id == theirs.id());
  MUST(ours.inputs.size() == static_cast<std::size_t>(theirs.inputs_size()));
  MUST(ours.outputs.size() == static_cast<std::size_t>(theirs.outputs_size()));
  for (int i = 0; i < theirs.outputs_size(); ++i)
    MUST(ours.outputs[static_cast<std::size_t>(i)].name == theirs.outputs(i).name());
  std::size_t all = 0;
  for (int i = 0; i < theirs.inputs_size(); ++i) {
    const auto& a = ours.inputs[static_cast<std::size_t>(i)];
    const auto& b = theirs.inputs(i);
    MUST(a.name == b.name() && a.datatype == b.datatype());
    MUST(a.shape.size() == static_cast<std::size_t>(b.shape_size()));
    for (int d = 0; d < b.shape_size(); ++d) MUST(a.shape[static_cast<std::size_t>(d)] == b.shape(d));
    const auto& c = b.contents();
    same_elements(a.contents, contents_kind::boolean, c.bool_contents());
    same_elements(a.contents, contents_kind::int32, c.int_contents());
    same_elements(a.contents, contents_kind::int64, c.int64_contents());
    same_elements(a.contents, contents_kind::uint32, c.uint_contents());
    same_elements(a.contents, contents_kind::uint64, c.uint64_contents());
    same_elements(a.contents, contents_kind::fp32, c.fp32_contents());
    same_elements(a.contents, contents_kind::fp64, c.fp64_contents());
    MUST(a.contents.texts.size() == static_cast<std::size_t>(c.bytes_contents_size()));
    for (int j = 0; j < c.bytes_contents_size(); ++j)
      MUST(a.contents.texts[static_cast<std::size_t>(j)] == c.bytes_contents(j));
    if (theirs.raw_input_contents_size() > 0) MUST(a.contents.raw == theirs.raw_input_contents(i));
    if (a.contents.held != contents_kind::raw) all += a.contents.count;
  }
  MUST(all <= max_elements);
}

void answer(const rpc::infer_request& request) {
  std::vector<rpc::output_tensor> outputs;
  for (const auto& one : request.inputs) {
    rpc::output_tensor& out = outputs.emplace_back();
    out.name = one.name;
    out.datatype = one.datatype;
    out.shape = one.shape;
    out.contents.held = contents_kind::raw;
    out.contents.raw = one.contents.raw;
  }
  rpc::infer_response response;
  response.model_name = request.model_name;
  response.model_version = request.model_version;
  response.id = request.id;
  response.parameters = request.parameters;
  response.outputs = outputs;
  std::string text, streamed;
  rpc::write(text, response);
  rpc::write_streamed(streamed, response);
  inference::ModelInferResponse back;
  inference::ModelStreamInferResponse back_streamed;
  MUST(back.ParseFromString(text) && back_streamed.ParseFromString(streamed));
  MUST(back.SerializeAsString() == back_streamed.infer_response().SerializeAsString() ||
       !request.parameters.empty());  // whose order is free
  MUST(back.outputs_size() == static_cast<int>(outputs.size()) && back.id() == request.id);
  for (int i = 0; i < back.raw_output_contents_size(); ++i)
    MUST(back.raw_output_contents(i) == outputs[static_cast<std::size_t>(i)].contents.raw);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // In memory of its exact size, so that a read beyond it is caught.
  const auto exact = std::make_unique<char[]>(size);
  if (size > 0) std::memcpy(exact.get(), data, size);
  std::string_view message(exact.get(), size);
  std::string plain;
  if (rpc::packed(message)) {
    constexpr std::size_t limit = 10'000;
    if (rpc::unpack(message, limit, plain) != rpc::unpacked::done) return 0;
    MUST(plain.size() <= limit);
    message = plain;
  }
  static rpc::infer_request request;  // what the one before left behind must not matter
  const std::string fault = request.read(message, max_elements);
  if (!fault.empty()) return 0;
  MUST(within(request.model_name, message) && within(request.id, message));
  for (const auto& one : request.raw) MUST(within(one, message));
  inference::ModelInferRequest theirs;
  MUST(theirs.ParseFromArray(message.data(), static_cast<int>(message.size())));
  same(request, theirs);
  answer(request);
  return 0;
}

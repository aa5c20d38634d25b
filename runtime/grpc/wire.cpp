#include "runtime/grpc/wire.hpp"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace troupe::rpc {
namespace {

using contents_kind = codec::v2_contents::kind;

enum wire_type : std::uint32_t { varint = 0, fixed64 = 1, bytes = 2, group = 3, group_end = 4, fixed32 = 5 };

/// Fields of a message, one after the other. After an error no more come, and `ok` is false.
class fields {
 public:
  explicit fields(std::string_view message)
      : at_(reinterpret_cast<const unsigned char*>(message.data())), end_(at_ + message.size()) {}

  std::uint32_t number = 0;
  std::uint32_t type = 0;
  std::uint64_t value = 0;  ///< of varint, fixed64, fixed32
  std::string_view text;    ///< of bytes
  bool ok = true;

  bool next() {
    if (at_ == end_) return false;
    std::uint64_t tag = 0;
    if (!take_tag(tag)) return broken();
    number = static_cast<std::uint32_t>(tag >> 3);
    type = static_cast<std::uint32_t>(tag & 7);
    return take_value() || broken();
  }

  /// Of at most so many bytes, even where the last ones add nothing to the value.
  bool take_varint(std::uint64_t& to, unsigned longest = 10) {
    to = 0;
    for (unsigned shift = 0; shift < 7 * longest; shift += 7) {
      if (at_ == end_) return false;
      const std::uint64_t byte = *at_++;
      if (shift < 64) to |= (byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  [[nodiscard]] bool done() const { return at_ == end_; }

 private:
  static constexpr int deepest_group = 64;
  static constexpr unsigned longest_32_bits =
      5;  // bytes of a tag and of a size: protobuf takes no longer ones

  bool broken() { return ok = false; }

  bool take_tag(std::uint64_t& tag) {
    return take_varint(tag, longest_32_bits) && tag <= UINT32_MAX && tag >> 3 != 0;
  }

  bool take_fixed(std::size_t size) {
    if (static_cast<std::size_t>(end_ - at_) < size) return false;
    value = 0;
    std::memcpy(&value, at_, size);  // little-endian, as the machine
    at_ += size;
    return true;
  }

  bool take_value() {
    switch (type) {
      case varint:
        return take_varint(value);
      case fixed64:
        return take_fixed(8);
      case fixed32:
        return take_fixed(4);
      case bytes: {
        std::uint64_t size = 0;
        if (!take_varint(size, longest_32_bits) || size > static_cast<std::uint64_t>(end_ - at_))
          return false;
        text = {reinterpret_cast<const char*>(at_), static_cast<std::size_t>(size)};
        at_ += size;
        return true;
      }
      case group:
        return skip_group();
      default:
        return false;
    }
  }

  /// Groups are of no message here, so they are unknown fields: to their end, which has the same number.
  bool skip_group() {
    std::uint32_t open[deepest_group] = {number};
    int depth = 1;
    while (depth > 0) {
      std::uint64_t tag = 0;
      if (!take_tag(tag)) return false;
      const auto inner = static_cast<std::uint32_t>(tag >> 3);
      type = static_cast<std::uint32_t>(tag & 7);
      if (type == group) {
        if (depth == deepest_group) return false;
        open[depth++] = inner;
      } else if (type == group_end) {
        if (open[--depth] != inner) return false;
      } else if (!take_value()) {
        return false;
      }
    }
    type = group;
    return true;
  }

  const unsigned char* at_;
  const unsigned char* end_;
};

static_assert(std::endian::native == std::endian::little);

bool is_utf8(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; }) ||
         simdjson::validate_utf8(text.data(), text.size());
}

constexpr const char* malformed = "the message is not a ModelInferRequest";

}  // namespace

class infer_request::reader {
 public:
  reader(infer_request& to, std::size_t max_elements) : to_(to), room_(max_elements) {}

  bool message(std::string_view text) {
    fields f(text);
    while (f.next()) {
      if (f.type != bytes) continue;
      bool good = true;
      switch (f.number) {
        case 1:
          good = name(f.text, to_.model_name);
          break;
        case 2:
          good = name(f.text, to_.model_version);
          break;
        case 3:
          good = name(f.text, to_.id);
          break;
        case 4:
          good = entry(f.text, to_.parameters);
          break;
        case 5:
          good = input(f.text);
          break;
        case 6:
          good = output(f.text);
          break;
        case 7:
          good = to_.raw.size() < most_tensors || too_many("raw_input_contents has too many entries");
          if (good) to_.raw.push_back(f.text);
          break;
        default:
          break;
      }
      if (!good) return false;
    }
    return f.ok;
  }

  std::string fault;  ///< something better to say than that it is malformed

 private:
  static bool name(std::string_view from, std::string_view& to) {
    to = from;
    return is_utf8(from);
  }

  /// An entry of a map of parameters.
  static bool entry(std::string_view text, std::vector<parameter>& list) {
    parameter p;
    fields f(text);
    while (f.next()) {
      if (f.type != bytes) continue;
      if (f.number == 1 && !name(f.text, p.name)) return false;
      if (f.number == 2 && !choice(f.text, p)) return false;
    }
    if (!f.ok) return false;
    for (auto& known : list)
      if (known.name == p.name) {
        known = p;
        return true;
      }
    if (list.size() == most_parameters) return false;  // the search above is linear
    list.push_back(p);
    return true;
  }

  static bool choice(std::string_view text, parameter& p) {
    fields f(text);
    while (f.next()) {
      if (f.number == 1 && f.type == varint) p.held = parameter::kind::boolean, p.boolean = f.value != 0;
      if (f.number == 2 && f.type == varint)
        p.held = parameter::kind::integer, p.integer = static_cast<std::int64_t>(f.value);
      if (f.number == 3 && f.type == bytes) {
        p.held = parameter::kind::text;
        if (!name(f.text, p.text)) return false;
      }
      if (f.number == 4 && f.type == fixed64)
        p.held = parameter::kind::real, p.real = std::bit_cast<double>(f.value);
      if (f.number == 5 && f.type == varint) p.held = parameter::kind::natural, p.natural = f.value;
    }
    return f.ok;
  }

  bool too_many(const char* what) {
    fault = what;
    return false;
  }

  bool output(std::string_view text) {
    if (to_.outputs.size() == most_tensors || to_.output_parameters.size() > most_tensors)
      return too_many("too many outputs are asked for");
    requested_output& made = to_.outputs.emplace_back();
    made.parameters_begin = static_cast<std::uint32_t>(to_.output_parameters.size());
    scratch_.clear();
    fields f(text);
    while (f.next()) {
      if (f.type != bytes) continue;
      if (f.number == 1 && !name(f.text, made.name)) return false;
      if (f.number == 2 && !entry(f.text, scratch_)) return false;
    }
    to_.output_parameters.insert(to_.output_parameters.end(), scratch_.begin(), scratch_.end());
    made.parameters_count = static_cast<std::uint32_t>(scratch_.size());
    return f.ok;
  }

  bool input(std::string_view text) {
    if (to_.inputs.size() == most_tensors) return too_many("there are too many inputs");
    codec::v2_input& made = to_.inputs.emplace_back();
    extent& where = to_.extents_.emplace_back();
    where.shape_begin = static_cast<std::uint32_t>(to_.shapes_.size());
    fields f(text);
    while (f.next()) {
      bool good = true;
      if (f.number == 1 && f.type == bytes) good = name(f.text, made.name);
      if (f.number == 2 && f.type == bytes) good = name(f.text, made.datatype);
      if (f.number == 3 && (f.type == varint || f.type == bytes)) good = shape(f);
      if (f.number == 4 && f.type == bytes) {  // none is known, but it must be one
        scratch_.clear();
        good = entry(f.text, scratch_);
      }
      if (f.number == 5 && f.type == bytes) good = contents(f.text, made, where);
      if (!good) return false;
    }
    where.shape_count = static_cast<std::uint32_t>(to_.shapes_.size()) - where.shape_begin;
    return f.ok;
  }

  bool shape(const fields& f) {
    return numbers(
        f, to_.shapes_, [](std::uint64_t v) { return static_cast<std::int64_t>(v); }, false);
  }

  bool contents(std::string_view text, codec::v2_input& to, extent& where) {
    fields f(text);
    while (f.next()) {
      bool good = true;
      switch (f.number) {
        case 1:
          good = varints(f, contents_kind::boolean, to, where, to_.booleans_,
                         [](std::uint64_t v) { return static_cast<std::uint8_t>(v != 0); });
          break;
        case 2:
          good = varints(f, contents_kind::int32, to, where, to_.int32s_,
                         [](std::uint64_t v) { return static_cast<std::int32_t>(v); });
          break;
        case 3:
          good = varints(f, contents_kind::int64, to, where, to_.int64s_,
                         [](std::uint64_t v) { return static_cast<std::int64_t>(v); });
          break;
        case 4:
          good = varints(f, contents_kind::uint32, to, where, to_.uint32s_,
                         [](std::uint64_t v) { return static_cast<std::uint32_t>(v); });
          break;
        case 5:
          good =
              varints(f, contents_kind::uint64, to, where, to_.uint64s_, [](std::uint64_t v) { return v; });
          break;
        case 6:
          good = reals(f, fixed32, contents_kind::fp32, to, where, to_.fp32s_);
          break;
        case 7:
          good = reals(f, fixed64, contents_kind::fp64, to, where, to_.fp64s_);
          break;
        case 8:
          if (f.type != bytes) break;
          good = holds(contents_kind::texts, to, where, to_.texts_.size()) && room(1);
          if (good) to_.texts_.push_back(f.text), ++to.contents.count;
          break;
        default:
          break;
      }
      if (!good) return false;
    }
    return f.ok;
  }

  bool room(std::size_t elements) {
    if (elements > room_) {
      to_.too_many_ = true;
      return false;
    }
    room_ -= elements;
    return true;
  }

  /// The elements that follow are of this kind.
  bool holds(contents_kind kind, codec::v2_input& to, extent& where, std::size_t begin) {
    if (to.contents.held == kind) return true;
    if (to.contents.held != contents_kind::none) {
      fault = "an input's contents are in several fields at once; one of them is that of its datatype";
      return false;
    }
    to.contents.held = kind;
    where.begin = static_cast<std::uint32_t>(begin);
    return true;
  }

  template <class T, class Convert>
  bool numbers(const fields& f, std::vector<T>& to, Convert convert, bool count) {
    if (f.type == varint) {
      if ((count && !room(1)) || (!count && to.size() >= most_dimensions)) return count ? false : too_deep();
      to.push_back(convert(f.value));
      return true;
    }
    fields packed(f.text);
    while (!packed.done()) {
      std::uint64_t value = 0;
      if (!packed.take_varint(value)) return false;
      if (count ? !room(1) : to.size() >= most_dimensions) return count ? false : too_deep();
      to.push_back(convert(value));
    }
    return true;
  }
  bool too_deep() { return too_many("the inputs' shapes have too many dimensions"); }

  template <class T, class Convert>
  bool varints(const fields& f, contents_kind kind, codec::v2_input& to, extent& where, std::vector<T>& list,
               Convert convert) {
    if (f.type != varint && f.type != bytes) return true;  // not this field at all
    if (f.type == bytes && f.text.empty()) return true;
    const std::size_t before = list.size();
    if (!holds(kind, to, where, before) || !numbers(f, list, convert, true)) return false;
    to.contents.count += list.size() - before;
    return true;
  }

  template <class T>
  bool reals(const fields& f, wire_type single, contents_kind kind, codec::v2_input& to, extent& where,
             std::vector<T>& list) {
    if (f.type == single) {
      if (!holds(kind, to, where, list.size()) || !room(1)) return false;
      T one{};
      std::memcpy(&one, &f.value, sizeof one);
      list.push_back(one);
      ++to.contents.count;
      return true;
    }
    if (f.type != bytes || f.text.empty()) return true;
    const std::size_t count = f.text.size() / sizeof(T), before = list.size();
    if (f.text.size() % sizeof(T) != 0 || !holds(kind, to, where, before) || !room(count)) return false;
    list.resize(before + count);
    std::memcpy(list.data() + before, f.text.data(), f.text.size());
    to.contents.count += count;
    return true;
  }

  static constexpr std::size_t most_parameters = 256;
  static constexpr std::size_t most_dimensions = 262'144;  // of all inputs together
  static constexpr std::size_t most_tensors = 65'536;

  infer_request& to_;
  std::size_t room_;
  std::vector<parameter> scratch_;
};

std::string infer_request::read(std::string_view message, std::size_t max_elements) {
  model_name = model_version = id = {};
  inputs.clear(), parameters.clear(), outputs.clear(), output_parameters.clear(), raw.clear();
  extents_.clear(), shapes_.clear(), booleans_.clear(), int32s_.clear(), int64s_.clear(), uint32s_.clear();
  uint64s_.clear(), fp32s_.clear(), fp64s_.clear(), texts_.clear();
  too_many_ = false;
  reader r(*this, max_elements);
  if (!r.message(message)) {
    if (too_many_)
      return "the inputs have more elements than the " + std::to_string(max_elements) + " allowed";
    return r.fault.empty() ? malformed : r.fault;
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    codec::v2_input& one = inputs[i];
    const extent& where = extents_[i];
    one.shape = {shapes_.data() + where.shape_begin, where.shape_count};
    switch (one.contents.held) {
      case contents_kind::boolean:
        one.contents.data = booleans_.data() + where.begin;
        break;
      case contents_kind::int32:
        one.contents.data = int32s_.data() + where.begin;
        break;
      case contents_kind::int64:
        one.contents.data = int64s_.data() + where.begin;
        break;
      case contents_kind::uint32:
        one.contents.data = uint32s_.data() + where.begin;
        break;
      case contents_kind::uint64:
        one.contents.data = uint64s_.data() + where.begin;
        break;
      case contents_kind::fp32:
        one.contents.data = fp32s_.data() + where.begin;
        break;
      case contents_kind::fp64:
        one.contents.data = fp64s_.data() + where.begin;
        break;
      case contents_kind::texts:
        one.contents.texts = {texts_.data() + where.begin, one.contents.count};
        break;
      default:
        break;
    }
    if (raw.empty()) continue;
    if (one.contents.held != contents_kind::none)
      return "an input has contents although the request has raw_input_contents; use one of them";
    if (raw.size() == inputs.size()) {
      one.contents.held = contents_kind::raw;
      one.contents.raw = raw[i];
    }
  }
  if (!raw.empty() && raw.size() != inputs.size())
    return "raw_input_contents has " + std::to_string(raw.size()) + " entries, and there are " +
           std::to_string(inputs.size()) + " inputs; there must be one for each";
  return {};
}

const parameter* infer_request::find(std::string_view name) const {
  for (const auto& one : parameters)
    if (one.name == name) return &one;
  return nullptr;
}

// --- writing

namespace {

std::size_t varint_size(std::uint64_t value) {
  return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7;
}

void put_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}

void put_tag(std::string& out, std::uint32_t number, wire_type type) {
  put_varint(out, number << 3 | type);
}

/// Absent when empty, as proto3 has it.
void put_text(std::string& out, std::uint32_t number, std::string_view text, bool even_empty = false) {
  if (text.empty() && !even_empty) return;
  put_tag(out, number, bytes);
  put_varint(out, text.size());
  out += text;
}

/// A message whose size is known only once it is written: most are short, and so is the move.
template <class Write>
void put_message(std::string& out, std::uint32_t number, Write write) {
  put_tag(out, number, bytes);
  const std::size_t begin = out.size();
  out += '\0';
  write();
  const std::size_t size = out.size() - begin - 1;
  out[begin] = static_cast<char>(size);
  if (size < 0x80) return;
  std::string length;
  put_varint(length, size);
  out.replace(begin, 1, length);
}

template <class T>
void put_varints(std::string& out, std::uint32_t number, const codec::v2_contents& c) {
  const T* data = static_cast<const T*>(c.data);
  // int32 below 0 goes as 64 bits.
  const auto wide = [](T v) {
    if constexpr (std::is_signed_v<T>)
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(v));
    else
      return static_cast<std::uint64_t>(v);
  };
  std::size_t size = 0;
  for (std::size_t i = 0; i < c.count; ++i) size += varint_size(wide(data[i]));
  put_tag(out, number, bytes);
  put_varint(out, size);
  for (std::size_t i = 0; i < c.count; ++i) put_varint(out, wide(data[i]));
}

void put_contents(std::string& out, const codec::v2_contents& c) {
  switch (c.held) {
    case contents_kind::boolean:
      return put_varints<std::uint8_t>(out, 1, c);
    case contents_kind::int32:
      return put_varints<std::int32_t>(out, 2, c);
    case contents_kind::int64:
      return put_varints<std::int64_t>(out, 3, c);
    case contents_kind::uint32:
      return put_varints<std::uint32_t>(out, 4, c);
    case contents_kind::uint64:
      return put_varints<std::uint64_t>(out, 5, c);
    case contents_kind::fp32:
      return put_text(out, 6, {static_cast<const char*>(c.data), c.count * sizeof(float)});
    case contents_kind::fp64:
      return put_text(out, 7, {static_cast<const char*>(c.data), c.count * sizeof(double)});
    case contents_kind::texts:
      for (const auto text : c.texts) put_text(out, 8, text, true);
      return;
    default:
      return;
  }
}

void put_parameter(std::string& out, std::uint32_t number, const parameter& p) {
  put_message(out, number, [&] {
    put_text(out, 1, p.name);
    put_message(out, 2, [&] {
      switch (p.held) {
        case parameter::kind::boolean:
          put_tag(out, 1, varint);
          put_varint(out, p.boolean ? 1 : 0);
          break;
        case parameter::kind::integer:
          put_tag(out, 2, varint);
          put_varint(out, static_cast<std::uint64_t>(p.integer));
          break;
        case parameter::kind::text:
          put_text(out, 3, p.text, true);
          break;
        case parameter::kind::real: {
          put_tag(out, 4, fixed64);
          char raw[8];
          std::memcpy(raw, &p.real, 8);
          out.append(raw, 8);
          break;
        }
        case parameter::kind::natural:
          put_tag(out, 5, varint);
          put_varint(out, p.natural);
          break;
        case parameter::kind::none:
          break;
      }
    });
  });
}

void put_output(std::string& out, const output_tensor& one, bool raw) {
  put_message(out, 5, [&] {
    put_text(out, 1, one.name);
    put_text(out, 2, one.datatype);
    if (!one.shape.empty()) {
      std::size_t size = 0;
      for (const auto n : one.shape) size += varint_size(static_cast<std::uint64_t>(n));
      put_tag(out, 3, bytes);
      put_varint(out, size);
      for (const auto n : one.shape) put_varint(out, static_cast<std::uint64_t>(n));
    }
    if (!raw && (one.contents.count > 0 || !one.contents.texts.empty()))
      put_message(out, 5, [&] { put_contents(out, one.contents); });
  });
}

}  // namespace

void write(std::string& out, const infer_response& response) {
  put_text(out, 1, response.model_name);
  put_text(out, 2, response.model_version);
  put_text(out, 3, response.id);
  for (const auto& one : response.parameters) put_parameter(out, 4, one);
  for (const auto& one : response.outputs) put_output(out, one, response.raw);
  if (response.raw)
    for (const auto& one : response.outputs) put_text(out, 6, one.contents.raw, true);
}

void write_streamed(std::string& out, const infer_response& response) {
  put_message(out, 2, [&] { write(out, response); });
}

void write_streamed_error(std::string& out, std::string_view error, std::string_view id) {
  put_text(out, 1, error.empty() ? "failed" : error);
  put_message(out, 2, [&] { put_text(out, 3, id); });
}

void write_retry_details(std::string& out, int code, std::string_view message, std::int64_t retry_after_ns) {
  put_tag(out, 1, varint);
  put_varint(out, static_cast<std::uint64_t>(code));
  put_text(out, 2, message);
  put_message(out, 3, [&] {  // google.protobuf.Any
    put_text(out, 1, "type.googleapis.com/google.rpc.RetryInfo");
    put_message(out, 2, [&] {
      put_message(out, 1, [&] {  // google.protobuf.Duration
        if (const auto seconds = retry_after_ns / 1'000'000'000; seconds != 0) {
          put_tag(out, 1, varint);
          put_varint(out, static_cast<std::uint64_t>(seconds));
        }
        if (const auto rest = retry_after_ns % 1'000'000'000; rest != 0) {
          put_tag(out, 2, varint);
          put_varint(out, static_cast<std::uint64_t>(rest));
        }
      });
    });
  });
}

}  // namespace troupe::rpc

#include "runtime/model/onnx.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "runtime/model/model.hpp"

namespace troupe::model::onnx {
namespace {

static_assert(std::endian::native == std::endian::little, "protobuf and raw tensors are little-endian");

[[noreturn]] void broken(const std::string& what) {
  throw load_error("not a readable ONNX file: " + what + "; export or copy it again");
}

enum class wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

/// One message: next() steps to a field, then exactly one of the value readers or skip() is called.
class message {
 public:
  explicit message(std::string_view bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool next() {
    if (at_ == end_) return false;
    const std::uint64_t tag = varint();
    field = static_cast<std::uint32_t>(tag >> 3);
    const auto type = tag & 7;
    if (tag >> 32 || field == 0 || (type > 2 && type != 5)) broken("a field has no valid tag");
    kind_ = static_cast<wire>(type);
    return true;
  }

  std::uint32_t field = 0;

  [[nodiscard]] bool packed() const { return kind_ == wire::bytes; }
  [[nodiscard]] bool done() const { return at_ == end_; }
  [[nodiscard]] std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == end_) broken("it ends within a number");
      const auto byte = static_cast<std::uint8_t>(*at_++);
      value |= static_cast<std::uint64_t>(byte & 127U) << shift;
      if (byte < 128) return value;
    }
    broken("a number is longer than ten bytes");
  }

  template <class T>
  T fixed() {
    T value;
    if (left() < sizeof value) broken("it ends within a number");
    std::memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  std::int64_t integer() {
    expect(wire::varint);
    return static_cast<std::int64_t>(varint());
  }
  float real() {
    expect(wire::fixed32);
    return fixed<float>();
  }
  std::string_view bytes() {
    expect(wire::bytes);
    const std::uint64_t size = varint();
    if (size > left()) broken("it ends early (a part of " + std::to_string(size) + " bytes does not fit)");
    const std::string_view value(at_, static_cast<std::size_t>(size));
    at_ += size;
    return value;
  }

  /// A repeated number, packed or not.
  template <class T>
  void append(std::vector<T>& to) {
    if (!packed()) {
      to.push_back(one<T>());
      return;
    }
    message part(bytes());
    if constexpr (std::is_floating_point_v<T>) {
      const std::size_t count = part.left() / sizeof(T);
      if (count * sizeof(T) != part.left()) broken("a list of numbers has an odd length");
      const std::size_t old = to.size();
      to.resize(old + count);
      if (count) std::memcpy(to.data() + old, part.at_, count * sizeof(T));
    } else {
      while (!part.done()) to.push_back(static_cast<T>(part.varint()));
    }
  }

  void skip() {
    switch (kind_) {
      case wire::varint:
        varint();
        break;
      case wire::fixed64:
        fixed<std::uint64_t>();
        break;
      case wire::fixed32:
        fixed<std::uint32_t>();
        break;
      case wire::bytes:
        bytes();
        break;
    }
  }

 private:
  void expect(wire kind) const {
    if (kind_ != kind) broken("field " + std::to_string(field) + " has another type than it should");
  }
  template <class T>
  T one() {
    if constexpr (std::is_same_v<T, double>) {
      expect(wire::fixed64);
      return fixed<double>();
    } else if constexpr (std::is_same_v<T, float>) {
      return real();
    } else {
      return static_cast<T>(integer());
    }
  }

  const char* at_;
  const char* end_;
  wire kind_ = wire::varint;
};

template <class T>
std::vector<T> raw_numbers(std::string_view raw, std::size_t count) {
  if (raw.size() != count * sizeof(T)) broken("a constant's data has another size than its shape");
  std::vector<T> values(count);
  if (count) std::memcpy(values.data(), raw.data(), raw.size());
  return values;
}

template <class T>
std::vector<double> widened(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

tensor read_tensor(std::string_view bytes) {
  tensor t;
  std::string_view raw;
  bool has_raw = false;
  std::vector<float> floats;
  std::vector<double> doubles;
  std::vector<std::int32_t> int32s;
  std::vector<std::int64_t> int64s;
  message m(bytes);
  while (m.next()) {
    switch (m.field) {
      case 1:
        m.append(t.dims);
        break;
      case 2:
        t.type = static_cast<element>(static_cast<std::int32_t>(m.integer()));
        break;
      case 4:
        m.append(floats);
        break;
      case 5:
        m.append(int32s);
        break;
      case 7:
        m.append(int64s);
        break;
      case 8:
        t.name = m.bytes();
        break;
      case 9:
        raw = m.bytes(), has_raw = true;
        break;
      case 10:
        m.append(doubles);
        break;
      case 14:
        if (m.integer() != 0) {
          throw load_error("a constant's data is in another file; export the model with its data inside");
        }
        break;
      default:
        m.skip();
    }
  }
  // Only the four numeric types are read; a tensor of another type stays empty, and whoever uses it says so.
  std::size_t count = 1;
  for (const std::int64_t d : t.dims) {
    if (d < 0 || (d != 0 && count > bytes.size() / static_cast<std::uint64_t>(d))) {
      broken("a constant's shape is larger than its data");
    }
    count *= static_cast<std::size_t>(d);
  }
  switch (t.type) {
    case element::float32:
      t.numbers = widened(has_raw ? raw_numbers<float>(raw, count) : floats);
      break;
    case element::float64:
      t.numbers = has_raw ? raw_numbers<double>(raw, count) : doubles;
      break;
    case element::int32:
      t.numbers = widened(has_raw ? raw_numbers<std::int32_t>(raw, count) : int32s);
      break;
    case element::boolean:
      t.numbers = has_raw ? widened(raw_numbers<std::uint8_t>(raw, count)) : widened(int32s);
      break;
    case element::int64:
      t.ints = has_raw ? raw_numbers<std::int64_t>(raw, count) : int64s;
      break;
    default:
      return t;
  }
  if (std::max(t.numbers.size(), t.ints.size()) != count)
    broken("a constant's data has another size than its shape");
  return t;
}

attribute read_attribute(std::string_view bytes) {
  attribute a;
  message m(bytes);
  while (m.next()) {
    switch (m.field) {
      case 1:
        a.name = m.bytes();
        break;
      case 2:
        a.f = m.real();
        break;
      case 3:
        a.i = m.integer();
        break;
      case 4:
        a.s = m.bytes();
        break;
      case 5:
        a.t.clear();
        a.t.push_back(read_tensor(m.bytes()));
        break;
      case 7:
        m.append(a.floats);
        break;
      case 8:
        m.append(a.ints);
        break;
      case 9:
        a.strings.push_back(m.bytes());
        break;
      default:
        m.skip();
    }
  }
  return a;
}

node read_node(std::string_view bytes) {
  node n;
  message m(bytes);
  while (m.next()) {
    switch (m.field) {
      case 1:
        n.inputs.push_back(m.bytes());
        break;
      case 2:
        n.outputs.push_back(m.bytes());
        break;
      case 3:
        n.name = m.bytes();
        break;
      case 4:
        n.op = m.bytes();
        break;
      case 5:
        n.attributes.push_back(read_attribute(m.bytes()));
        break;
      case 7:
        n.domain = m.bytes();
        break;
      default:
        m.skip();
    }
  }
  return n;
}

std::int64_t read_dimension(std::string_view bytes) {
  std::int64_t size = -1;
  message m(bytes);
  while (m.next()) {
    if (m.field == 1) {
      size = m.integer();
    } else {
      m.skip();
    }
  }
  return size < 0 ? -1 : size;
}

/// TypeProto.Tensor
void read_tensor_type(std::string_view bytes, value_info& v) {
  message m(bytes);
  while (m.next()) {
    if (m.field == 1) {
      v.type = static_cast<element>(static_cast<std::int32_t>(m.integer()));
    } else if (m.field == 2) {
      v.has_shape = true;
      v.dims.clear();
      message shape(m.bytes());
      while (shape.next()) {
        if (shape.field == 1) {
          v.dims.push_back(read_dimension(shape.bytes()));
        } else {
          shape.skip();
        }
      }
    } else {
      m.skip();
    }
  }
}

value_info read_value_info(std::string_view bytes) {
  value_info v;
  message m(bytes);
  while (m.next()) {
    if (m.field == 1) {
      v.name = m.bytes();
    } else if (m.field == 2) {
      message type(m.bytes());
      while (type.next()) {
        if (type.field == 1) {
          read_tensor_type(type.bytes(), v);
        } else {
          type.skip();
        }
      }
    } else {
      m.skip();
    }
  }
  return v;
}

void read_graph(std::string_view bytes, const limits& most, graph& g) {
  message m(bytes);
  while (m.next()) {
    switch (m.field) {
      case 1:
        g.nodes.push_back(read_node(m.bytes()));
        break;
      case 5:
        g.initializers.push_back(read_tensor(m.bytes()));
        break;
      case 11:
        g.inputs.push_back(read_value_info(m.bytes()));
        break;
      case 12:
        g.outputs.push_back(read_value_info(m.bytes()));
        break;
      case 15:
        throw load_error("sparse constants are not built in; export the model with dense ones");
      default:
        m.skip();
    }
    if (std::max({g.nodes.size(), g.initializers.size(), g.inputs.size(), g.outputs.size()}) >
        most.graph_nodes) {
      throw load_error("the graph has more than " + std::to_string(most.graph_nodes) + " parts, the limit");
    }
  }
}

}  // namespace

const attribute* node::find(std::string_view attribute_name) const {
  const auto at = std::find_if(attributes.begin(), attributes.end(),
                               [&](const attribute& a) { return a.name == attribute_name; });
  return at == attributes.end() ? nullptr : &*at;
}

const tensor* graph::initializer(std::string_view name) const {
  const auto at =
      std::find_if(initializers.begin(), initializers.end(), [&](const tensor& t) { return t.name == name; });
  return at == initializers.end() ? nullptr : &*at;
}

graph read(std::string_view file, const limits& most) {
  if (file.size() > most.file_bytes) {
    throw load_error("the file has " + std::to_string(file.size()) + " bytes, more than the limit of " +
                     std::to_string(most.file_bytes));
  }
  graph g;
  bool has_graph = false;
  message m(file);
  while (m.next()) {
    if (m.field == 7) {
      if (has_graph) broken("it has two graphs");
      has_graph = true;
      read_graph(m.bytes(), most, g);
    } else if (m.field == 14) {
      std::pair<std::string_view, std::string_view> entry;
      message pair(m.bytes());
      while (pair.next()) {
        if (pair.field == 1) {
          entry.first = pair.bytes();
        } else if (pair.field == 2) {
          entry.second = pair.bytes();
        } else {
          pair.skip();
        }
      }
      g.metadata.push_back(entry);
    } else {
      m.skip();
    }
  }
  if (!has_graph) broken("it has no graph");
  return g;
}

}  // namespace troupe::model::onnx

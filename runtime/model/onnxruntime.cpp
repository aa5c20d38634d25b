#include "runtime/model/onnxruntime.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include "runtime/model/cells.hpp"
#include "runtime/model/onnx.hpp"

#ifndef TROUPE_ONNXRUNTIME_LIBRARY
#define TROUPE_ONNXRUNTIME_LIBRARY ""
#endif

namespace troupe::model::onnxruntime {
namespace {

// Positions in OrtApi.
enum position : std::size_t {
  get_error_message = 2,
  create_env = 3,
  disable_telemetry = 6,
  create_session_from_array = 8,
  run_session = 9,
  create_session_options = 10,
  set_intra_op_threads = 24,
  set_inter_op_threads = 25,
  session_input_count = 30,
  session_output_count = 31,
  session_input_type = 33,
  session_output_type = 34,
  session_input_name = 36,
  session_output_name = 37,
  create_tensor = 48,
  create_tensor_with_data = 49,
  tensor_data = 51,
  fill_string_tensor = 52,
  string_data_length = 53,
  string_content = 54,
  cast_type_to_tensor = 55,
  kind_of_type = 56,
  tensor_element_type = 60,
  dimensions_count = 61,
  dimensions_of = 62,
  symbolic_dimensions = 63,
  tensor_type_and_shape = 65,
  cpu_memory_info = 69,
  allocator_free = 76,
  default_allocator = 78,
  get_value = 80,
  get_value_count = 81,
  release_status = 93,
  release_session = 95,
  release_value = 96,
  release_type_info = 98,
  release_tensor_info = 99,
  release_session_options = 100,
  available_providers = 125,
  release_providers = 126,
  add_session_config = 130,
  append_tensorrt = 170,
  create_tensorrt_options = 171,
  release_tensorrt_options = 174,
  append_cuda = 204,
  create_cuda_options = 205,
  release_cuda_options = 208,
  append_provider = 216,
};

constexpr std::uint32_t api_version = 17;
constexpr int log_fatal = 4;  // errors come back as statuses, with their text
constexpr int arena_allocator = 1;
constexpr int default_memory = 0;

struct api_base {
  const void* const* (*get_api)(std::uint32_t);
  const char* (*version)();
};

}  // namespace

/// One opened library. Never closed: its threads and allocators do not survive that.
class library {
 public:
  explicit library(const std::filesystem::path& file) {
    void* const opened = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!opened) {
      const char* const why = dlerror();
      throw load_error("it needs ONNX Runtime, and that cannot be opened (" +
                       std::string(why ? why : file.string()) +
                       "): run scripts/deps, or set onnxruntime.library to libonnxruntime.so");
    }
    const auto base = reinterpret_cast<const api_base* (*)()>(dlsym(opened, "OrtGetApiBase"));
    if (!base)
      throw load_error(file.string() +
                       " is not ONNX Runtime (it has no OrtGetApiBase): set onnxruntime.library to its "
                       "libonnxruntime.so");
    version = base()->version();
    api_ = base()->get_api(api_version);
    if (!api_)
      throw load_error(file.string() + " is ONNX Runtime " + version + ", older than 1." +
                       std::to_string(api_version) + ": run scripts/deps");
    call<create_env>(log_fatal, "troupe", &environment);
    call<disable_telemetry>(static_cast<const void*>(environment));
    call<cpu_memory_info>(arena_allocator, default_memory, &memory);
    call<default_allocator>(&allocator);
  }

  template <std::size_t Position, class... Args>
  std::string attempt(Args... args) const {
    void* const status = at<void* (*)(Args...)>(Position)(args...);
    if (!status) return {};
    std::string text = at<const char* (*)(const void*)>(get_error_message)(status);
    at<void (*)(void*)>(release_status)(status);
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text.empty() ? "it gave no reason" : text;
  }

  template <std::size_t Position, class... Args>
  void call(Args... args) const {
    if (const std::string failed = attempt<Position>(args...); !failed.empty())
      throw model_error("ONNX Runtime: " + failed);
  }

  template <std::size_t Position>
  void release(void* what) const {
    if (what) at<void (*)(void*)>(Position)(what);
  }

  std::string version;
  void* environment = nullptr;
  void* memory = nullptr;
  void* allocator = nullptr;

 private:
  template <class Function>
  [[nodiscard]] Function at(std::size_t where) const {
    return reinterpret_cast<Function>(const_cast<void*>(api_[where]));
  }
  const void* const* api_ = nullptr;
};

namespace {

const library& open(const std::filesystem::path& wanted) {
  static std::mutex mutex;
  static auto& opened = *new std::map<std::string, std::unique_ptr<library>>;
  const std::filesystem::path file = library_path(wanted);
  const std::lock_guard lock(mutex);
  auto& l = opened[file.string()];
  if (!l) l = std::make_unique<library>(file);
  return *l;
}

/// An object of the library's, released with its own function.
template <std::size_t Release>
class owned {
 public:
  explicit owned(const library& l) : library_(&l) {}
  owned(owned&& other) noexcept : library_(other.library_), it_(std::exchange(other.it_, nullptr)) {}
  owned& operator=(owned&&) = delete;
  owned(const owned&) = delete;
  owned& operator=(const owned&) = delete;
  ~owned() { library_->template release<Release>(it_); }
  void** into() { return &it_; }
  [[nodiscard]] void* get() const { return it_; }

 private:
  const library* library_;
  void* it_ = nullptr;
};
using value = owned<release_value>;

void add_provider(const library& l, void* options, const std::string& name) {
  static const std::map<std::string_view, std::string_view> known = {
      {"cuda", "CUDAExecutionProvider"},
      {"tensorrt", "TensorrtExecutionProvider"},
      {"openvino", "OpenVINOExecutionProvider"}};
  if (name == "cpu") return;  // always there, and last
  const auto at = known.find(name);
  if (at == known.end())
    throw load_error("onnxruntime.providers: there is no " + name +
                     "; it can hold cpu, cuda, tensorrt, openvino");
  char** there = nullptr;
  int count = 0;
  l.call<available_providers>(&there, &count);
  std::string list;
  bool has = false;
  for (int i = 0; i < count; ++i) {
    has = has || at->second == there[i];
    list.append(list.empty() ? "" : ", ").append(there[i]);
  }
  l.call<release_providers>(there, count);
  if (!has) {
    throw load_error("onnxruntime.providers: this ONNX Runtime (" + l.version + ") has no " + name +
                     ", only " + list + "; set onnxruntime.library to a build that has it");
  }
  std::string failed;
  const char* const* const none = nullptr;
  if (name == "cuda" || name == "tensorrt") {
    void* more = nullptr;
    if (name == "cuda") {
      failed = l.attempt<create_cuda_options>(&more);
      if (failed.empty()) failed = l.attempt<append_cuda>(options, static_cast<const void*>(more));
      l.release<release_cuda_options>(more);
    } else {
      failed = l.attempt<create_tensorrt_options>(&more);
      if (failed.empty()) failed = l.attempt<append_tensorrt>(options, static_cast<const void*>(more));
      l.release<release_tensorrt_options>(more);
    }
  } else {
    failed = l.attempt<append_provider>(options, "OpenVINO", none, none, std::size_t{0});
  }
  if (!failed.empty()) throw load_error("onnxruntime.providers: " + name + " cannot be used: " + failed);
}

tensor_spec spec_of(const library& l, void* handle, bool input, std::size_t i) {
  tensor_spec s;
  char* name = nullptr;
  owned<release_type_info> type(l);
  if (input) {
    l.call<session_input_name>(static_cast<const void*>(handle), i, l.allocator, &name);
  } else {
    l.call<session_output_name>(static_cast<const void*>(handle), i, l.allocator, &name);
  }
  s.name = name;
  l.call<allocator_free>(l.allocator, static_cast<void*>(name));
  if (input) {
    l.call<session_input_type>(static_cast<const void*>(handle), i, type.into());
  } else {
    l.call<session_output_type>(static_cast<const void*>(handle), i, type.into());
  }
  const void* shape = nullptr;
  l.call<cast_type_to_tensor>(static_cast<const void*>(type.get()), &shape);
  s.is_tensor = shape != nullptr;
  if (!shape) return s;
  int element = 0;
  std::size_t rank = 0;
  l.call<tensor_element_type>(shape, &element);
  s.type = static_cast<element_type>(element);
  l.call<dimensions_count>(shape, &rank);
  s.shape.resize(rank);
  l.call<dimensions_of>(shape, s.shape.data(), rank);
  std::vector<const char*> symbols(rank, nullptr);
  l.call<symbolic_dimensions>(shape, symbols.data(), rank);
  for (const char* text : symbols) s.symbols.emplace_back(text ? text : "");
  return s;
}

struct shape_and_type {
  element_type type = element_type::undefined;
  std::vector<std::int64_t> shape;
};

shape_and_type shape_of(const library& l, void* v) {
  shape_and_type s;
  owned<release_tensor_info> info(l);
  l.call<tensor_type_and_shape>(static_cast<const void*>(v), info.into());
  int element = 0;
  std::size_t rank = 0;
  l.call<tensor_element_type>(static_cast<const void*>(info.get()), &element);
  s.type = static_cast<element_type>(element);
  l.call<dimensions_count>(static_cast<const void*>(info.get()), &rank);
  s.shape.resize(rank);
  l.call<dimensions_of>(static_cast<const void*>(info.get()), s.shape.data(), rank);
  return s;
}

std::vector<std::string> strings_of(const library& l, void* v, std::size_t count) {
  std::size_t bytes = 0;
  l.call<string_data_length>(static_cast<const void*>(v), &bytes);
  std::string text(bytes, '\0');
  std::vector<std::size_t> begins(count);
  l.call<string_content>(static_cast<const void*>(v), static_cast<void*>(text.data()), bytes, begins.data(),
                         count);
  std::vector<std::string> list;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t end = i + 1 < count ? begins[i + 1] : bytes;
    list.push_back(text.substr(begins[i], end - begins[i]));
  }
  return list;
}

/// A tensor over memory of ours, which has to outlive it.
value over(const library& l, void* data, std::size_t bytes, std::span<const std::int64_t> shape,
           element_type type) {
  value v(l);
  l.call<create_tensor_with_data>(static_cast<const void*>(l.memory), data, bytes, shape.data(), shape.size(),
                                  static_cast<int>(type), v.into());
  return v;
}

std::vector<value> run_it(const library& l, void* handle, std::span<const char* const> names,
                          std::span<void* const> given, std::span<const char* const> wanted) {
  std::vector<void*> raw(wanted.size(), nullptr);
  const std::string failed =
      l.attempt<run_session>(handle, static_cast<const void*>(nullptr), names.data(), given.data(),
                             given.size(), wanted.data(), wanted.size(), raw.data());
  std::vector<value> made;
  for (void* r : raw) {
    made.emplace_back(l);
    *made.back().into() = r;
  }
  if (!failed.empty()) throw model_error("ONNX Runtime: " + failed);
  return made;
}

/// Calls `use` with a value of the C++ type that holds such elements; float16 has none.
template <class Use>
void with_type(element_type type, Use use) {
  switch (type) {
    case element_type::float32:
      return use(float{});
    case element_type::float64:
      return use(double{});
    case element_type::uint8:
      return use(std::uint8_t{});
    case element_type::int8:
      return use(std::int8_t{});
    case element_type::uint16:
      return use(std::uint16_t{});
    case element_type::int16:
      return use(std::int16_t{});
    case element_type::uint32:
      return use(std::uint32_t{});
    case element_type::int32:
      return use(std::int32_t{});
    case element_type::uint64:
      return use(std::uint64_t{});
    case element_type::int64:
      return use(std::int64_t{});
    case element_type::boolean:
      return use(bool{});
    default:
      throw model_error("values of " + std::string(name_of(type)) + " are no numbers");
  }
}

bool is_number(element_type t) {
  return size_of(t) != 0 && t != element_type::boolean;
}

bool is_table_number(element_type t) {
  return t == element_type::float32 || t == element_type::float64 || t == element_type::int32 ||
         t == element_type::int64;
}

bool is_real(element_type t) {
  return t == element_type::float32 || t == element_type::float64 || t == element_type::float16;
}

/// IEEE 754 binary16.
float from_half(std::uint16_t h) {
  const float sign = h >> 15 ? -1.0F : 1.0F;
  const int exponent = (h >> 10) & 31;
  const auto fraction = static_cast<float>(h & 1023);
  if (exponent == 31)
    return fraction == 0 ? sign * std::numeric_limits<float>::infinity()
                         : std::numeric_limits<float>::quiet_NaN();
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

/// Rounds to the nearest, ties to even.
std::uint16_t to_half(double x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::fabs(x);
  if (std::isnan(x)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size < 0x1p-14) return sign | static_cast<std::uint16_t>(std::nearbyint(std::ldexp(size, 24)));
  int exponent = 0;
  const double fraction = std::frexp(size, &exponent);  // [0.5, 1)
  const auto bits = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(fraction, 11)));
  return sign | static_cast<std::uint16_t>(((exponent + 13) << 10) + bits);
}

void to_doubles(element_type type, const void* from, std::size_t count, double* to) {
  if (type == element_type::float16) {
    const auto* const halves = static_cast<const std::uint16_t*>(from);
    for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<double>(from_half(halves[i]));
    return;
  }
  with_type(type, [&]<class T>(T) {
    const T* const numbers = static_cast<const T*>(from);
    for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<double>(numbers[i]);
  });
}

/// What an integer cannot hold is the request's fault; a float takes the nearest.
template <class T, class From>
T narrowed(From x) {
  if constexpr (std::is_same_v<T, bool>) {
    return x != 0;
  } else if constexpr (std::is_integral_v<T>) {
    const double beyond = std::ldexp(1.0, std::numeric_limits<T>::digits);
    const auto number = static_cast<double>(x);
    if (!(number < beyond) || number < static_cast<double>(std::numeric_limits<T>::min()))
      throw row_error("a number does not fit into the model's integer input");
    if (number != std::floor(number)) throw row_error("a fraction is given to the model's integer input");
    return static_cast<T>(number);
  } else {
    return static_cast<T>(x);
  }
}

/// `count` numbers as elements of that type.
template <class From>
void put(element_type type, const From* from, std::size_t count, std::byte* to) {
  if (type == element_type::float16) {
    auto* const halves = reinterpret_cast<std::uint16_t*>(to);
    for (std::size_t i = 0; i < count; ++i) halves[i] = to_half(static_cast<double>(from[i]));
    return;
  }
  with_type(type, [&]<class T>(T) {
    T* const out = reinterpret_cast<T*>(to);
    for (std::size_t i = 0; i < count; ++i) out[i] = narrowed<T>(from[i]);
  });
}

std::string described(const tensor_spec& s) {
  if (!s.is_tensor) return s.name + " (a sequence or map)";
  return s.name + " (" + std::string(name_of(s.type)) + " " + shape_text(s.shape, s.symbols) + ")";
}

std::string listed(const std::vector<tensor_spec>& all) {
  std::string text;
  for (std::size_t i = 0; i < all.size() && i < 8; ++i) text.append(i ? ", " : "").append(described(all[i]));
  if (all.size() > 8) text += ", ...";
  return text;
}

}  // namespace

std::filesystem::path library_path(const std::filesystem::path& wanted) {
  if (!wanted.empty()) return wanted;
  std::error_code error;
  const std::filesystem::path prefix = TROUPE_ONNXRUNTIME_LIBRARY;
  if (!prefix.empty() && std::filesystem::exists(prefix, error)) return prefix;
  return "libonnxruntime.so.1";
}

// -- session
// ---------------------------------------------------------------------------------------------------------

session::session(std::string_view file, const session_options& how) : library_(&open(how.library)) {
  const library& l = *library_;
  try {
    owned<release_session_options> options(l);
    l.call<create_session_options>(options.into());
    l.call<set_intra_op_threads>(options.get(), how.threads);
    l.call<set_inter_op_threads>(options.get(), 1);
    // A thread that spins for its next piece of work takes the core from those who have some.
    l.call<add_session_config>(options.get(), "session.intra_op.allow_spinning", "0");
    for (const auto& p : how.providers) add_provider(l, options.get(), p);
    l.call<create_session_from_array>(static_cast<const void*>(l.environment),
                                      static_cast<const void*>(file.data()), file.size(),
                                      static_cast<const void*>(options.get()), &handle_);
    std::size_t count = 0;
    l.call<session_input_count>(static_cast<const void*>(handle_), &count);
    for (std::size_t i = 0; i < count; ++i) inputs_.push_back(spec_of(l, handle_, true, i));
    l.call<session_output_count>(static_cast<const void*>(handle_), &count);
    for (std::size_t i = 0; i < count; ++i) outputs_.push_back(spec_of(l, handle_, false, i));
  } catch (const model_error& e) {
    l.release<release_session>(handle_);
    throw load_error(e.what());
  }
}

session::~session() {
  library_->release<release_session>(handle_);
}

const std::string& session::library_version() const {
  return library_->version;
}

std::vector<tensor> session::run(std::span<const tensor> given, std::span<const std::string> wanted) const {
  check(inputs_, given);
  const library& l = *library_;
  std::vector<const char*> names;
  std::vector<value> values;
  std::vector<void*> raw;
  for (const tensor& t : given) {
    names.push_back(t.name.c_str());
    if (t.type == element_type::string) {
      value v(l);
      l.call<create_tensor>(l.allocator, t.shape.data(), t.shape.size(), static_cast<int>(t.type), v.into());
      std::vector<const char*> texts;
      for (const auto& s : t.strings) {
        if (s.find('\0') != std::string::npos)
          throw model_error("input " + t.name + ": a string holds a zero byte");
        texts.push_back(s.c_str());
      }
      l.call<fill_string_tensor>(v.get(), texts.data(), texts.size());
      values.push_back(std::move(v));
    } else {
      values.push_back(over(l, const_cast<std::byte*>(t.data.data()), t.data.size(), t.shape, t.type));
    }
    raw.push_back(values.back().get());
  }
  std::vector<const tensor_spec*> specs;
  std::vector<const char*> asked;
  for (const auto& o : outputs_)
    if (wanted.empty() && o.is_tensor) specs.push_back(&o);
  for (const auto& name : wanted) {
    const auto at =
        std::find_if(outputs_.begin(), outputs_.end(), [&](const auto& o) { return o.name == name; });
    if (at == outputs_.end())
      throw model_error("there is no output " + name + "; the model has " + listed(outputs_));
    if (!at->is_tensor) throw model_error("output " + name + " is no tensor");
    specs.push_back(&*at);
  }
  for (const auto* s : specs) asked.push_back(s->name.c_str());
  const auto made = run_it(l, handle_, names, raw, asked);
  std::vector<tensor> out;
  for (std::size_t i = 0; i < made.size(); ++i) {
    auto [type, shape] = shape_of(l, made[i].get());
    tensor t{specs[i]->name, type, std::move(shape), {}, {}};
    const std::size_t count = element_count(t.shape);
    if (type == element_type::string) {
      t.strings = strings_of(l, made[i].get(), count);
    } else {
      if (size_of(type) == 0) throw model_error("output " + t.name + " is of a type that cannot be read");
      void* data = nullptr;
      l.call<tensor_data>(made[i].get(), &data);
      t.data.resize(count * size_of(type));
      if (count) std::memcpy(t.data.data(), data, t.data.size());
    }
    out.push_back(std::move(t));
  }
  return out;
}

// -- rows
// ------------------------------------------------------------------------------------------------------------

class table::made {
 public:
  std::vector<value> values;  ///< by part
};

table::table(std::string_view file, const session_options& how, table_hints hints)
    : session_(file, how), hints_(std::move(hints)) {
  describe_inputs();
  choose_outputs();
  const std::vector<double> zeros(spec_.columns, 0.0);
  const double* const rows[] = {zeros.data()};
  const std::size_t padded = std::max<std::size_t>(1, fixed_rows_);
  try {
    const made first = run(rows, padded);
    for (std::size_t part = 0; part < outputs_.size(); ++part) {
      widths_.push_back(width_of(first, part, padded));
      spec_.width += widths_.back();
      if (outputs_.size() > 1)
        spec_.parts.push_back({session_.outputs()[outputs_[part]].name, widths_.back()});
    }
  } catch (const model_error& e) {
    throw load_error("a row of zeros cannot be scored: " + std::string(e.what()));
  }
}

void table::describe_inputs() {
  const auto& in = session_.inputs();
  if (in.empty()) throw load_error("it has no inputs");
  bool plain = hints_.step.is == input_step::kind::none && hints_.shapes.empty();
  for (const auto& i : in) {
    if (!i.is_tensor) throw load_error("input " + described(i) + " is no tensor");
    if (size_of(i.type) == 0 && i.type != element_type::string)
      throw load_error("input " + described(i) + " is of a type that cannot be served");
    const bool column = in.size() > 1 && i.shape.size() == 1;
    plain = plain && is_table_number(i.type) && (i.shape.size() == 2 || column) &&
            (in.size() == 1 || column || i.shape[1] == 1 || i.shape[1] == -1);
    if (i.shape.empty()) throw load_error("input " + described(i) + " has no dimension for rows");
    if (i.shape[0] == 0 || i.shape[0] > 4096 ||
        (fixed_rows_ && i.shape[0] > 0 && static_cast<std::size_t>(i.shape[0]) != fixed_rows_))
      throw load_error("input " + described(i) + " has a number of rows that cannot be served");
    if (i.shape[0] > 0) fixed_rows_ = static_cast<std::size_t>(i.shape[0]);
  }
  for (const auto& given : hints_.shapes) {
    const std::string& name = given.first;
    if (std::none_of(in.begin(), in.end(), [&](const auto& i) { return i.name == name; }))
      throw load_error("model.yaml gives a shape for " + name + "; its inputs are " + listed(in));
  }
  if (hints_.step.is != input_step::kind::none && in.size() != 1)
    throw load_error("model.yaml makes one input out of bytes, and the graph has " + listed(in));
  if (plain)
    describe_table();
  else
    describe_tensors();
}

void table::describe_table() {
  const auto& in = session_.inputs();
  if (in.size() > 1) {
    spec_.columns = in.size();
    for (const auto& i : in) {
      spec_.names.push_back(i.name);
      plans_.push_back({{}, plans_.size(), 1});
      if (i.shape.size() == 2) plans_.back().shape = {1};
    }
    return;
  }
  spec_.columns = in[0].shape[1] > 0 ? static_cast<std::size_t>(in[0].shape[1]) : hints_.columns;
  if (spec_.columns == 0)
    throw load_error(
        "input " + described(in[0]) +
        " has no width: list its columns as features: in model.yaml, or give the shape of a row, " +
        "shapes: {" + in[0].name + ": [...]}");
  plans_.push_back({{static_cast<std::int64_t>(spec_.columns)}, 0, spec_.columns});
}

std::vector<std::int64_t> table::row_shape(const tensor_spec& input) const {
  std::vector<std::int64_t> shape(input.shape.begin() + 1, input.shape.end());
  const auto given = hints_.shapes.find(input.name);
  if (given == hints_.shapes.end() && hints_.step.is == input_step::kind::image) {
    const auto wanted = hints_.step.image.shape();
    bool fits = shape.size() == wanted.size();
    for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] < 0 || shape[i] == wanted[i];
    if (!fits)
      throw load_error("model.yaml makes " + shape_text(wanted) + " of an image, and the graph takes " +
                       described(input));
    return wanted;
  }
  if (given != hints_.shapes.end()) {
    bool fits = shape.size() == given->second.size();
    for (std::size_t i = 0; fits && i < shape.size(); ++i)
      fits = given->second[i] > 0 && (shape[i] < 0 || shape[i] == given->second[i]);
    if (!fits)
      throw load_error("model.yaml gives a row of " + input.name + " the shape " + shape_text(given->second) +
                       ", and the graph takes " + described(input));
    return given->second;
  }
  if (hints_.step.is == input_step::kind::bytes && shape.size() == 1 && shape[0] < 0)
    return {static_cast<std::int64_t>(hints_.step.size())};
  for (const auto d : shape)
    if (d < 0)
      throw load_error("input " + described(input) +
                       " leaves more open than the number of rows: give the shape of a row in model.yaml, " +
                       "shapes: {" + input.name + ": [...]}");
  return shape;
}

void table::describe_tensors() {
  const onnx::limits most;
  for (const auto& i : session_.inputs()) {
    plan p{row_shape(i), spec_.columns, 0};
    tensor_input t{i.name, tensor_input::kind::number, p.shape, p.begin, 1};
    try {
      p.size = element_count(p.shape, most.cells);
    } catch (const model_error& e) {
      throw load_error("input " + described(i) + ": " + e.what());
    }
    if (p.size == 0) throw load_error("input " + described(i) + " is empty");
    t.size = p.size;
    if (i.type == element_type::string) t.holds = tensor_input::kind::text;
    if (hints_.step.is != input_step::kind::none) {
      if (p.size != hints_.step.size() || i.type == element_type::string)
        throw load_error("model.yaml makes " + std::to_string(hints_.step.size()) +
                         " numbers of a request's bytes, and a row of the graph's " + described(i) + " has " +
                         std::to_string(p.size));
      t.holds = tensor_input::kind::bytes;
      t.shape.clear();
      t.size = 1;
    }
    spec_.columns += t.size;
    if (spec_.columns > most.cells)
      throw load_error("a row has more than " + std::to_string(most.cells) + " values");
    plans_.push_back(std::move(p));
    spec_.inputs.push_back(std::move(t));
  }
}

void table::choose_outputs() {
  const auto& out = session_.outputs();
  const auto is_label = [](const tensor_spec& s) {
    return s.is_tensor && (s.type == element_type::int64 || s.type == element_type::string);
  };
  for (const auto& name : hints_.outputs) {
    const auto at = std::find_if(out.begin(), out.end(), [&](const auto& o) { return o.name == name; });
    if (at == out.end() || !at->is_tensor || !is_number(at->type))
      throw load_error("model.yaml lists the output " + name + "; it has to be a tensor of numbers among " +
                       listed(out));
    outputs_.push_back(static_cast<std::size_t>(at - out.begin()));
  }
  if (!outputs_.empty()) {
    if (hints_.softmax && outputs_.size() > 1)
      throw load_error("model.yaml: softmax is of one output, and outputs lists several");
    return;
  }
  if (out.size() == 2 && is_label(out[0]) &&
      ((out[1].is_tensor && is_real(out[1].type)) || !out[1].is_tensor)) {
    outputs_ = {1};
    maps_ = !out[1].is_tensor;
    spec_.classification = true;
    return;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!out[i].is_tensor || !is_number(out[i].type))
      throw load_error("its outputs are " + listed(out) +
                       "; tensors of numbers are served (regression), or a label and its probabilities; "
                       "outputs: in model.yaml may pick some");
    outputs_.push_back(i);
  }
  if (hints_.softmax && outputs_.size() > 1)
    throw load_error("model.yaml: softmax is of one output; pick it with outputs:");
}

table::made table::run(std::span<const double* const> rows, std::size_t padded) const {
  const library& l = *session_.library_;
  const auto& in = session_.inputs();
  thread_local std::vector<std::byte> bytes;
  thread_local std::vector<const char*> names;
  thread_local std::vector<void*> raw;
  thread_local std::vector<float> decoded;
  std::size_t total = 0;
  for (std::size_t i = 0; i < in.size(); ++i)
    total += (padded * plans_[i].size * size_of(in[i].type) + 63) / 64 * 64;
  if (bytes.size() < total) bytes.resize(total);
  names.clear();
  raw.clear();
  std::vector<value> values;
  values.reserve(in.size());
  std::vector<std::int64_t> shape;
  std::size_t at = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const plan& p = plans_[i];
    shape.assign(1, static_cast<std::int64_t>(padded));
    shape.insert(shape.end(), p.shape.begin(), p.shape.end());
    if (in[i].type == element_type::string) {
      values.emplace_back(l);
      l.call<create_tensor>(l.allocator, static_cast<const std::int64_t*>(shape.data()), shape.size(),
                            static_cast<int>(in[i].type), values.back().into());
      std::vector<std::string> texts;
      for (std::size_t r = 0; r < padded; ++r)
        for (std::size_t c = 0; c < p.size; ++c) {
          texts.emplace_back(text_in(rows[std::min(r, rows.size() - 1)][p.begin + c]));
          if (texts.back().find('\0') != std::string::npos)
            throw row_error("input " + in[i].name + ": a string holds a zero byte");
        }
      std::vector<const char*> pointers;
      for (const auto& t : texts) pointers.push_back(t.c_str());
      l.call<fill_string_tensor>(values.back().get(), static_cast<const char* const*>(pointers.data()),
                                 pointers.size());
    } else {
      const std::size_t element = size_of(in[i].type);
      const std::size_t size = padded * p.size * element;
      for (std::size_t r = 0; r < padded; ++r) {
        std::byte* const to = bytes.data() + at + r * p.size * element;
        if (r >= rows.size() && rows.size() > 0) {  // padding
          std::memcpy(to, bytes.data() + at + (rows.size() - 1) * p.size * element, p.size * element);
          continue;
        }
        const double* const row = rows[r] + p.begin;
        if (hints_.step.is == input_step::kind::none) {
          put(in[i].type, row, p.size, to);
          continue;
        }
        decoded.assign(p.size, 0.0F);
        // The cell 0 is no request's: it stands for an input of zeros when the graph is tried.
        if (std::bit_cast<std::uint64_t>(*row) != 0) apply(hints_.step, text_in(*row), decoded.data());
        if (!is_real(in[i].type))
          for (float& x : decoded) x = std::nearbyint(x);
        put(in[i].type, decoded.data(), p.size, to);
      }
      values.push_back(over(l, bytes.data() + at, size, shape, in[i].type));
      at += (size + 63) / 64 * 64;
    }
    names.push_back(in[i].name.c_str());
    raw.push_back(values.back().get());
  }
  std::vector<const char*> wanted;
  for (const auto o : outputs_) wanted.push_back(session_.outputs()[o].name.c_str());
  return {run_it(l, session_.handle_, names, raw, wanted)};
}

std::size_t table::width_of(const made& first, std::size_t part, std::size_t padded) {
  const library& l = *session_.library_;
  void* const answer = first.values[part].get();
  std::size_t width = 0;
  if (!maps_) {
    const auto [type, shape] = shape_of(l, answer);
    const std::size_t count = element_count(shape);
    const bool by_rows = !shape.empty() && static_cast<std::size_t>(shape[0]) == padded;
    if (count % padded != 0 || (!by_rows && count != padded))
      throw model_error("for " + std::to_string(padded) + " rows it answers a tensor of shape " +
                        shape_text(shape));
    width = count / padded;
  } else {
    value map(l), keys(l);
    l.call<get_value>(static_cast<const void*>(answer), 0, l.allocator, map.into());
    l.call<get_value>(static_cast<const void*>(map.get()), 0, l.allocator, keys.into());
    const auto [type, shape] = shape_of(l, keys.get());
    width = element_count(shape);
    if (type == element_type::string) {
      spec_.classes = strings_of(l, keys.get(), width);
    } else {
      void* data = nullptr;
      l.call<tensor_data>(keys.get(), &data);
      for (std::size_t k = 0; k < width; ++k)
        spec_.classes.push_back(std::to_string(static_cast<const std::int64_t*>(data)[k]));
    }
  }
  if (width == 0) throw model_error("output " + session_.outputs()[outputs_[part]].name + " is empty");
  return width;
}

void table::read_maps(void* answer, std::size_t rows, std::size_t padded, double* out) const {
  const library& l = *session_.library_;
  std::size_t count = 0;
  l.call<get_value_count>(static_cast<const void*>(answer), &count);
  if (count != padded)
    throw model_error("for " + std::to_string(padded) + " rows it answered " + std::to_string(count) +
                      " maps");
  for (std::size_t r = 0; r < rows; ++r) {
    value map(l), numbers(l);
    l.call<get_value>(static_cast<const void*>(answer), static_cast<int>(r), l.allocator, map.into());
    l.call<get_value>(static_cast<const void*>(map.get()), 1, l.allocator, numbers.into());
    const auto [type, shape] = shape_of(l, numbers.get());
    const std::size_t n = element_count(shape);
    if (n != spec_.width)
      throw model_error("a map of " + std::to_string(n) + " probabilities where others have " +
                        std::to_string(spec_.width));
    void* data = nullptr;
    l.call<tensor_data>(numbers.get(), &data);
    to_doubles(type, data, n, out + r * spec_.width);
  }
}

void table::read(const made& answers, std::size_t rows, std::size_t padded, double* out) const {
  const library& l = *session_.library_;
  if (maps_) return read_maps(answers.values[0].get(), rows, padded, out);
  thread_local std::vector<double> numbers;
  std::size_t begin = 0;
  for (std::size_t part = 0; part < outputs_.size(); ++part) {
    void* const answer = answers.values[part].get();
    const std::size_t width = widths_[part];
    const auto [type, shape] = shape_of(l, answer);
    if (element_count(shape) != padded * width)
      throw model_error("for " + std::to_string(padded) + " rows it answered a tensor of shape " +
                        shape_text(shape));
    void* data = nullptr;
    l.call<tensor_data>(answer, &data);
    if (outputs_.size() == 1) {
      to_doubles(type, data, rows * width, out);
    } else {
      numbers.resize(rows * width);
      to_doubles(type, data, rows * width, numbers.data());
      for (std::size_t r = 0; r < rows; ++r)
        std::copy_n(numbers.data() + r * width, width, out + r * spec_.width + begin);
    }
    begin += width;
  }
  if (!hints_.softmax) return;
  for (std::size_t r = 0; r < rows; ++r) {
    double* const row = out + r * spec_.width;
    const double highest = *std::max_element(row, row + spec_.width);
    double sum = 0;
    for (std::size_t k = 0; k < spec_.width; ++k) sum += row[k] = std::exp(row[k] - highest);
    for (std::size_t k = 0; k < spec_.width; ++k) row[k] /= sum;
  }
}

void table::score(std::span<const double* const> rows, double* out) const {
  if (rows.empty()) return;
  const std::size_t step = fixed_rows_ ? fixed_rows_ : rows.size();
  for (std::size_t at = 0; at < rows.size(); at += step) {
    const auto part = rows.subspan(at, std::min(step, rows.size() - at));
    read(run(part, step), part.size(), step, out + at * spec_.width);
  }
}

// -- for comparison
// --------------------------------------------------------------------------------------------------

bare_run::bare_run(const session& s, std::size_t rows, std::size_t columns)
    : session_(s), data_(rows * columns) {
  const std::int64_t shape[] = {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns)};
  s.library_->call<create_tensor_with_data>(static_cast<const void*>(s.library_->memory),
                                            static_cast<void*>(data_.data()), data_.size() * sizeof(float),
                                            static_cast<const std::int64_t*>(shape), std::size_t{2},
                                            static_cast<int>(element_type::float32), &input_);
}

bare_run::~bare_run() {
  session_.library_->release<release_value>(input_);
}

void bare_run::operator()() const {
  const library& l = *session_.library_;
  const char* const in[] = {session_.inputs()[0].name.c_str()};
  const char* const out[] = {session_.outputs()[0].name.c_str()};
  void* const given[] = {input_};
  void* made = nullptr;
  l.call<run_session>(session_.handle_, static_cast<const void*>(nullptr),
                      static_cast<const char* const*>(in), static_cast<void* const*>(given), std::size_t{1},
                      static_cast<const char* const*>(out), std::size_t{1}, &made);
  l.release<release_value>(made);
}

}  // namespace troupe::model::onnxruntime

#include "runtime/model/onnxruntime.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "runtime/model/model.hpp"

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
constexpr int kind_tensor = 1;
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

bool is_number(element_type t) {
  return t == element_type::float32 || t == element_type::float64 || t == element_type::int32 ||
         t == element_type::int64;
}

template <class T>
void widen(const void* from, std::size_t count, double* to) {
  const T* const numbers = static_cast<const T*>(from);
  for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<double>(numbers[i]);
}

void to_doubles(element_type type, const void* from, std::size_t count, double* to) {
  switch (type) {
    case element_type::float32:
      return widen<float>(from, count, to);
    case element_type::float64:
      return widen<double>(from, count, to);
    case element_type::int32:
      return widen<std::int32_t>(from, count, to);
    case element_type::int64:
      return widen<std::int64_t>(from, count, to);
    default:
      throw model_error("an output of " + std::string(name_of(type)) + " is no number");
  }
}

/// Rounds as a cast does; what an integer cannot hold is the request's fault.
template <class T>
T narrowed(double x) {
  if constexpr (std::is_integral_v<T>) {
    constexpr double most = static_cast<double>(std::int64_t{1} << (8 * sizeof(T) - 2)) * 2;
    if (!(x >= -most && x < most)) throw model_error("a value does not fit into the model's integer input");
  }
  return static_cast<T>(x);
}

template <class T>
void fill(std::span<const double* const> rows, std::size_t padded, std::size_t from, std::size_t columns,
          T* to) {
  for (std::size_t r = 0; r < padded; ++r) {
    const double* const row = rows[std::min(r, rows.size() - 1)] + from;
    for (std::size_t c = 0; c < columns; ++c) *to++ = narrowed<T>(row[c]);
  }
}

void fill_as(element_type type, std::span<const double* const> rows, std::size_t padded, std::size_t from,
             std::size_t columns, std::byte* to) {
  void* const p = to;
  switch (type) {
    case element_type::float32:
      return fill(rows, padded, from, columns, static_cast<float*>(p));
    case element_type::float64:
      return fill(rows, padded, from, columns, static_cast<double*>(p));
    case element_type::int32:
      return fill(rows, padded, from, columns, static_cast<std::int32_t*>(p));
    default:
      return fill(rows, padded, from, columns, static_cast<std::int64_t*>(p));
  }
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

table::table(std::string_view file, const session_options& how, std::size_t columns) : session_(file, how) {
  describe_inputs(columns);
  choose_output();
  const std::vector<double> zeros(spec_.columns, 0.0);
  const double* const rows[] = {zeros.data()};
  try {
    run(rows, std::max<std::size_t>(1, fixed_rows_), nullptr, &spec_.width, &spec_.classes);
  } catch (const model_error& e) {
    throw load_error("a row of zeros cannot be scored: " + std::string(e.what()));
  }
  if (spec_.width == 0) throw load_error("output " + session_.outputs()[output_].name + " is empty");
}

void table::describe_inputs(std::size_t columns) {
  const auto& in = session_.inputs();
  if (in.empty()) throw load_error("it has no inputs");
  for (const auto& i : in) {
    if (!i.is_tensor) throw load_error("input " + described(i) + " is no tensor");
    if (i.type == element_type::string)
      throw load_error("input " + described(i) +
                       " takes strings, and requests carry numbers only: encode them before the export");
    const bool column = in.size() > 1 && i.shape.size() == 1;
    if (!is_number(i.type) || (i.shape.size() != 2 && !column))
      throw load_error("input " + described(i) + " is no row of numbers (float32, float64, int32 or int64)");
    if (in.size() > 1 && !column && i.shape[1] != 1 && i.shape[1] != -1)
      throw load_error("it has " + std::to_string(in.size()) + " inputs, and " + described(i) +
                       " is not a single column");
    if (i.shape[0] == 0 || i.shape[0] > 4096 ||
        (fixed_rows_ && i.shape[0] > 0 && static_cast<std::size_t>(i.shape[0]) != fixed_rows_))
      throw load_error("input " + described(i) + " has a number of rows that cannot be served");
    if (i.shape[0] > 0) fixed_rows_ = static_cast<std::size_t>(i.shape[0]);
  }
  if (in.size() > 1) {
    spec_.columns = in.size();
    for (const auto& i : in) spec_.names.push_back(i.name);
  } else {
    spec_.columns = in[0].shape[1] > 0 ? static_cast<std::size_t>(in[0].shape[1]) : columns;
    if (spec_.columns == 0)
      throw load_error("input " + described(in[0]) +
                       " has no width: list its columns as features: in model.yaml");
  }
}

void table::choose_output() {
  const auto& out = session_.outputs();
  const auto is_real = [](const tensor_spec& s) {
    return s.is_tensor && (s.type == element_type::float32 || s.type == element_type::float64);
  };
  const auto is_label = [](const tensor_spec& s) {
    return s.is_tensor && (s.type == element_type::int64 || s.type == element_type::string);
  };
  if (out.size() == 1 && out[0].is_tensor && is_number(out[0].type)) return;
  if (out.size() == 2 && is_label(out[0]) && (is_real(out[1]) || !out[1].is_tensor)) {
    output_ = 1;
    maps_ = !out[1].is_tensor;
    spec_.classification = true;
    return;
  }
  throw load_error("its outputs are " + listed(out) +
                   "; one tensor of numbers is served (regression), or a label and its probabilities");
}

void table::run(std::span<const double* const> rows, std::size_t padded, double* out, std::size_t* width,
                std::vector<std::string>* classes) const {
  const library& l = *session_.library_;
  const auto& in = session_.inputs();
  const std::size_t across = in.size() > 1 ? 1 : spec_.columns;
  thread_local std::vector<std::byte> bytes;
  thread_local std::vector<const char*> names;
  thread_local std::vector<void*> raw;
  std::size_t total = 0;
  for (const auto& i : in) total += (padded * across * size_of(i.type) + 63) / 64 * 64;
  if (bytes.size() < total) bytes.resize(total);
  names.clear();
  raw.clear();
  std::vector<value> values;
  values.reserve(in.size());
  std::size_t at = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::size_t size = padded * across * size_of(in[i].type);
    fill_as(in[i].type, rows, padded, i * across, across, bytes.data() + at);
    const std::int64_t shape[] = {static_cast<std::int64_t>(padded), static_cast<std::int64_t>(across)};
    values.push_back(
        over(l, bytes.data() + at, size, std::span(shape).first(in[i].shape.size()), in[i].type));
    names.push_back(in[i].name.c_str());
    raw.push_back(values.back().get());
    at += (size + 63) / 64 * 64;
  }
  const char* const wanted[] = {session_.outputs()[output_].name.c_str()};
  const auto made = run_it(l, session_.handle_, names, raw, wanted);
  void* const answer = made[0].get();
  if (!maps_) {
    const auto [type, shape] = shape_of(l, answer);
    const std::size_t count = element_count(shape);
    const bool by_rows = !shape.empty() && static_cast<std::size_t>(shape[0]) == padded;
    if (width) {
      if (count == 0 || count % padded != 0 || (!by_rows && count != padded))
        throw model_error("for " + std::to_string(padded) + " rows it answers a tensor of shape " +
                          shape_text(shape));
      *width = count / padded;
    } else if (count != padded * spec_.width) {
      throw model_error("for " + std::to_string(padded) + " rows it answered a tensor of shape " +
                        shape_text(shape));
    }
    void* data = nullptr;
    l.call<tensor_data>(answer, &data);
    if (out) to_doubles(type, data, rows.size() * spec_.width, out);
    return;
  }
  std::size_t count = 0;
  l.call<get_value_count>(static_cast<const void*>(answer), &count);
  if (count != padded)
    throw model_error("for " + std::to_string(padded) + " rows it answered " + std::to_string(count) +
                      " maps");
  for (std::size_t r = 0; r < rows.size(); ++r) {
    value map(l), keys(l), numbers(l);
    l.call<get_value>(static_cast<const void*>(answer), static_cast<int>(r), l.allocator, map.into());
    l.call<get_value>(static_cast<const void*>(map.get()), 1, l.allocator, numbers.into());
    const auto [type, shape] = shape_of(l, numbers.get());
    const std::size_t n = element_count(shape);
    if (width) {
      *width = n;
      l.call<get_value>(static_cast<const void*>(map.get()), 0, l.allocator, keys.into());
      if (shape_of(l, keys.get()).type == element_type::string) {
        *classes = strings_of(l, keys.get(), n);
      } else {
        void* data = nullptr;
        l.call<tensor_data>(keys.get(), &data);
        for (std::size_t k = 0; k < n; ++k)
          classes->push_back(std::to_string(static_cast<const std::int64_t*>(data)[k]));
      }
    } else if (n != spec_.width) {
      throw model_error("a map of " + std::to_string(n) + " probabilities where others have " +
                        std::to_string(spec_.width));
    }
    void* data = nullptr;
    l.call<tensor_data>(numbers.get(), &data);
    if (out) to_doubles(type, data, n, out + r * spec_.width);
  }
}

void table::score(std::span<const double* const> rows, double* out) const {
  if (rows.empty()) return;
  const std::size_t step = fixed_rows_ ? fixed_rows_ : rows.size();
  for (std::size_t at = 0; at < rows.size(); at += step) {
    const auto part = rows.subspan(at, std::min(step, rows.size() - at));
    run(part, step, out + at * spec_.width, nullptr, nullptr);
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

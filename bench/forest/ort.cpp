#include "bench/forest/ort.hpp"

#include <dlfcn.h>

#include <stdexcept>

namespace {

// Positions in OrtApi.
constexpr std::size_t get_error_message = 2;
constexpr std::size_t create_env = 3;
constexpr std::size_t create_session = 7;
constexpr std::size_t run = 9;
constexpr std::size_t create_session_options = 10;
constexpr std::size_t set_intra_op_threads = 24;
constexpr std::size_t session_output_count = 31;
constexpr std::size_t session_input_type = 33;
constexpr std::size_t session_output_type = 34;
constexpr std::size_t session_input_name = 36;
constexpr std::size_t session_output_name = 37;
constexpr std::size_t create_tensor_with_data = 49;
constexpr std::size_t cast_type_to_tensor = 55;
constexpr std::size_t tensor_element_type = 60;
constexpr std::size_t create_cpu_memory_info = 69;
constexpr std::size_t default_allocator = 78;
constexpr std::size_t release_status = 93;
constexpr std::size_t release_value = 96;

constexpr std::uint32_t api_version = 17;
constexpr int element_float = 1;
constexpr int element_double = 11;

struct api_base {
  const void* const* (*get_api)(std::uint32_t);
  const char* (*version)();
};

template <class Function>
Function at(const void* const* api, std::size_t position) {
  return reinterpret_cast<Function>(const_cast<void*>(api[position]));
}

}  // namespace

template <std::size_t Position, class... Args>
void onnx_runtime::call(Args... args) {
  void* const status = at<void* (*)(Args...)>(api_, Position)(args...);
  if (!status) return;
  const std::string text = at<const char* (*)(void*)>(api_, get_error_message)(status);
  at<void (*)(void*)>(api_, release_status)(status);
  throw std::runtime_error("ONNX Runtime: " + text);
}

onnx_runtime::onnx_runtime(const std::string& library, const std::string& model) {
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) throw std::runtime_error(dlerror());
  const auto base = reinterpret_cast<const api_base* (*)()>(dlsym(handle, "OrtGetApiBase"));
  if (!base) throw std::runtime_error(library + " is not ONNX Runtime: it has no OrtGetApiBase");
  version_ = base()->version();
  api_ = base()->get_api(api_version);
  if (!api_)
    throw std::runtime_error(library + ": version " + version_ + " is older than 1." +
                             std::to_string(api_version));

  void* options = nullptr;
  call<create_env, int, const char*, void**>(3, "bench", &environment_);
  call<create_session_options, void**>(&options);
  call<set_intra_op_threads, void*, int>(options, 1);
  call<create_session, void*, const char*, void*, void**>(environment_, model.c_str(), options, &session_);
  call<create_cpu_memory_info, int, int, void**>(1, 0, &memory_);

  void* allocator = nullptr;
  char* name = nullptr;
  std::size_t outputs = 0;
  call<default_allocator, void**>(&allocator);
  call<session_input_name, void*, std::size_t, void*, char**>(session_, 0, allocator, &name);
  input_ = name;
  call<session_output_count, void*, std::size_t*>(session_, &outputs);
  call<session_output_name, void*, std::size_t, void*, char**>(session_, outputs - 1, allocator, &name);
  output_ = name;
  const auto holds_doubles = [&](void* type) {
    const void* tensor = nullptr;
    int element = 0;
    call<cast_type_to_tensor, void*, const void**>(type, &tensor);
    if (!tensor) throw std::runtime_error(model + ": an input or output is no tensor");
    call<tensor_element_type, const void*, int*>(tensor, &element);
    return element == element_double;
  };
  void* type = nullptr;
  call<session_input_type, void*, std::size_t, void**>(session_, 0, &type);
  double_input_ = holds_doubles(type);
  call<session_output_type, void*, std::size_t, void**>(session_, outputs - 1, &type);
  double_output_ = holds_doubles(type);
}

void onnx_runtime::score(const double* in, std::size_t rows, std::size_t width, std::size_t out_width) {
  const std::int64_t in_shape[] = {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(width)};
  const std::int64_t out_shape[] = {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(out_width)};
  const void* data = in;
  std::size_t bytes = rows * width * sizeof(double);
  if (!double_input_) {
    narrow_.assign(in, in + rows * width);
    data = narrow_.data();
    bytes /= 2;
  }
  if (double_output_) {
    doubles_.resize(rows * out_width);
  } else {
    floats_.resize(rows * out_width);
  }
  void* const out = double_output_ ? static_cast<void*>(doubles_.data()) : floats_.data();
  const std::size_t out_bytes = rows * out_width * (double_output_ ? sizeof(double) : sizeof(float));
  void* source = nullptr;
  void* result = nullptr;
  call<create_tensor_with_data, void*, const void*, std::size_t, const std::int64_t*, std::size_t, int,
       void**>(memory_, data, bytes, in_shape, 2, double_input_ ? element_double : element_float, &source);
  call<create_tensor_with_data, void*, void*, std::size_t, const std::int64_t*, std::size_t, int, void**>(
      memory_, out, out_bytes, out_shape, 2, double_output_ ? element_double : element_float, &result);
  const char* const inputs[] = {input_.c_str()};
  const char* const outputs[] = {output_.c_str()};
  call<run, void*, void*, const char* const*, void* const*, std::size_t, const char* const*, std::size_t,
       void**>(session_, nullptr, inputs, &source, 1, outputs, 1, &result);
  at<void (*)(void*)>(api_, release_value)(source);
  at<void (*)(void*)>(api_, release_value)(result);
}

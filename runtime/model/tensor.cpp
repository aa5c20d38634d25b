#include "runtime/model/tensor.hpp"

#include <algorithm>
#include <array>
#include <map>

#include "runtime/model/model.hpp"

namespace troupe::model {
namespace {

struct type_facts {
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array<type_facts, 14> facts = {{{"undefined", 0},
                                               {"float32", 4},
                                               {"uint8", 1},
                                               {"int8", 1},
                                               {"uint16", 2},
                                               {"int16", 2},
                                               {"int32", 4},
                                               {"int64", 8},
                                               {"string", 0},
                                               {"bool", 1},
                                               {"float16", 2},
                                               {"float64", 8},
                                               {"uint32", 4},
                                               {"uint64", 8}}};

std::string names_of(std::span<const tensor_spec> declared) {
  std::string text;
  for (const auto& d : declared) text.append(text.empty() ? "" : ", ").append(d.name);
  return text;
}

void check_one(const tensor_spec& want, const tensor& got,
               std::map<std::string_view, std::pair<std::int64_t, std::string_view>>& sizes) {
  const std::string input = "input " + want.name;
  if (!want.is_tensor) throw model_error(input + " is no tensor; such inputs cannot be given");
  if (got.type != want.type) {
    throw model_error(input + ": its type is " + std::string(name_of(got.type)) + ", the model takes " +
                      std::string(name_of(want.type)));
  }
  const auto wrong_shape = [&] {
    return model_error(input + ": its shape is " + shape_text(got.shape) + ", the model takes " +
                       shape_text(want.shape, want.symbols));
  };
  if (got.shape.size() != want.shape.size()) throw wrong_shape();
  for (std::size_t i = 0; i < want.shape.size(); ++i) {
    if (got.shape[i] < 0 || (want.shape[i] >= 0 && got.shape[i] != want.shape[i])) throw wrong_shape();
    if (want.shape[i] >= 0 || i >= want.symbols.size() || want.symbols[i].empty()) continue;
    const auto [at, fresh] = sizes.try_emplace(want.symbols[i], got.shape[i], std::string_view(want.name));
    if (!fresh && at->second.first != got.shape[i]) {
      throw model_error(input + ": dimension " + want.symbols[i] + " is " + std::to_string(got.shape[i]) +
                        ", in input " + std::string(at->second.second) + " it is " +
                        std::to_string(at->second.first));
    }
  }
  const std::size_t count = element_count(got.shape);
  if (want.type == element_type::string) {
    if (got.strings.size() != count) {
      throw model_error(input + ": it holds " + std::to_string(got.strings.size()) + " strings, its shape " +
                        shape_text(got.shape) + " has " + std::to_string(count));
    }
  } else if (got.data.size() != count * size_of(want.type)) {
    throw model_error(input + ": it holds " + std::to_string(got.data.size()) + " bytes, its shape " +
                      shape_text(got.shape) + " of " + std::string(name_of(want.type)) + " has " +
                      std::to_string(count * size_of(want.type)));
  }
}

}  // namespace

std::string_view name_of(element_type type) {
  const auto i = static_cast<std::size_t>(type);
  return i < facts.size() ? facts[i].name : "another type";
}

std::size_t size_of(element_type type) {
  const auto i = static_cast<std::size_t>(type);
  return i < facts.size() ? facts[i].bytes : 0;
}

std::string shape_text(std::span<const std::int64_t> shape, std::span<const std::string> symbols) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    if (shape[i] >= 0)
      text += std::to_string(shape[i]);
    else
      text += i < symbols.size() && !symbols[i].empty() ? symbols[i] : "?";
  }
  return text + "]";
}

std::size_t element_count(std::span<const std::int64_t> shape, std::size_t most) {
  std::size_t count = 1;
  bool empty = false;
  for (const auto d : shape) {
    if (d < 0) throw model_error("a shape has the dimension " + std::to_string(d));
    if (d == 0) {
      empty = true;
      continue;
    }
    if (static_cast<std::uint64_t>(d) > most / count)
      throw model_error("a tensor of shape " + shape_text(shape) + " has more than " + std::to_string(most) +
                        " elements, the limit");
    count *= static_cast<std::size_t>(d);
  }
  return empty ? 0 : count;
}

void check(std::span<const tensor_spec> declared, std::span<const tensor> given) {
  for (const auto& g : given) {
    if (std::none_of(declared.begin(), declared.end(), [&](const auto& d) { return d.name == g.name; }))
      throw model_error("there is no input " + g.name + "; the model has " + names_of(declared));
  }
  std::map<std::string_view, std::pair<std::int64_t, std::string_view>> sizes;
  for (const auto& d : declared) {
    const auto is_it = [&](const auto& g) { return g.name == d.name; };
    const auto at = std::find_if(given.begin(), given.end(), is_it);
    if (at == given.end()) throw model_error("input " + d.name + " is missing");
    if (std::find_if(at + 1, given.end(), is_it) != given.end())
      throw model_error("input " + d.name + " is given twice");
    check_one(d, *at, sizes);
  }
}

}  // namespace troupe::model

#include "runtime/batches/checkpoint.hpp"

#include <nlohmann/json.hpp>

namespace troupe::batches {

using nlohmann::json;

std::optional<checkpoint> read_checkpoint(const std::filesystem::path& path) {
  const auto text = read_file(path);
  if (!text) return std::nullopt;
  try {
    const json j = json::parse(*text);
    if (j.at("version").get<int>() != 1) throw checkpoint_error(path.string() + " is of another version");
    const auto number = [&j](const char* key) {
      if (!j.at(key).is_number_unsigned()) throw json::other_error::create(501, key, &j);
      return j.at(key).get<std::uint64_t>();
    };
    checkpoint c;
    c.of.size = number("input_size");
    c.of.modified_ns = j.at("input_modified_ns").get<std::int64_t>();
    c.model = j.at("model").get<std::string>();
    c.input.offset = number("input_offset");
    c.input.lines = number("input_lines");
    c.output = number("output_offset");
    c.done = number("done");
    c.errors = number("errors");
    if (c.input.offset > c.of.size || c.errors > c.done)
      throw checkpoint_error(path.string() + " is not a checkpoint: its numbers contradict one another");
    return c;
  } catch (const json::exception&) {
    throw checkpoint_error(path.string() + " is not a checkpoint");
  }
}

void write_checkpoint(const std::filesystem::path& path, const checkpoint& c) {
  replace_file(path, json({{"version", 1},
                           {"input_size", c.of.size},
                           {"input_modified_ns", c.of.modified_ns},
                           {"model", c.model},
                           {"input_offset", c.input.offset},
                           {"input_lines", c.input.lines},
                           {"output_offset", c.output},
                           {"done", c.done},
                           {"errors", c.errors}})
                             .dump() +
                         "\n");
}

}  // namespace troupe::batches

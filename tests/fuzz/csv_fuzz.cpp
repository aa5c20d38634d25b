// Any bytes as CSV, and as a table for a model: every record has the header's width, and what is written
// again by the rules reads the same.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/codec/csv.hpp"
#include "runtime/codec/score.hpp"
#include "runtime/model/model.hpp"

namespace {

using namespace troupe;

#define MUST(condition) \
  if (!(condition)) std::abort()

using table = std::vector<std::vector<std::string>>;

std::string read(std::string_view text, table& into) {
  codec::csv_reader csv(text);
  std::vector<std::string_view> fields;
  while (csv.next(fields)) into.emplace_back(fields.begin(), fields.end());
  MUST(!csv.next(fields));
  return csv.error();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // In memory of its exact size, so that a read beyond it is caught.
  const auto copy = std::make_unique<char[]>(size);
  std::string_view(reinterpret_cast<const char*>(data), size).copy(copy.get(), size);
  const std::string_view text(copy.get(), size);

  table first;
  const std::string error = read(text, first);
  for (const auto& row : first) MUST(row.size() == first[0].size());
  if (error.empty()) {
    std::string again;
    for (const auto& row : first) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        again += i ? ",\"" : "\"";
        for (const char c : row[i]) again += c == '"' ? std::string("\"\"") : std::string(1, c);
        again += '"';
      }
      again += "\r\n";
    }
    table second;
    MUST(read(again, second).empty());
    MUST(first == second);
  }

  static const auto model = [] {
    model::loaded_model::parts p;
    p.name = std::string("trio");
    p.version = std::string("1");
    p.schema = model::schema({{"a", false}, {"bmi", true}, {"c", false}}, true);
    return std::make_shared<const model::loaded_model>(std::move(p));
  }();
  const batch_ptr batch = batch_ptr::make();
  record& r = batch->records.emplace_back();
  r.batch = batch.get();
  r.model = model.get();
  const auto fault = codec::read_csv(text, r, *batch, {20, 60});
  MUST(static_cast<bool>(fault) == !fault.message.empty());
  if (fault) return 0;
  MUST(r.rows <= 20 && batch->values.size() == r.rows * 3U);
  for (std::size_t i = 0; i < batch->values.size(); ++i)
    MUST(std::isfinite(batch->values[i]) || (i % 3 == 1 && std::isnan(batch->values[i])));
  return 0;
}

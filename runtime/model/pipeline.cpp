#include "runtime/model/pipeline.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace troupe::model {
namespace {

constexpr std::size_t most_block_rows = 64;
constexpr std::size_t block_numbers = 262'144;  ///< of all slots together: 2 MiB of scratch a thread

}  // namespace

template <class Watch>
void pipeline::run(std::span<const double* const> rows, double* out, Watch see) const {
  thread_local std::vector<double> arena;
  thread_local std::vector<columns> inputs;
  const std::size_t most = std::clamp<std::size_t>(block_numbers / numbers, 1, most_block_rows);
  const std::size_t block = std::min(most, rows.size());
  if (arena.size() < numbers * block) arena.resize(numbers * block);
  for (std::size_t done = 0; done < rows.size(); done += block) {
    const std::size_t count = std::min(block, rows.size() - done);
    const auto at = [&](std::uint32_t s) { return arena.data() + slots[s].place * block; };
    for (const source& from : sources) gather(from, rows.subspan(done, count), at(from.slot));
    double* const answer = out + done * slots[result].width;
    for (const operation& o : operations) {
      if (inputs.size() < o.inputs.size()) inputs.resize(o.inputs.size());
      for (std::size_t i = 0; i < o.inputs.size(); ++i)
        inputs[i] = {at(o.inputs[i]), slots[o.inputs[i]].width};
      see(o, inputs.data(), count);
      o.run->run(inputs.data(), count, o.output == result ? answer : at(o.output));
    }
  }
}

void pipeline::gather(const source& from, std::span<const double* const> rows, double* to) const {
  const std::size_t width = slots[from.slot].width;
  for (const double* row : rows) {
    row += from.begin;
    if (from.round) {
      for (std::size_t c = 0; c < width; ++c) to[c] = static_cast<double>(static_cast<float>(row[c]));
    } else {
      std::copy_n(row, width, to);
    }
    to += width;
  }
}

void pipeline::score(std::span<const double* const> rows, double* out) const {
  run(rows, out, [](const operation&, const columns*, std::size_t) {});
}

void pipeline::watch(std::span<const double* const> rows, double* out, const watcher& see) const {
  run(rows, out, see);
}

std::uint32_t pipeline::add_slot(std::size_t width, std::size_t most) {
  slots.push_back({width, numbers});
  numbers += width;
  if (numbers > most) throw load_error("its rows take too much room between operators");
  return static_cast<std::uint32_t>(slots.size() - 1);
}

std::vector<bool> missing_allowed(const pipeline& p, std::vector<double> row) {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  constexpr std::size_t most_tries = 4096;
  const std::size_t width = row.size();
  std::vector<double> out(p.slots[p.result].width);
  const auto is_nan = [](double x) { return std::isnan(x); };
  const auto answers = [&] {
    const double* const rows[] = {row.data()};
    bool kept = true;
    p.watch(rows, out.data(), [&](const operation& o, const columns* in, std::size_t) {
      for (std::size_t i = 0; i < o.inputs.size() && !o.run->keeps_missing(); ++i) {
        if (std::any_of(in[i].data, in[i].data + in[i].width, is_nan)) kept = false;
      }
    });
    return kept && std::none_of(out.begin(), out.end(), is_nan);
  };
  if (width > most_tries) {
    std::fill(row.begin(), row.end(), none);
    return std::vector<bool>(width, answers());
  }
  std::vector<bool> allowed(width);
  for (std::size_t c = 0; c < width; ++c) {
    const double before = std::exchange(row[c], none);
    allowed[c] = answers();
    row[c] = before;
  }
  return allowed;
}

std::vector<std::vector<std::uint32_t>> origins(const pipeline& p) {
  std::vector<std::vector<std::uint32_t>> found(p.slots.size());
  for (const source& s : p.sources) {
    found[s.slot].resize(p.slots[s.slot].width);
    std::iota(found[s.slot].begin(), found[s.slot].end(), static_cast<std::uint32_t>(s.begin));
  }
  std::vector<const std::vector<std::uint32_t>*> in;
  for (const operation& o : p.operations) {
    in.clear();
    for (const std::uint32_t s : o.inputs) in.push_back(&found[s]);
    const bool known = std::none_of(in.begin(), in.end(), [](const auto* list) { return list->empty(); });
    if (!known) continue;
    std::vector<std::uint32_t> out = o.run->origins(in);
    if (out.size() == p.slots[o.output].width) found[o.output] = std::move(out);
  }
  return found;
}

}  // namespace troupe::model

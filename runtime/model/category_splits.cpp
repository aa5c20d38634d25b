#include "runtime/model/category_splits.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "runtime/model/model.hpp"

namespace troupe::model {
namespace {

struct placed_set {
  std::uint32_t column;
  category_set set;
};

class category_step final : public step {
 public:
  category_step(std::size_t width, std::vector<placed_set> sets) : width_(width), sets_(std::move(sets)) {}
  void run(const columns* in, std::size_t rows, double* out) const override {
    for (std::size_t r = 0; r < rows; ++r) {
      const double* const x = in[0].data + r * width_;
      out = std::copy_n(x, width_, out);
      for (const placed_set& s : sets_) *out++ = s.set.left(x[s.column]) ? 0 : 1;
    }
  }
  origin_list origins(const std::vector<const origin_list*>& in) const override {
    origin_list out = *in[0];
    for (const placed_set& s : sets_) out.push_back((*in[0])[s.column]);
    return out;
  }

 private:
  std::size_t width_;
  std::vector<placed_set> sets_;
};

}  // namespace

bool category_set::left(double x) const {
  if (std::isnan(x)) return missing_left;
  if (float_input) x = static_cast<double>(static_cast<float>(x));
  bool member = false;
  if ((float_input ? x >= 0 : x > -1) && x < 32 * static_cast<double>(bits.size())) {
    const auto k = static_cast<std::size_t>(x);
    member = (bits[k / 32] >> (k % 32) & 1U) != 0;
  }
  return member == members_left;
}

void category_splits::add(tree_node& n, std::uint32_t column, category_set set) {
  // Without what is behind the last member, equal sets are equal.
  while (!set.bits.empty() && set.bits.back() == 0) set.bits.pop_back();
  const std::size_t words = set.bits.size();
  const auto next = static_cast<std::uint32_t>(width_ + sets_.size());
  const auto [at, fresh] = sets_.try_emplace({column, std::move(set)}, next);
  if (fresh && sets_.size() > most_)
    throw load_error("its trees split by more than " + std::to_string(most_) + " sets of categories");
  if (fresh && (words_ += words) > most_category_words)
    throw load_error("its sets of categories are too large");
  n.column = at->second;
  n.threshold = 0.5;
  n.how = split::leq;
  n.missing_yes = false;
}

std::vector<std::uint32_t> category_splits::columns() const {
  std::vector<std::uint32_t> out(width());
  std::iota(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(width_), 0U);
  for (const auto& [key, place] : sets_) out[place] = key.first;
  return out;
}

step_ptr category_splits::step() && {
  std::vector<placed_set> by_place(sets_.size());
  while (!sets_.empty()) {
    auto one = sets_.extract(sets_.begin());
    by_place[one.mapped() - width_] = {one.key().first, std::move(one.key().second)};
  }
  return std::make_unique<category_step>(width_, std::move(by_place));
}

}  // namespace troupe::model

#include "runtime/policy/cache_value.hpp"

#include <algorithm>

namespace troupe::policy {
namespace {

constexpr double memory = 2'048;      // rows asked that weigh as much as all before them
constexpr std::uint32_t trusted = 8;  // batches of the model before its cost counts
constexpr double off_below = 0.8;
constexpr double on_above = 1.2;
constexpr std::uint32_t probe_every = 1'024;  // batches
constexpr std::uint32_t probe_run = 16;

void follow(double& mean, double seen, double weight) {
  mean += weight * (seen - mean);
}

}  // namespace

void cache_value::level::observe(std::size_t asked, std::size_t hits) {
  if (asked == 0) return;
  const auto n = static_cast<double>(asked);
  evidence += n;
  follow(ratio, static_cast<double>(std::min(hits, asked)) / n, n / (n + std::min(evidence - n, memory)));
}

void cache_value::level::decide(double gain, double cost) {
  if (gain < off_below * cost) on = false;
  if (gain > on_above * cost) on = true;
}

void cache_value::observe_model(std::size_t rows, nanos took) {
  if (rows == 0 || took < 0) return;
  double seen = static_cast<double>(took) / static_cast<double>(rows);
  if (model_batches_ >= trusted) seen = std::min(seen, 4 * model_cost_ + 100);  // a stall is no news
  if (model_batches_ < 1'000'000) ++model_batches_;
  follow(model_cost_, seen, std::max(0.05, 1.0 / model_batches_));
  decide();
}

void cache_value::observe(std::size_t asked, std::size_t hits) {
  level1_.observe(asked, hits);
  decide();
}

void cache_value::observe_level2(std::size_t asked, std::size_t hits) {
  level2_.observe(asked, hits);
  decide();
}

void cache_value::observe_level1_cost(std::size_t rows, nanos took) {
  if (rows != 0) follow(config_.level1_cost, static_cast<double>(took) / static_cast<double>(rows), 0.05);
}

void cache_value::observe_level2_cost(std::size_t rows, nanos took) {
  if (rows != 0) follow(config_.level2_cost, static_cast<double>(took) / static_cast<double>(rows), 0.05);
}

void cache_value::decide() {
  if (model_batches_ < trusted) return;
  if (level1_.evidence >= memory) level1_.decide(level1_.ratio * model_cost_, config_.level1_cost);
  level2_.decide(level2_.ratio * model_cost_, config_.level2_cost);
}

bool cache_value::look_up_now() {
  batch_ = (batch_ + 1) % probe_every;
  probing_ = batch_ < probe_run;
  looking_ = level1_.on || probing_;
  return looking_;
}

}  // namespace troupe::policy

#pragma once
// cache_value: is looking predictions of one model up worth it? A look-up is paid for by every row and saves
// the model's time for those that hit: it pays where  hit ratio x model ns/row > look-up ns/row.
//
// All of it is learned: the model's cost from its batches, the hit ratio from what was asked. Looking up
// starts on, since nothing can be learned otherwise; once there is evidence it is switched off below 0.8 of
// break-even and on above 1.2. While off, runs of 16 batches in 1,024 are looked up all the same (1 of 64
// altogether; in runs, because a batch alone in a cache that nobody fills would never hit).

#include <cstddef>
#include <cstdint>

#include "runtime/policy/time.hpp"

namespace troupe::policy {

struct cache_value_config {
  double level1_cost = 150;    ///< ns a row: key, look-up and put in process
  double level2_cost = 2'500;  ///< ns a row: a share of one MGET and of the SETEX of misses, batched
};

class cache_value {
 public:
  explicit cache_value(const cache_value_config& config = {}) : config_(config) {}

  /// A batch of the model took so long to score.
  void observe_model(std::size_t rows, nanos took);
  /// Rows that were looked up in process, and how many of them hit.
  void observe(std::size_t asked, std::size_t hits);
  /// The same for level 2 (asked only for what level 1 missed).
  void observe_level2(std::size_t asked, std::size_t hits);
  /// What a look-up cost, where it was measured: replaces the configured guess by degrees.
  void observe_level1_cost(std::size_t rows, nanos took);
  void observe_level2_cost(std::size_t rows, nanos took);

  /// Once a batch: whether to look its rows up, because it pays or as a probe.
  [[nodiscard]] bool look_up_now();
  /// What look_up_now() said last.
  [[nodiscard]] bool looking() const { return looking_; }

  [[nodiscard]] bool worthwhile() const { return level1_.on; }
  /// Level 2 is asked while that pays for the rows level 1 misses, by a guess of 0.3 hits a row until it is
  /// known.
  [[nodiscard]] bool level2_worthwhile() const {
    return level2_.on || (probing_ && model_cost_ > config_.level2_cost);
  }

  [[nodiscard]] double hit_ratio() const { return level1_.ratio; }
  [[nodiscard]] double level2_hit_ratio() const { return level2_.ratio; }
  [[nodiscard]] double model_cost() const { return model_cost_; }  ///< ns a row

 private:
  struct level {
    bool on = true;
    double ratio = 0;
    double evidence = 0;  // rows asked
    void observe(std::size_t asked, std::size_t hits);
    void decide(double gain, double cost);
  };

  void decide();

  cache_value_config config_;
  level level1_;
  level level2_{false, 0.3, 0};
  double model_cost_ = 0;
  std::uint32_t model_batches_ = 0;
  std::uint32_t batch_ = 0;
  bool looking_ = true;
  bool probing_ = false;
};

}  // namespace troupe::policy

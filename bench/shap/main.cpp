// Explanations of a forest: nanoseconds a row at batch 1 and 1,024, one core.
//   bench_shap [--model DIR] [--smoke]       DIR: a version's folder
// See README.md; shap.py measures the shap package on the same model.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "runtime/model/repository.hpp"
#include "runtime/model/shap.hpp"

namespace {

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) try {
  std::string folder = TROUPE_SOURCE_DIRECTORY "/tests/runtime/model/native/forest";
  bool smoke = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--smoke") smoke = true;
    if (word == "--model" && i + 1 < argc) folder = argv[++i];
  }
  const auto model = troupe::model::load_model(folder, "model", "1", {}, true);
  const auto* const e = model->explain();
  if (!e) throw troupe::model::load_error(model->unexplained());
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> value(-0.1, 0.1);
  std::vector<std::vector<double>> values(1024);
  std::vector<const double*> rows;
  for (auto& row : values) {
    for (std::size_t c = 0; c < e->features(); ++c) row.push_back(value(random));
    rows.push_back(row.data());
  }
  std::vector<double> shares(rows.size() * e->outputs() * e->features());
  std::vector<double> scores(rows.size() * e->outputs());
  for (const std::size_t batch : {std::size_t{1}, std::size_t{1024}}) {
    std::vector<double> times;
    for (int round = 0; round < (smoke ? 1 : 11); ++round) {
      const std::size_t all = smoke ? batch : std::max<std::size_t>(batch, 64);
      const double begin = cpu_seconds();
      for (std::size_t at = 0; at < all; at += batch)
        e->explain(std::span(rows).subspan(at, batch), shares.data(), scores.data());
      times.push_back((cpu_seconds() - begin) / static_cast<double>(all));
    }
    std::sort(times.begin(), times.end());
    std::printf("batch %4zu: %9.0f ns a row\n", batch, 1e9 * times[times.size() / 4]);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_shap: %s\n", error.what());
  return 1;
}

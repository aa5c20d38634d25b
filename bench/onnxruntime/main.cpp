// What Troupe's way to ONNX Runtime adds to the library's own Run(), within the process and through a child.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "runtime/model/engine_process.hpp"
#include "runtime/model/onnxruntime.hpp"

namespace {

namespace model = troupe::model;
using clock_type = std::chrono::steady_clock;

/// Medians of the ways taken in turns, in microseconds: what disturbs the machine disturbs all of them.
template <class... Ways>
std::vector<double> medians(int rounds, int pause_us, Ways&&... ways) {
  std::vector<std::vector<double>> times(sizeof...(ways));
  const auto measure = [pause_us](auto& way, std::vector<double>& to) {
    way();  // not after another's data
    if (pause_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(pause_us));
    const auto begin = clock_type::now();
    way();
    to.push_back(std::chrono::duration<double, std::micro>(clock_type::now() - begin).count());
  };
  for (int i = 0; i < rounds; ++i) {
    std::size_t k = 0;
    (measure(ways, times[k++]), ...);
  }
  std::vector<double> found;
  for (auto& t : times) {
    std::nth_element(t.begin(), t.begin() + static_cast<std::ptrdiff_t>(t.size() / 2), t.end());
    found.push_back(t[t.size() / 2]);
  }
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (word == "engine") return model::serve_engine(3);
  if (!std::filesystem::exists(model::onnxruntime::library_path({}))) {
    std::fprintf(stderr, "no ONNX Runtime: run scripts/deps\n");
    return 77;
  }
  int rounds = word == "--smoke" ? 50 : 20'000;
  int pause_us = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--rounds") == 0) rounds = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--pause") == 0) pause_us = std::atoi(argv[i + 1]);
  }
  std::ifstream in(TROUPE_SOURCE_DIRECTORY "/tests/runtime/model/data/onnxruntime/mlp.onnx",
                   std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(in), {}};
  const model::onnxruntime::table table(file, {}, {});
  model::engine_process_options how;
  how.command = {"/proc/self/exe", "engine"};
  const model::engine_process process(file, {}, how);
  std::printf("ONNX Runtime %s, perceptron 10-64-64-1, one thread, medians in us of %d rounds\n",
              table.graph().library_version().c_str(), rounds);
  std::printf("%6s %10s %12s %10s %10s %10s\n", "rows", "Run()", "in process", "more", "child", "more");
  for (const std::size_t n :
       {std::size_t{1}, std::size_t{16}, std::size_t{64}, std::size_t{256}, std::size_t{1024}}) {
    std::vector<double> values(n * 10, 0.25);
    std::vector<const double*> rows;
    for (std::size_t r = 0; r < n; ++r) rows.push_back(values.data() + 10 * r);
    std::vector<double> out(n);
    const model::onnxruntime::bare_run bare(table.graph(), n, 10);
    const auto t = medians(
        std::max(1, rounds / (n >= 256 ? 10 : 1)), pause_us, [&] { bare(); },
        [&] { table.score(rows, out.data()); }, [&] { process.score(rows, out.data()); });
    std::printf("%6zu %10.1f %12.1f %10.1f %10.1f %10.1f\n", n, t[0], t[1], t[1] - t[0], t[2], t[2] - t[0]);
  }
  return 0;
}

// The built-in engine against ONNX Runtime: the same model, the same rows, one core, in one run.
//   bench_forest [--model DIR] [--rows FILE.csv] [--ort LIBRARY] [--json] [--smoke]
// See README.md for what it measures.

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/forest/ort.hpp"
#include "runtime/model/repository.hpp"

namespace {

struct arguments {
  std::string model = TROUPE_SOURCE_DIRECTORY "/models/diabetes-rf-model/3";
  std::string rows = TROUPE_SOURCE_DIRECTORY "/tests/runtime/model/data/diabetes.csv";
  std::string library;
  bool json = false;
  bool smoke = false;
};

arguments parse(int argc, char** argv) {
  arguments a;
  if (const char* library = std::getenv("ORT_LIBRARY")) a.library = library;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto next = [&]() -> std::string {
      if (++i == argc) throw std::runtime_error(word + " needs a value");
      return argv[i];
    };
    if (word == "--model") {
      a.model = next();
    } else if (word == "--rows") {
      a.rows = next();
    } else if (word == "--ort") {
      a.library = next();
    } else if (word == "--json") {
      a.json = true;
    } else if (word == "--smoke") {
      a.smoke = true;
    } else {
      throw std::runtime_error("unknown option " + word +
                               "; use --model DIR, --rows FILE.csv, --ort LIBRARY, --json, --smoke");
    }
  }
  return a;
}

/// The first `width` columns of a CSV with a header line.
std::vector<double> read_rows(const std::string& file, std::size_t width) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error(file + ": cannot be read");
  std::vector<double> rows;
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    std::stringstream cells(line);
    std::string cell;
    std::size_t c = 0;
    for (; c < width && std::getline(cells, cell, ','); ++c) rows.push_back(std::stod(cell));
    if (c != width)
      throw std::runtime_error(file + ": a row has fewer than " + std::to_string(width) + " columns");
  }
  if (rows.empty()) throw std::runtime_error(file + ": has no rows");
  return rows;
}

/// The rows as they are, then mixtures of two of them up to `count`: a branch predictor cannot learn them by
/// heart.
std::vector<double> mixed(const std::vector<double>& rows, std::size_t width, std::size_t count) {
  std::mt19937_64 random(1);
  const std::size_t have = rows.size() / width;
  std::vector<double> out(rows.begin(),
                          rows.begin() + static_cast<std::ptrdiff_t>(std::min(have, count) * width));
  while (out.size() < count * width) {
    const std::size_t a = random() % have;
    const std::size_t b = random() % have;
    for (std::size_t c = 0; c < width; ++c) out.push_back(rows[(random() % 4 ? a : b) * width + c]);
  }
  return out;
}

/// Processor time of this thread: what else runs on the machine counts little.
double now() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// The lower quartile of several rounds, which take turns: seconds a call.
template <class A, class B>
std::pair<double, double> measure(A&& a, B&& b, bool has_b, bool smoke) {
  const int rounds = smoke ? 2 : 11;
  const double at_least = smoke ? 0.001 : 0.1;
  constexpr int calls_between = 64;  // reading the clock costs as much as a small batch
  const auto round = [&](auto& f) {
    std::size_t calls = 0;
    const double begin = now();
    double end = begin;
    do {
      for (int k = 0; k < calls_between; ++k) f();
      calls += calls_between;
      end = now();
    } while (end - begin < at_least);
    return (end - begin) / static_cast<double>(calls);
  };
  std::vector<double> of_a, of_b;
  for (int r = 0; r < rounds; ++r) {
    of_a.push_back(round(a));
    if (has_b) of_b.push_back(round(b));
  }
  const auto quartile = [](std::vector<double>& v) {
    if (v.empty()) return 0.0;
    std::sort(v.begin(), v.end());
    return v[v.size() / 4];
  };
  return {quartile(of_a), quartile(of_b)};
}

int run(const arguments& how) {
  const auto model =
      troupe::model::load_model(how.model, std::filesystem::path(how.model).parent_path().filename(),
                                std::filesystem::path(how.model).filename());
  const std::size_t width = model->schema().features.size();
  const std::size_t out_width = model->output().width;
  constexpr std::size_t count = 4096;
  const auto x = mixed(read_rows(how.rows, width), width, count);
  std::vector<const double*> rows;
  for (std::size_t i = 0; i < count; ++i) rows.push_back(x.data() + i * width);
  std::unique_ptr<onnx_runtime> ort;
  if (!how.library.empty())
    ort = std::make_unique<onnx_runtime>(how.library,
                                         (std::filesystem::path(how.model) / "model.onnx").string());

  std::vector<double> ours(count * out_width);
  model->engine().score(rows, ours.data());
  double difference = 0;
  if (ort) {
    ort->score(x.data(), count, width, out_width);
    for (std::size_t i = 0; i < ours.size(); ++i) {
      difference = std::max(difference, std::fabs(ours[i] - ort->answer(i)) / (1 + std::fabs(ours[i])));
    }
  }

  std::FILE* const people = how.json ? stderr : stdout;
  std::fprintf(people, "%s version %s, engine %s, %zu rows, one core\n", model->name().c_str(),
               model->version().c_str(), std::string(model->engine().kind()).c_str(), count);
  if (ort) {
    std::fprintf(people, "against ONNX Runtime %s, largest difference %.2g\n", ort->version().c_str(),
                 difference);
  } else {
    std::fprintf(people,
                 "ONNX Runtime is not measured: name its library with --ort or ORT_LIBRARY (see run.sh)\n");
  }
  std::string json;
  for (const std::size_t batch : {1U, 8U, 64U, 256U, 1024U, 4096U}) {
    std::size_t at = 0;
    const auto next = [&] {
      const std::size_t from = at;
      at = at + 2 * batch > count ? 0 : at + batch;
      return from;
    };
    const auto [a, b] = measure(
        [&] { model->engine().score(std::span(rows).subspan(next(), batch), ours.data()); },
        [&] { ort->score(x.data() + next() * width, batch, width, out_width); }, ort != nullptr, how.smoke);
    const double mine = a * 1e9 / static_cast<double>(batch);
    const double other = b * 1e9 / static_cast<double>(batch);
    char line[256];
    if (ort) {
      std::fprintf(people, "batch %4zu: %7.0f ns a row, ONNX Runtime %7.0f, %.1f times\n", batch, mine, other,
                   other / mine);
      std::snprintf(line, sizeof line,
                    "%s{\"batch\":%zu,\"ns_per_row\":%.1f,\"onnxruntime_ns_per_row\":%.1f,\"speedup\":%.2f}",
                    json.empty() ? "" : ",", batch, mine, other, other / mine);
    } else {
      std::fprintf(people, "batch %4zu: %7.0f ns a row\n", batch, mine);
      std::snprintf(line, sizeof line, "%s{\"batch\":%zu,\"ns_per_row\":%.1f}", json.empty() ? "" : ",",
                    batch, mine);
    }
    json += line;
  }
  if (how.json) {
    std::printf(
        "{\"model\":\"%s\",\"version\":\"%s\",\"onnxruntime\":%s%s%s,\"largest_difference\":%g,\"results\":[%"
        "s]}\n",
        model->name().c_str(), model->version().c_str(), ort ? "\"" : "",
        ort ? ort->version().c_str() : "null", ort ? "\"" : "", difference, json.c_str());
  }
  return difference <= 1e-4 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_forest: %s\n", e.what());
    return 2;
  }
}

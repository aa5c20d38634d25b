// What the version in a folder answers and what a row costs, by the engine that the program would choose.
//   bench_model_kinds [FOLDER --rows FILE] [--batch 64] [--rounds N] [--json] [--smoke]
// See README.md.

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <exception>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/cell_rule.hpp"
#include "runtime/model/cells.hpp"
#include "runtime/model/repository.hpp"

namespace {

namespace model = troupe::model;
using nlohmann::json;

struct arguments {
  std::string folder = TROUPE_SOURCE_DIRECTORY "/models/diabetes-rf-model/3";
  std::string rows;
  std::size_t batch = 64;
  int rounds = 9;
  bool json = false;
  bool smoke = false;
};

arguments parse(int argc, char** argv) {
  arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto next = [&]() -> std::string {
      if (++i == argc) throw std::runtime_error(word + " needs a value");
      return argv[i];
    };
    if (word == "--rows") {
      a.rows = next();
    } else if (word == "--batch") {
      a.batch = std::stoul(next());
    } else if (word == "--rounds") {
      a.rounds = std::stoi(next());
    } else if (word == "--json") {
      a.json = true;
    } else if (word == "--smoke") {
      a.smoke = true;
    } else if (!word.starts_with('-')) {
      a.folder = word;
    } else {
      throw std::runtime_error("unknown option " + word +
                               "; use FOLDER --rows FILE, --batch, --rounds, --json, --smoke");
    }
  }
  if (a.batch == 0 || a.rounds < 1) throw std::runtime_error("--batch and --rounds are numbers from 1");
  return a;
}

struct table {
  std::deque<std::string> texts;
  std::deque<std::string_view> views;  // what the cells of texts point to
  std::deque<std::vector<double>> cells;
};

/// A JSON list of a row's cells a line: numbers, texts, null for a missing value.
table read_rows(const std::string& file, const std::vector<model::feature>& features) {
  const std::size_t width = features.size();
  std::ifstream in(file);
  if (!in) throw std::runtime_error(file + ": cannot be read");
  table t;
  for (std::string line; std::getline(in, line);) {
    const json row = json::parse(line);
    if (!row.is_array() || row.size() != width)
      throw std::runtime_error(file + ": line " + std::to_string(t.cells.size() + 1) + " is no list of " +
                               std::to_string(width) + " cells");
    auto& cells = t.cells.emplace_back();
    for (const auto& v : row) {
      const auto& rule = features[cells.size()].rule;
      if (v.is_string() && rule) {
        cells.push_back(rule->number_of(v.get_ref<const std::string&>()));
      } else if (v.is_string()) {
        const auto& text = t.texts.emplace_back(v.get<std::string>());
        cells.push_back(model::text_cell(&t.views.emplace_back(text)));
      } else {
        cells.push_back(v.is_null() ? std::numeric_limits<double>::quiet_NaN() : v.get<double>());
      }
    }
  }
  if (t.cells.empty()) throw std::runtime_error(file + ": has no rows");
  return t;
}

/// Processor time of this thread: what else runs on the machine counts little.
double now() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// Nanoseconds a row: the lower quartile of the rounds.
double measure(const model::engine& engine, std::span<const double* const> rows, std::size_t batch,
               double* out, int rounds, double at_least) {
  std::vector<double> found;
  std::size_t at = 0;
  for (int r = 0; r < rounds; ++r) {
    std::size_t calls = 0;
    const double begin = now();
    double end = begin;
    do {
      for (int k = 0; k < 8; ++k, ++calls) {
        engine.score(rows.subspan(at, batch), out);
        at = at + 2 * batch > rows.size() ? 0 : at + batch;
      }
      end = now();
    } while (end - begin < at_least);
    found.push_back(1e9 * (end - begin) / static_cast<double>(calls * batch));
  }
  std::sort(found.begin(), found.end());
  return found[found.size() / 4];
}

int run(const arguments& how) {
  model::engine_options engines;
  engines.mode = model::engine_mode::automatic;
  engines.isolated = false;  // one thread's time; docs/onnxruntime.md has what a process of its own adds
  const auto m = model::load_model(how.folder, "model", "1", engines);
  const std::size_t width = m->schema().features.size();
  table t;
  if (how.rows.empty()) {
    t.cells.resize(4 * how.batch, std::vector<double>(width));
    for (std::size_t r = 0; r < t.cells.size(); ++r)
      for (std::size_t c = 0; c < width; ++c)
        t.cells[r][c] = static_cast<double>((7 * r + 3 * c) % 13) / 100 - 0.06;
  } else {
    t = read_rows(how.rows, m->schema().features);
  }
  std::vector<const double*> rows;
  for (const auto& r : t.cells) rows.push_back(r.data());
  const std::size_t n = rows.size();
  const std::size_t out = m->output().width;
  std::vector<double> answers(n * out);
  for (std::size_t at = 0; at < n; at += how.batch) {
    const std::size_t count = std::min(how.batch, n - at);
    m->engine().score(std::span(rows).subspan(at, count), &answers[at * out]);
  }
  const std::size_t batch = std::min(how.batch, n);
  std::vector<double> scratch(batch * out);
  const double ns =
      measure(m->engine(), rows, batch, scratch.data(), how.smoke ? 1 : how.rounds, how.smoke ? 0.001 : 0.03);
  if (!how.json) {
    std::printf("%s: engine %s (%s), batch %zu: %.0f ns a row\n", how.folder.c_str(),
                std::string(m->engine().kind()).c_str(), m->engine_reason().c_str(), batch, ns);
    return 0;
  }
  json list = json::array();
  for (std::size_t r = 0; r < n; ++r) {
    json row = json::array();
    for (std::size_t k = 0; k < out; ++k) {
      const double v = answers[r * out + k];
      row.push_back(std::isfinite(v) ? json(v) : json());
    }
    list.push_back(std::move(row));
  }
  const json made = {{"engine", m->engine().kind()},
                     {"why", m->engine_reason()},
                     {"batch", batch},
                     {"ns_per_row", ns},
                     {"answers", std::move(list)}};
  std::printf("%s\n", made.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}

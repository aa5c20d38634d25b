// One server under a bursty mix of three classes, simulated: what share of each class is answered within its
// target by sla_queue, by its simpler rivals and at best; and what a row costs sla_queue in real time.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/policy/batch_sizer.hpp"
#include "runtime/policy/sla_queue.hpp"

namespace {

using namespace troupe::policy;

constexpr std::size_t classes = 3;
constexpr std::array<const char*, classes> class_names = {"interactive", "standard", "bulk"};
constexpr std::array<nanos, classes> targets = {50 * millisecond, 200 * millisecond, 60 * second};
constexpr std::array<double, classes> mix = {0.2, 0.4, 0.4};
constexpr double bulk_floor = 0.05;

/// What a batch really costs: fixed + per_row x n, up to some noise, and now and then a stall of the machine.
struct machine {
  nanos fixed = 100 * microsecond;
  nanos per_row = 50 * microsecond;
  std::size_t max_rows = 64;
  double noise = 0.05;
  double stalls = 0.2;  // a second
  nanos stall = 20 * millisecond;

  [[nodiscard]] double mean(std::size_t n) const {
    return (static_cast<double>(fixed) + static_cast<double>(per_row) * static_cast<double>(n)) * (1 + noise);
  }
  [[nodiscard]] double capacity() const {  // rows/s
    return 1e9 * static_cast<double>(max_rows) / mean(max_rows);
  }
};

/// Interactive and standard rows share a process that bursts to 2.5 times its rate for 0.3 s in 1.5 s on
/// average; bulk comes in clumps of 500 rows on average.
struct workload {
  static constexpr double burst = 2.5;
  static constexpr double on = 0.3;
  static constexpr double off = 1.2;
  static constexpr double clump = 500;
};

struct arrival {
  nanos at;
  std::uint8_t cls;
};

struct options {
  double seconds = 600;
  double warm_up = 60;
  int seeds = 3;
  std::vector<double> loads = {0.7, 0.9, 1.1, 1.5};
  double late_floor = -1;  // the queue's default
  bool json = false;
  bool smoke = false;
};

nanos to_nanos(double seconds) {
  return static_cast<nanos>(seconds * 1e9);
}

std::vector<arrival> arrivals(double rate, double seconds, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::exponential_distribution<double> gap(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<arrival> out;
  const double share_on = workload::on / (workload::on + workload::off);
  const double calm = (1 - share_on * workload::burst) / (1 - share_on);
  const double foreground = rate * (mix[0] + mix[1]);
  bool bursting = false;
  double change = gap(random) * workload::off;
  for (double t = 0; t < seconds;) {
    const double step = gap(random) / (foreground * (bursting ? workload::burst : calm));
    if (t + step > change) {
      t = change;
      bursting = !bursting;
      change = t + gap(random) * (bursting ? workload::on : workload::off);
      continue;
    }
    t += step;
    out.push_back(
        {to_nanos(t), static_cast<std::uint8_t>(uniform(random) < mix[0] / (mix[0] + mix[1]) ? 0 : 1)});
  }
  std::geometric_distribution<int> more(1 / workload::clump);
  const double clumps = rate * mix[2] / workload::clump;
  for (double t = gap(random) / clumps; t < seconds; t += gap(random) / clumps) {
    const int n = 1 + more(random);
    for (int i = 0; i < n; ++i) out.push_back({to_nanos(t) + nanos{i} * 2 * microsecond, 2});
  }
  std::sort(out.begin(), out.end(), [](const arrival& a, const arrival& b) { return a.at < b.at; });
  return out;
}

/// A discipline under test: rows are numbers of arrivals.
class discipline {
 public:
  discipline() = default;
  discipline(const discipline&) = delete;
  discipline& operator=(const discipline&) = delete;
  virtual ~discipline() = default;
  virtual void push(std::uint32_t row, const arrival& a) = 0;
  virtual void take(nanos now, std::vector<std::uint32_t>& batch) = 0;  // rows it drops just vanish
  virtual void finished(std::size_t, nanos) {}
  [[nodiscard]] virtual bool empty() const = 0;
};

class fifo final : public discipline {
 public:
  explicit fifo(const machine& m) : max_rows_(m.max_rows) {}
  void push(std::uint32_t row, const arrival&) override { rows_.push_back(row); }
  void take(nanos, std::vector<std::uint32_t>& batch) override {
    while (!rows_.empty() && batch.size() < max_rows_) {
      batch.push_back(rows_.front());
      rows_.pop_front();
    }
  }
  [[nodiscard]] bool empty() const override { return rows_.empty(); }

 private:
  std::deque<std::uint32_t> rows_;
  std::size_t max_rows_;
};

/// A queue a class; rows that can't make their target may be dropped, and aged bulk may get its share first.
/// It knows the machine's true mean cost, which no real scheduler does.
class class_order final : public discipline {
 public:
  class_order(const machine& m, bool sheds) : machine_(m), sheds_(sheds) {}

  void push(std::uint32_t row, const arrival& a) override { queues_[a.cls].push_back({row, a.at}); }

  void take(nanos now, std::vector<std::uint32_t>& batch) override {
    if (sheds_) {
      const auto ahead = static_cast<nanos>(machine_.mean(std::min(machine_.max_rows, waiting())));
      for (std::size_t c = 0; c < classes; ++c)
        while (!queues_[c].empty() && now + ahead + margin > queues_[c].front().at + targets[c])
          queues_[c].pop_front();
      auto& bulk = queues_[2];
      if (bulk.empty() || now - bulk.front().at < targets[2] / 3) {
        credit_ = 0;
      } else {
        credit_ = std::min(credit_ + bulk_floor * static_cast<double>(std::min(machine_.max_rows, waiting())),
                           static_cast<double>(machine_.max_rows));
        for (; credit_ >= 1 && !bulk.empty() && batch.size() < machine_.max_rows; credit_ -= 1)
          pop(bulk, batch);
      }
    }
    for (auto& q : queues_)
      while (!q.empty() && batch.size() < machine_.max_rows) pop(q, batch);
  }

  [[nodiscard]] bool empty() const override { return waiting() == 0; }

 private:
  struct waiting_row {
    std::uint32_t row;
    nanos at;
  };
  static constexpr nanos margin = 2 * millisecond;

  [[nodiscard]] std::size_t waiting() const {
    return queues_[0].size() + queues_[1].size() + queues_[2].size();
  }
  static void pop(std::deque<waiting_row>& q, std::vector<std::uint32_t>& batch) {
    batch.push_back(q.front().row);
    q.pop_front();
  }

  machine machine_;
  bool sheds_;
  double credit_ = 0;
  std::array<std::deque<waiting_row>, classes> queues_;
};

std::vector<class_config> class_list(bool shed) {
  std::vector<class_config> out(classes);
  for (std::size_t c = 0; c < classes; ++c) {
    out[c].name = class_names[c];
    out[c].target = targets[c];
    out[c].limit = SIZE_MAX;
    out[c].shed_late = shed;
  }
  out[2].floor = bulk_floor;
  return out;
}

/// The queue and the sizer that the runtime uses: the cost of a batch is learned on the way.
class troupe_queue final : public discipline {
 public:
  troupe_queue(const machine& m, bool shed, double late_floor)
      : queue_(late_floor < 0 ? sla_queue(class_list(shed)) : sla_queue(class_list(shed), late_floor)) {
    limits_.max_rows = m.max_rows;
    queue_.add_model();
  }
  void push(std::uint32_t row, const arrival& a) override {
    (void)queue_.push(0, a.cls, {nullptr, row, 1, a.at, a.at + targets[a.cls], never});
  }
  void take(nanos now, std::vector<std::uint32_t>& batch) override {
    items_.clear();
    ended_.clear();
    if (!queue_.next_model(now, runnable_)) return;
    queue_.take(0, now, sizer_, limits_, items_, ended_);
    for (const auto& i : items_) batch.push_back(i.tag);
  }
  void finished(std::size_t rows, nanos took) override { sizer_.observe(rows, took); }
  [[nodiscard]] bool empty() const override { return queue_.empty(); }

 private:
  sla_queue queue_;
  batch_sizer sizer_;
  take_limits limits_;
  std::vector<bool> runnable_ = {true};
  std::vector<sla_item> items_;
  std::vector<sla_queue::ended_item> ended_;
};

struct score {
  std::array<double, classes> in_time{};  // % of the rows that arrived
  std::array<double, classes> served{};   // %, late ones included
  double mean_batch = 0;
};

struct window {
  nanos from;
  nanos to;
  [[nodiscard]] bool holds(nanos at) const { return at >= from && at <= to; }
};

score simulate(const std::vector<arrival>& rows, discipline& d, const machine& m, const window& counted,
               nanos end, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::exponential_distribution<double> noise(1);
  std::vector<nanos> answered(rows.size(), never);
  std::vector<std::uint32_t> batch;
  std::size_t arrived = 0;
  double batches = 0;
  double batched = 0;
  nanos next_stall = to_nanos(noise(random) / m.stalls);
  for (nanos now = 0; now <= end;) {
    for (; arrived < rows.size() && rows[arrived].at <= now; ++arrived)
      d.push(static_cast<std::uint32_t>(arrived), rows[arrived]);
    if (d.empty()) {
      if (arrived == rows.size()) break;
      now = rows[arrived].at;
      continue;
    }
    batch.clear();
    d.take(now, batch);
    if (batch.empty()) continue;
    auto took = static_cast<nanos>(
        (static_cast<double>(m.fixed) + static_cast<double>(m.per_row) * static_cast<double>(batch.size())) *
        (1 + m.noise * noise(random)));
    if (now >= next_stall) {
      took += m.stall;
      next_stall = now + to_nanos(noise(random) / m.stalls);
    }
    now += took;
    d.finished(batch.size(), took);
    for (const std::uint32_t row : batch) answered[row] = now - rows[row].at;
    batches += 1;
    batched += static_cast<double>(batch.size());
  }
  score out;
  std::array<double, classes> all{};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!counted.holds(rows[i].at)) continue;
    const std::size_t c = rows[i].cls;
    all[c] += 1;
    out.served[c] += answered[i] != never;
    out.in_time[c] += answered[i] <= targets[c];
  }
  for (std::size_t c = 0; c < classes; ++c) {
    out.served[c] *= 100 / std::max(1.0, all[c]);
    out.in_time[c] *= 100 / std::max(1.0, all[c]);
  }
  out.mean_batch = batched / std::max(1.0, batches);
  return out;
}

/// The most that class order allows: for the first k classes alone, one row at a time at the cost of a full
/// batch without noise or stalls, earliest deadline first with rows dropped once they can't make it, which is
/// optimal for one machine and equal rows. A class's bound is what the k-th adds.
score bound(const std::vector<arrival>& rows, const machine& m, const window& counted, nanos end) {
  const double cost = m.mean(m.max_rows) / static_cast<double>(m.max_rows);
  std::array<double, classes> all{};
  for (const auto& r : rows) all[r.cls] += counted.holds(r.at);
  std::array<double, classes> upto{};
  for (std::size_t k = 0; k < classes; ++k) {
    std::array<std::deque<nanos>, classes> queues;  // arrivals
    std::size_t arrived = 0;
    for (double now = 0; now < static_cast<double>(end);) {
      for (; arrived < rows.size() && static_cast<double>(rows[arrived].at) <= now; ++arrived)
        if (rows[arrived].cls <= k) queues[rows[arrived].cls].push_back(rows[arrived].at);
      std::size_t first = classes;
      for (std::size_t c = 0; c <= k; ++c) {
        while (!queues[c].empty() && now + cost > static_cast<double>(queues[c].front() + targets[c]))
          queues[c].pop_front();
        if (queues[c].empty()) continue;
        if (first == classes || queues[c].front() + targets[c] < queues[first].front() + targets[first])
          first = c;
      }
      if (first == classes) {
        if (arrived == rows.size()) break;
        now = std::max(now, static_cast<double>(rows[arrived].at));
        continue;
      }
      upto[k] += counted.holds(queues[first].front());
      queues[first].pop_front();
      now += cost;
    }
  }
  score out;
  for (std::size_t c = 0; c < classes; ++c)
    out.in_time[c] = 100 * (upto[c] - (c == 0 ? 0 : upto[c - 1])) / std::max(1.0, all[c]);
  return out;
}

struct timing {
  double in_order = 0;
  double shuffled = 0;
  double single = 0;
};

/// Real time of push, next_model and take, per row: `depth` rows wait all the time, `batch` rows are taken at
/// once, and arrivals of three classes are as fast as that. `jitter` spreads the targets, so that they arrive
/// out of order.
double cost_per_row(std::size_t rows, std::size_t depth, std::size_t batch, nanos jitter) {
  std::mt19937_64 random(7);
  struct event {
    sla_item item;
    std::size_t cls;
  };
  std::vector<event> events(rows);
  const nanos gap = 1 * microsecond;
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t c = random() % 5 == 0 ? 0 : 1 + random() % 2;
    const nanos at = static_cast<nanos>(i) * gap;
    const nanos off = jitter == 0 ? 0 : static_cast<nanos>(random() % static_cast<std::uint64_t>(jitter));
    events[i] = {{nullptr, static_cast<std::uint32_t>(i), 1, at, at + targets[c] - off, never}, c};
  }
  sla_queue queue(class_list(false));
  queue.add_model();
  batch_sizer sizer;
  for (std::size_t n = 1; n <= batch; n *= 2) sizer.observe(n, static_cast<nanos>(100 * n));
  const take_limits limits{batch, 5 * millisecond};
  const std::vector<bool> runnable = {true};
  std::vector<sla_item> out;
  std::vector<sla_queue::ended_item> ended;
  std::uint64_t sum = 0;
  const auto begin = std::chrono::steady_clock::now();
  std::size_t next = 0;
  while (next < rows || !queue.empty()) {
    const std::size_t upto = std::min(rows, next + batch);
    for (; next < upto; ++next) (void)queue.push(0, events[next].cls, events[next].item);
    if (queue.size() < depth && next < rows) continue;
    const nanos now = events[next - 1].item.arrival;
    out.clear();
    if (queue.next_model(now, runnable)) queue.take(0, now, sizer, limits, out, ended);
    for (const auto& i : out) sum += i.tag;
  }
  const auto took = std::chrono::steady_clock::now() - begin;
  if (sum != static_cast<std::uint64_t>(rows) * (rows - 1) / 2) {
    std::fprintf(stderr, "bench_scheduler: rows were lost\n");
    std::exit(1);
  }
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count()) /
         static_cast<double>(rows);
}

double best_of(int times, const std::function<double()>& measure) {
  double best = measure();
  for (int i = 1; i < times; ++i) best = std::min(best, measure());
  return best;
}

constexpr const char* help =
    "bench_scheduler: goodput of the scheduling policy in a simulation, and its cost per row\n"
    "  --seconds N      simulated time a run (600)\n"
    "  --seeds N        runs to average over (3)\n"
    "  --load X         one load instead of 0.7, 0.9, 1.1, 1.5 (of the machine's capacity)\n"
    "  --late-floor X   share granted to long overdue rows (the queue's default)\n"
    "  --smoke          a short run that fails when the policy falls behind its rivals\n"
    "  --json           one JSON object instead of the tables\n"
    "  --help\n";

double number(const char* option, const char* text) {
  char* end = nullptr;
  const double value = text ? std::strtod(text, &end) : 0;
  if (!text || end == text || *end != '\0' || !(value >= 0)) {
    std::fprintf(stderr, "bench_scheduler: %s needs a number >= 0\n", option);
    std::exit(2);
  }
  return value;
}

options parse(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (arg == "--help") {
      std::fputs(help, stdout);
      std::exit(0);
    } else if (arg == "--json") {
      o.json = true;
    } else if (arg == "--smoke") {
      o.smoke = true;
      o.seconds = 130;
      o.warm_up = 5;
      o.seeds = 1;
      o.loads = {0.9, 1.5};
    } else if (arg == "--seconds") {
      o.seconds = number("--seconds", value), ++i;
      if (o.seconds < 130) {
        std::fprintf(stderr,
                     "bench_scheduler: --seconds must be at least 130: bulk rows have 60 s to be answered\n");
        std::exit(2);
      }
      o.warm_up = std::min(60.0, (o.seconds - 61) / 4);
    } else if (arg == "--seeds") {
      o.seeds = std::max(1, static_cast<int>(number("--seeds", value))), ++i;
    } else if (arg == "--load") {
      o.loads = {number("--load", value)}, ++i;
    } else if (arg == "--late-floor") {
      o.late_floor = number("--late-floor", value), ++i;
    } else {
      std::fprintf(stderr, "bench_scheduler: unknown option %s\n%s", argv[i], help);
      std::exit(2);
    }
  }
  return o;
}

struct result {
  std::string name;
  score mean;
};

std::vector<result> run(const options& o, const machine& m, double load) {
  using maker = std::function<std::unique_ptr<discipline>()>;
  const std::vector<std::pair<std::string, maker>> disciplines = {
      {"fifo", [&] { return std::make_unique<fifo>(m); }},
      {"strict priority", [&] { return std::make_unique<class_order>(m, false); }},
      {"shedding, costs known", [&] { return std::make_unique<class_order>(m, true); }},
      {"troupe, late rows shed", [&] { return std::make_unique<troupe_queue>(m, true, o.late_floor); }},
      {"troupe, no late floor", [&] { return std::make_unique<troupe_queue>(m, false, 0.0); }},
      {"troupe", [&] { return std::make_unique<troupe_queue>(m, false, o.late_floor); }},
  };
  std::vector<result> out;
  out.reserve(disciplines.size() + 1);
  for (const auto& d : disciplines) out.push_back({d.first, {}});
  out.push_back({"bound", {}});
  const window counted{to_nanos(o.warm_up), to_nanos(o.seconds - 61)};
  const auto add = [&](score& to, const score& s) {
    for (std::size_t c = 0; c < classes; ++c) {
      to.in_time[c] += s.in_time[c] / o.seeds;
      to.served[c] += s.served[c] / o.seeds;
    }
    to.mean_batch += s.mean_batch / o.seeds;
  };
  for (int seed = 0; seed < o.seeds; ++seed) {
    const auto s = static_cast<std::uint64_t>(seed);
    const auto rows = arrivals(m.capacity() * load, o.seconds, 100 + s);
    for (std::size_t i = 0; i < disciplines.size(); ++i)
      add(out[i].mean, simulate(rows, *disciplines[i].second(), m, counted, to_nanos(o.seconds), 7 + s));
    add(out.back().mean, bound(rows, m, counted, to_nanos(o.seconds)));
  }
  return out;
}

const score& of(const std::vector<result>& results, std::string_view name) {
  return std::find_if(results.begin(), results.end(), [&](const result& r) { return r.name == name; })->mean;
}

}  // namespace

int main(int argc, char** argv) {
  const options o = parse(argc, argv);
  const machine m;
  bool failed = false;
  if (o.json)
    std::printf("{\"capacity_rows_per_second\": %.0f, \"loads\": [", m.capacity());
  else
    std::printf(
        "%% answered within the target: interactive (50 ms) / standard (200 ms) / bulk (60 s)\n"
        "batch 100 us + 50 us x n, n <= %zu, capacity %.0f rows/s, %.0f s simulated, %d seed(s)\n",
        m.max_rows, m.capacity(), o.seconds, o.seeds);
  for (std::size_t l = 0; l < o.loads.size(); ++l) {
    const auto results = run(o, m, o.loads[l]);
    if (o.json) {
      std::printf("%s{\"load\": %g, \"disciplines\": {", l ? ", " : "", o.loads[l]);
      for (std::size_t i = 0; i < results.size(); ++i) {
        const score& s = results[i].mean;
        std::printf("%s\"%s\": {\"in_time\": [%.3f, %.3f, %.3f], \"served\": [%.3f, %.3f, %.3f]}",
                    i ? ", " : "", results[i].name.c_str(), s.in_time[0], s.in_time[1], s.in_time[2],
                    s.served[0], s.served[1], s.served[2]);
      }
      std::printf("}}");
    } else {
      std::printf(
          "\nload %.1f                  in time                   answered at all        rows a batch\n",
          o.loads[l]);
      for (const auto& r : results) {
        const score& s = r.mean;
        std::printf("  %-23s %6.2f %6.2f %6.2f", r.name.c_str(), s.in_time[0], s.in_time[1], s.in_time[2]);
        if (r.name != "bound")
          std::printf("     %6.2f %6.2f %6.2f   %6.1f", s.served[0], s.served[1], s.served[2], s.mean_batch);
        std::printf("\n");
      }
    }
    if (o.smoke) {
      const score& ours = of(results, "troupe");
      const score& shedding = of(results, "shedding, costs known");
      const score& plain = of(results, "strict priority");
      const bool ok = ours.in_time[0] > 99.5 && ours.in_time[1] > shedding.in_time[1] - 3 &&
                      ours.in_time[1] > plain.in_time[1] + 5 && ours.in_time[2] > shedding.in_time[2] - 8;
      if (!ok) std::fprintf(stderr, "bench_scheduler: goodput at load %.1f fell behind\n", o.loads[l]);
      failed = failed || !ok;
    }
  }
  const std::size_t rows = o.smoke ? 200'000 : 2'000'000;
  const int times = o.smoke ? 2 : 5;
  timing t;
  t.in_order = best_of(times, [&] { return cost_per_row(rows, 10'000, 64, 0); });
  t.shuffled = best_of(times, [&] { return cost_per_row(rows, 10'000, 64, 20 * millisecond); });
  t.single = best_of(times, [&] { return cost_per_row(rows, 1, 1, 0); });
  if (o.json)
    std::printf(
        "], \"ns_per_row\": {\"targets_in_order\": %.1f, \"targets_out_of_order\": %.1f, "
        "\"one_row_a_batch\": %.1f}}\n",
        t.in_order, t.shuffled, t.single);
  else
    std::printf(
        "\nns a row for push, next_model and take: %.1f with targets in order, %.1f with targets spread over "
        "20 ms (10,000 rows wait, 64 a batch), %.1f with one row a batch\n",
        t.in_order, t.shuffled, t.single);
  return failed ? 1 : 0;
}

#include "actors/cache_client.hpp"

#include <cmath>
#include <cstring>
#include <deque>
#include <optional>
#include <unordered_map>
#include <utility>

#include "actors/answering.hpp"
#include "runtime/codec/cache_key.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/model/model.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/observe/notices.hpp"
#include "runtime/observe/trace.hpp"
#include "runtime/policy/cache_value.hpp"
#include "runtime/policy/flat_cache.hpp"

namespace troupe {

/// Level 2's answer to one look-up (store -> cache_client).
struct level2_answer {
  std::uint64_t id = 0;
  std::shared_ptr<const store::get_result> result;
};

}  // namespace troupe

TROUPE_LOCAL_MESSAGE(troupe::level2_answer)

namespace troupe {
namespace {

constexpr nanos sweep = 50'000'000;

using policy::cache_key;

struct key_hash {
  std::size_t operator()(const cache_key& k) const { return k.lo; }
};

/// Rows that wait for the one that is being scored.
struct flight {
  const record* leader = nullptr;  // with a count
  nanos since = 0;
  std::vector<const record*> waiting;  // each with a count
};

struct pending_lookup {
  std::vector<const record*> rows;  // each with a count
  std::vector<cache_key> keys;
  nanos since = 0;
};

// The store's callback needs an interface that takes level2_answer, which is nobody else's business.
using inner_actor = caf_line::actor_of<void(submit), void(learned), void(model_gone), void(tick),
                                       void(wiring), void(crash), void(level2_answer)>;

struct cache_state {
  static inline const char* name = "cache_client";

  cache_client_args args;
  wiring to;
  std::optional<policy::flat_cache> level1;
  std::optional<policy::circuit> circuit;
  std::uint64_t shown = 0;  // transitions of it that people have heard of
  std::unordered_map<const model::loaded_model*, policy::cache_value> worth;
  std::unordered_map<cache_key, flight, key_hash> flights;
  std::unordered_map<std::uint64_t, pending_lookup> lookups;
  std::uint64_t next_lookup = 1;
  codec::result_writer writer;
  std::vector<double> value;

  ~cache_state() {
    for (auto& [k, f] : flights) release(f);
    for (auto& [id, l] : lookups)
      for (auto* r : l.rows) r->batch->release();
  }

  static void release(flight& f) {
    f.leader->batch->release();
    for (auto* r : f.waiting) r->batch->release();
  }

  [[nodiscard]] bool cacheable(const record& r) const {
    return r.rows == 1 && !r.explain && r.model->output().width <= args.width;
  }

  /// No key for a row with a missing value: NaN equals nothing.
  [[nodiscard]] std::optional<cache_key> key_of(const record& r) const {
    const std::size_t width = r.model->schema().features.size();
    const double* row = r.batch->row(r, 0, width);
    for (std::size_t i = 0; i < width; ++i)
      if (std::isnan(row[i])) return std::nullopt;
    if (r.model->schema().texts)
      return codec::row_key(r.model->digest(), {row, width}, r.model->schema().inputs);
    return codec::row_key(r.model->digest(), {row, width});
  }

  policy::cache_value& worth_of(const model::loaded_model* m) { return worth[m]; }

  void publish_circuit() {
    const auto state = circuit->state();
    const auto at = state == policy::circuit_state::closed      ? breaker_position::closed
                    : state == policy::circuit_state::half_open ? breaker_position::half_open
                                                                : breaker_position::open;
    args.metrics->breaker("redis", static_cast<int>(at));
    if (circuit->transitions() == shown) return;
    shown = circuit->transitions();
    if (!args.notices) return;
    if (at == breaker_position::open)
      args.notices->raise(args.name, {"does without Redis, which fails or is slow (its breaker is open)",
                                      "next probe", circuit->next_probe()});
    else  // half-open: the next look-up goes to Redis
      args.notices->clear(args.name);
  }
};

using self_ptr = inner_actor::stateful_pointer<cache_state>;

/// A look-up for a request that is traced is over.
void tell_lookup(const record& r, nanos since, std::int64_t level, const char* result,
                 std::string_view error = {}) {
  r.trace->child("cache", since, r.trace->now(),
                 {{"troupe.cache.level", level}, {"troupe.cache.result", std::string(result)}}, error);
}

/// Rows that are answered here. Takes over a count of each.
class known_rows {
 public:
  explicit known_rows(cache_state& s) : answers_(s.writer) {}

  void add(const record* r, const double* outputs) {
    rows_.adopt(r);
    if (!answers_.predicted(*r, outputs))
      answers_.failed(*r, error_code::model_failed, "the model gave no finite prediction for this request");
  }
  void hand_over(self_ptr self) {
    answers_.hand_over(0, [&](answer_set_ptr set) {
      caf_line::send(self, self->state.to.producer, answers{std::move(set)});
    });
    rows_.release();
  }

 private:
  row_refs rows_;
  answering answers_;
};

void pass_on(self_ptr self, std::shared_ptr<row_refs> rows) {
  if (!rows->empty()) caf_line::send(self, self->state.to.scheduler, submit{std::move(rows)});
}

bool level2_open(self_ptr self, const record& sample) {
  auto& s = self->state;
  if (!s.args.level2) return false;
  if (!s.args.always && !s.worth_of(sample.model).level2_worthwhile()) return false;
  const bool allowed = s.circuit->allow(caf_line::now(self));
  s.publish_circuit();
  return allowed;
}

void ask_level2(self_ptr self, std::vector<const record*> rows, std::vector<cache_key> keys) {
  auto& s = self->state;
  const std::uint64_t id = s.next_lookup++;
  std::vector<std::string> names;
  names.reserve(keys.size());
  for (const auto& k : keys) names.push_back(codec::level2_name(k));
  s.lookups.emplace(id, pending_lookup{std::move(rows), std::move(keys), caf_line::now(self)});
  inner_actor me(self);
  s.args.level2->get(std::move(names), [me, id](store::get_result r) {
    caf_line::post(me, level2_answer{id, std::make_shared<const store::get_result>(std::move(r))});
  });
}

void look_up(self_ptr self, const submit& m) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  const record* first = *m.rows->begin();
  // A batch is mostly of one model; whether looking up pays is asked once a batch of it.
  const model::loaded_model* model = nullptr;
  bool look = false;
  bool any = false;
  for (const record* r : *m.rows) {
    if (r->model == model) continue;
    model = r->model;
    look = s.args.always || s.worth_of(model).look_up_now();
    any |= look;
  }
  if (!any) {
    pass_on(self, m.rows);
    return;
  }
  model = nullptr;
  auto miss = std::make_shared<row_refs>();
  known_rows hits(s);
  std::vector<const record*> unknown;
  std::vector<cache_key> unknown_keys;
  std::size_t hit_count = 0;
  std::size_t joined = 0;
  std::size_t asked = 0;
  s.value.resize(s.args.width);
  auto settle = [&] {
    // A row that joins one in flight is as good as a hit: it is not scored.
    if (model && asked) s.worth_of(model).observe(asked, hit_count + joined);
    s.args.metrics->cache_lookups(1, hit_count, asked - hit_count);
    s.args.metrics->cache_coalesced(joined);
    hit_count = joined = asked = 0;
  };
  for (const record* r : m.rows->take()) {
    if (r->model != model) {
      settle();
      model = r->model;
      look = s.args.always || s.worth_of(model).looking();
    }
    std::optional<cache_key> key;
    if (look && s.cacheable(*r)) key = s.key_of(*r);
    if (!key) {
      miss->adopt(r);
      continue;
    }
    ++asked;
    if (s.level1->get(*key, now, s.value.data())) {
      ++hit_count;
      if (r->trace) tell_lookup(*r, now, 1, "hit");
      hits.add(r, s.value.data());
      continue;
    }
    if (r->trace) r->trace->waits(now);
    auto [it, fresh] = s.flights.try_emplace(*key);
    if (!fresh && it->second.leader == r) {  // submitted again after a crash: it waits for nobody
      miss->adopt(r);
      continue;
    }
    if (!fresh) {
      it->second.waiting.push_back(r);
      ++joined;
      continue;
    }
    r->batch->retain();
    it->second.leader = r;
    it->second.since = now;
    unknown.push_back(r);
    unknown_keys.push_back(*key);
  }
  settle();
  hits.hand_over(self);
  if (!unknown.empty()) {
    if (level2_open(self, *first)) {
      ask_level2(self, std::move(unknown), std::move(unknown_keys));
    } else {
      for (const record* r : unknown) {
        if (r->trace) tell_lookup(*r, now, 1, "miss");
        miss->adopt(r);
      }
    }
  }
  pass_on(self, std::move(miss));
}

/// The value of this key is known: those who waited for it are answered.
void land(self_ptr self, const cache_key& key, const double* outputs, known_rows& out) {
  auto& s = self->state;
  const auto it = s.flights.find(key);
  if (it == s.flights.end()) return;
  for (const record* r : it->second.waiting) {
    if (r->trace) tell_lookup(*r, r->trace->waits_since(), 1, "joined");
    out.add(r, outputs);
  }
  it->second.leader->batch->release();
  s.flights.erase(it);
}

void learn(self_ptr self, const learned& m) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  const record& sample = (*m.rows)[0];
  auto& worth = s.worth_of(sample.model);
  std::size_t rows = 0;
  for (const record* r : *m.rows) rows += r->rows;
  worth.observe_model(rows, m.took);
  if (!s.args.always && !worth.looking() && s.flights.empty()) return;
  const std::size_t width = sample.model->output().width;
  known_rows landed(s);
  std::vector<std::pair<std::string, std::string>> to_store;
  const bool store2 = s.args.level2 && (s.args.always || worth.level2_worthwhile()) &&
                      s.circuit->state() == policy::circuit_state::closed;
  std::size_t at = 0;
  for (const record* r : *m.rows) {
    const double* out = m.outputs->data() + at * width;
    at += r->rows;
    if (!s.cacheable(*r)) continue;
    const auto key = s.key_of(*r);
    if (!key) continue;
    s.value.assign(s.args.width, 0.0);
    std::copy(out, out + width, s.value.begin());
    s.level1->put(*key, now, s.value.data());
    land(self, *key, out, landed);
    if (store2)
      to_store.emplace_back(codec::level2_name(*key),
                            std::string(reinterpret_cast<const char*>(out), width * sizeof(double)));
  }
  landed.hand_over(self);
  if (!to_store.empty()) s.args.level2->set(std::move(to_store));
}

void level2_answered(self_ptr self, const level2_answer& m) {
  auto& s = self->state;
  const auto it = s.lookups.find(m.id);
  if (it == s.lookups.end()) return;
  pending_lookup look = std::move(it->second);
  s.lookups.erase(it);
  const nanos now = caf_line::now(self);
  const auto& result = *m.result;
  auto miss = std::make_shared<row_refs>();
  known_rows hits(s);
  if (result.ok) {
    s.circuit->success(now);
  } else {
    s.circuit->failure(now);
    s.args.metrics->cache_errors(2, 1);
    observe::log_every(observe::level::warn, "cache_client", "cache_level2_failed", 30,
                       "Redis did not answer in time; scoring goes on without it", {{"error", result.error}});
  }
  s.publish_circuit();
  std::size_t hit_count = 0;
  const std::size_t asked = look.rows.size();
  auto& worth = s.worth_of(look.rows.front()->model);
  for (std::size_t i = 0; i < asked; ++i) {
    const record* r = look.rows[i];
    const std::size_t width = r->model->output().width;
    const bool hit = result.ok && i < result.values.size() && result.values[i] &&
                     result.values[i]->size() == width * sizeof(double);
    if (r->trace)
      tell_lookup(*r, r->trace->waits_since(), 2, hit ? "hit" : "miss",
                  result.ok ? std::string_view() : std::string_view("level2_failed"));
    if (!hit) {
      miss->adopt(r);
      continue;
    }
    ++hit_count;
    s.value.assign(s.args.width, 0.0);
    std::memcpy(s.value.data(), result.values[i]->data(), width * sizeof(double));
    s.level1->put(look.keys[i], now, s.value.data());
    hits.add(r, s.value.data());
    land(self, look.keys[i], s.value.data(), hits);
  }
  if (result.ok) {
    s.args.metrics->cache_lookups(2, hit_count, asked - hit_count);
    worth.observe_level2(asked, hit_count);
    worth.observe_level2_cost(asked, result.took);
  }
  hits.hand_over(self);
  pass_on(self, std::move(miss));
}

/// Leaders that ended without a value (expired, failed, lost with a crash) free those who waited for them.
void free_stale(self_ptr self) {
  auto& s = self->state;
  const nanos now = caf_line::now(self);
  auto rows = std::make_shared<row_refs>();
  for (auto it = s.flights.begin(); it != s.flights.end();) {
    auto& f = it->second;
    if (!f.leader->answered.load(std::memory_order_relaxed) && now - f.since < s.args.patience) {
      ++it;
      continue;
    }
    for (const record* r : f.waiting) {
      if (r->trace) tell_lookup(*r, r->trace->waits_since(), 1, "miss");
      rows->adopt(r);
    }
    f.leader->batch->release();
    it = s.flights.erase(it);
  }
  pass_on(self, std::move(rows));
}

inner_actor::behavior_type behavior(self_ptr self, const std::shared_ptr<cache_client_args>& args,
                                    const wiring& neighbours) {
  caf_line::die_of_exceptions(self);
  auto& st = self->state;
  st.args = *args;
  st.to = neighbours;
  st.level1.emplace(args->bytes, args->width, args->ttl);
  st.circuit.emplace(args->circuit);
  caf_line::send_later(self, sweep, tick{});
  return {
      [self](const submit& m) {
        if (!m.rows->empty()) look_up(self, m);
      },
      [self](const learned& m) {
        if (!m.rows->empty()) learn(self, m);
      },
      [self](const model_gone& m) { self->state.worth.erase(m.model); },
      [self](tick) {
        free_stale(self);
        // Its time may be over while nobody looks anything up.
        (void)self->state.circuit->state(caf_line::now(self));
        if (self->state.circuit->transitions() != self->state.shown) self->state.publish_circuit();
        self->state.args.metrics->mailbox("cache_client", caf_line::mailbox_depth(self));
        caf_line::send_later(self, sweep, tick{});
      },
      [self](const wiring& w) { self->state.to = w; },
      [](const crash& c) { throw std::runtime_error(c.why); },
      [self](const level2_answer& m) { level2_answered(self, m); },
  };
}

}  // namespace

cache_client_actor spawn_cache_client(caf_line::system& system, cache_client_args args,
                                      const wiring& neighbours) {
  return system.spawn(behavior, std::make_shared<cache_client_args>(std::move(args)), neighbours);
}

}  // namespace troupe

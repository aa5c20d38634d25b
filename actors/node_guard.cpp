#include "actors/node_guard.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/door/caller.hpp"
#include "runtime/guard/guard.hpp"
#include "runtime/guard/token_keys.hpp"
#include "runtime/observe/log.hpp"
#include "runtime/observe/metrics.hpp"
#include "runtime/policy/month_count.hpp"
#include "runtime/store/redis_counts.hpp"

namespace troupe {
namespace {

constexpr std::int64_t kept_after_month = 7 * 86'400;  // seconds

std::vector<std::string> parts_of(std::string_view list) {
  std::vector<std::string> all;
  while (!list.empty()) {
    std::string one(list.substr(0, list.find(',')));
    list.remove_prefix(std::min(list.size(), one.size() + 1));
    std::erase(one, ' ');
    if (!one.empty()) all.push_back(std::move(one));
  }
  return all;
}

guard::guard_options options_of(const config::settings& s) {
  const auto& a = s.auth;
  guard::guard_options o;
  o.required = a.mode == config::auth_mode::required;
  if (!a.keys_file.empty()) o.clients = guard::read_key_file(a.keys_file);
  for (const auto& c : o.clients)
    for (const auto& name : c.classes)
      if (std::none_of(s.classes.begin(), s.classes.end(), [&](const auto& k) { return k.name == name; }))
        throw std::runtime_error(a.keys_file + ": client '" + c.name + "': there is no class '" + name + "'");
  const auto exempt = parts_of(a.exempt);
  const auto is_exempt = [&](const char* what) {
    return std::find(exempt.begin(), exempt.end(), what) != exempt.end();
  };
  o.exempt_health = is_exempt("health");
  o.exempt_metrics = is_exempt("metrics");
  o.exempt_docs = is_exempt("docs");
  o.tokens = !a.jwks_file.empty() || !a.jwks_url.empty();
  o.rules.issuer = a.jwt_issuer;
  o.rules.audience = a.jwt_audience;
  o.rules.client_claim = a.jwt_client_claim;
  o.rules.leeway = a.jwt_leeway / policy::second;
  o.limited = s.rate_limit.enabled;
  o.per_minute = s.rate_limit.per_minute;
  o.burst = s.rate_limit.burst;
  o.per_month = s.rate_limit.per_month;
  o.addresses = s.rate_limit.addresses;
  for (const auto& one : parts_of(s.http.trusted_proxies))
    if (const auto n = policy::parse_network(one)) o.trusted_proxies.push_back(*n);
  return o;
}

/// A line for each reason now and then, so that a flood of one does not hide another.
class refusal_log {
 public:
  void tell(door via, guard::refusal why) {
    const std::int64_t now =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch())
            .count();
    one& o = all_[static_cast<std::size_t>(why)];
    ++o.count;
    std::int64_t next = o.next.load(std::memory_order_relaxed);
    if (now < next || !o.next.compare_exchange_strong(next, now + pause)) return;
    const std::uint64_t count = o.count.exchange(0);
    observe::log(observe::level::warn, "guard", "request_refused", "a request was refused",
                 {{"reason", std::string(guard::name_of(why))},
                  {"door", via == door::grpc    ? "grpc"
                           : via == door::batch ? "batch"
                                                : "http"},
                  {"count", std::to_string(count)}});
  }

 private:
  static constexpr std::int64_t pause = 30;  // seconds
  struct one {
    std::atomic<std::int64_t> next{0};
    std::atomic<std::uint64_t> count{0};
  };
  std::array<one, guard::refusals> all_;
};

}  // namespace

struct node_guard::impl {
  std::shared_ptr<guard::gatekeeper> keeper;
  std::vector<std::string> class_names;
  std::shared_ptr<std::atomic<guard::token_keys*>> asks = std::make_shared<std::atomic<guard::token_keys*>>();
  std::unique_ptr<guard::token_keys> token_keys;

  std::unique_ptr<store::redis_counts> counts;
  std::mutex mutex;
  std::condition_variable wake;
  bool ends = false;
  bool counts_lost = false;
  std::thread thread;

  void open_token_keys(const config::auth_settings& a) {
    if (a.jwks_file.empty() && a.jwks_url.empty()) return;
    guard::token_keys_options o;
    o.file = a.jwks_file;
    o.url = a.jwks_url;
    o.tls_ca = a.jwks_tls_ca;
    o.refresh = std::chrono::milliseconds(a.jwks_refresh / 1'000'000);
    o.found = [k = keeper](std::shared_ptr<const guard::key_set> keys) {
      observe::log(observe::level::info, "guard", "token_keys", "the keys of tokens were read",
                   {{"keys", std::to_string(keys->size())}});
      k->set_token_keys(std::move(keys));
    };
    o.problem = [](const std::string& why) {
      if (why.empty())
        observe::log(observe::level::info, "guard", "token_keys_in_step",
                     "the keys of tokens can be had again", {});
      else
        observe::log(observe::level::warn, "guard", "token_keys_problem",
                     "the keys of tokens can't be had; those in force stay", {{"error", why}});
    };
    token_keys = std::make_unique<guard::token_keys>(std::move(o));
    asks->store(token_keys.get());
  }

  void share_counts() {
    const auto lines = keeper->unsaved();
    if (lines.empty()) return;
    std::vector<store::count_to_add> all;
    for (const auto& l : lines)
      all.push_back({"troupe:quota:" + l.client + ":" + policy::month_text(l.month), l.added,
                     policy::month_end(l.month) + kept_after_month});
    std::vector<std::uint64_t> totals;
    const std::string why = counts->add(all, totals);
    for (std::size_t i = 0; i < totals.size(); ++i) keeper->saved(lines[i], totals[i]);
    if (!why.empty())
      observe::log_every(observe::level::warn, "guard", "quotas_not_shared", 30,
                         "quotas go on with this node's own counts: " + why, {});
    else if (counts_lost)
      observe::log(observe::level::info, "guard", "quotas_shared", "quotas are shared in Redis again", {});
    counts_lost = !why.empty();
  }

  void run() {
    std::unique_lock lock(mutex);
    while (!wake.wait_for(lock, std::chrono::seconds(1), [this] { return ends; })) {
      lock.unlock();
      share_counts();
      lock.lock();
    }
    if (!counts_lost) share_counts();
  }
};

node_guard::node_guard(const config::settings& settings, std::shared_ptr<observe::metrics> metrics,
                       std::optional<store::redis_options> redis)
    : impl_(std::make_unique<impl>()) {
  guard::guard_ports ports;
  ports.unknown_key = [asks = impl_->asks] {
    if (auto* keys = asks->load()) keys->look_soon();
  };
  ports.refused = [m = std::move(metrics), told = std::make_shared<refusal_log>()](door via,
                                                                                   guard::refusal why) {
    m->guard_refused(via, guard::name_of(why));
    if (guard::http_status_of(why) == 429) return;
    told->tell(via, why);
  };
  impl_->keeper = std::make_shared<guard::gatekeeper>(options_of(settings), std::move(ports));
  for (const auto& c : settings.classes) impl_->class_names.push_back(c.name);
  impl_->open_token_keys(settings.auth);
  if (!redis) return;
  impl_->counts = std::make_unique<store::redis_counts>(*std::move(redis));
  impl_->thread = std::thread([i = impl_.get()] { i->run(); });
}

node_guard::~node_guard() {
  stop();
}

std::shared_ptr<const serving::caller_rules> node_guard::rules(door via) const {
  return std::make_shared<const serving::caller_rules>(
      serving::caller_rules{impl_->keeper, impl_->class_names, via});
}

std::string node_guard::reload(const config::settings& settings) {
  try {
    impl_->keeper->reload(options_of(settings));
  } catch (const std::exception& e) {
    return e.what();
  }
  if (impl_->token_keys) impl_->token_keys->look_now();
  return {};
}

void node_guard::stop() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ends = true;
  }
  impl_->wake.notify_all();
  if (impl_->thread.joinable()) impl_->thread.join();
  impl_->asks->store(nullptr);
  impl_->token_keys.reset();
}

}  // namespace troupe

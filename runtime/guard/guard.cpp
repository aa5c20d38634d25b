#include "runtime/guard/guard.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <mutex>
#include <random>
#include <unordered_map>
#include <utility>

#include "runtime/policy/address_limits.hpp"
#include "runtime/policy/month_count.hpp"
#include "runtime/policy/token_bucket.hpp"

namespace troupe::guard {
namespace {

constexpr std::size_t longest_credential = most_token;
constexpr std::size_t remembered_tokens = 4096;     // that were verified
constexpr std::size_t most_token_clients = 10'000;  // that the file does not name
constexpr std::size_t address_shards = 16;
constexpr std::size_t most_forwarded = 16;  // headers of that name

nanos steady_clock_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::int64_t system_clock_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::uint64_t number(const std::uint8_t* bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

/// What a client has used up; outlives a reload.
struct usage {
  std::mutex mutex;
  std::optional<policy::token_bucket> bucket;
  double per_minute = 0, burst = 0;  ///< of the bucket
  policy::month_count count;
  std::int64_t seen = 0;  ///< epoch seconds
};

class client_record final : public client {
 public:
  client_record(client_entry entry, std::shared_ptr<usage> used)
      : entry_(std::move(entry)), used_(std::move(used)) {
    entry_.keys = {};
    if (!entry_.per_minute || *entry_.per_minute <= 0) return;
    const double burst = std::max(1.0, entry_.burst.value_or(*entry_.per_minute));
    const std::lock_guard lock(used_->mutex);
    if (used_->bucket && used_->per_minute == *entry_.per_minute && used_->burst == burst) return;
    used_->bucket.emplace(*entry_.per_minute / 60, burst);
    used_->per_minute = *entry_.per_minute;
    used_->burst = burst;
  }

  std::string_view name() const override { return entry_.name; }
  bool may_use_model(std::string_view model) const override {
    return entry_.models.empty() ||
           std::find(entry_.models.begin(), entry_.models.end(), model) != entry_.models.end();
  }
  bool may_use_class(std::string_view cls) const override {
    return entry_.classes.empty() ||
           std::find(entry_.classes.begin(), entry_.classes.end(), cls) != entry_.classes.end();
  }
  bool may_all() const override { return entry_.models.empty() && entry_.classes.empty(); }

  [[nodiscard]] bool admin() const override { return entry_.admin; }
  [[nodiscard]] bool own_rate() const { return entry_.per_minute.has_value(); }
  [[nodiscard]] usage& used() const { return *used_; }
  [[nodiscard]] const std::shared_ptr<usage>& shared_usage() const { return used_; }

  /// 0, or how long to wait.
  [[nodiscard]] nanos take(nanos now) const {
    if (*entry_.per_minute <= 0) return 0;
    const std::lock_guard lock(used_->mutex);
    if (used_->bucket->take(now)) return 0;
    return std::max<nanos>(1, used_->bucket->wait(now));
  }
  [[nodiscard]] bool take_of_month(std::int64_t at, std::uint64_t otherwise, std::uint64_t requests) const {
    const std::lock_guard lock(used_->mutex);
    used_->seen = at;
    // The month is looked up again only when it may have changed.
    if (at >= month_end_ || at < month_begin_) {
      month_ = policy::month_of(at);
      month_begin_ = policy::month_end(month_ - 1);
      month_end_ = policy::month_end(month_);
    }
    return used_->count.take(month_, entry_.per_month.value_or(otherwise), requests);
  }

 private:
  client_entry entry_;
  std::shared_ptr<usage> used_;
  // Under the lock of what is used.
  mutable int month_ = 0;
  mutable std::int64_t month_begin_ = 0;
  mutable std::int64_t month_end_ = 0;
};
using record_ptr = std::shared_ptr<const client_record>;

/// The clients of the file by the digests of their keys: open addressing, at most half full. The place is a
/// secret function of the digest, and digests are compared in constant time.
class key_table {
 public:
  void build(std::size_t keys, std::uint64_t seed) {
    slots_.assign(std::bit_ceil(std::max<std::size_t>(2, keys * 2)), {});
    seed_ = seed | 1;
  }
  void add(const digest& d, record_ptr who) {
    std::size_t at = place(d);
    while (slots_[at].who) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {d, std::move(who)};
  }
  [[nodiscard]] const record_ptr* find(const digest& d) const {
    for (std::size_t at = place(d); slots_[at].who; at = (at + 1) & (slots_.size() - 1))
      if (same(slots_[at].key, d)) return &slots_[at].who;
    return nullptr;
  }

 private:
  struct slot {
    digest key{};
    record_ptr who;
  };
  [[nodiscard]] std::size_t place(const digest& d) const {
    std::uint64_t x = (number(d.data()) ^ seed_) * 0x9e3779b97f4a7c15ULL;
    x = (x ^ x >> 29) * seed_;
    return static_cast<std::size_t>(x >> 20) & (slots_.size() - 1);
  }

  std::vector<slot> slots_ = std::vector<slot>(2);
  std::uint64_t seed_ = 1;
};

/// "Bearer KEY", the scheme in any case (RFC 9110, 11.1).
std::string_view bearer_of(std::string_view authorization) {
  constexpr std::string_view scheme = "bearer";
  if (authorization.size() <= scheme.size() || authorization[scheme.size()] != ' ') return {};
  for (std::size_t i = 0; i < scheme.size(); ++i) {
    const char c = authorization[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != scheme[i]) return {};
  }
  authorization.remove_prefix(scheme.size());
  while (!authorization.empty() && authorization.front() == ' ') authorization.remove_prefix(1);
  while (!authorization.empty() && authorization.back() == ' ') authorization.remove_suffix(1);
  return authorization;
}

refusal refusal_of(token_fault what) {
  switch (what) {
    case token_fault::none:
      return refusal::none;
    case token_fault::malformed:
    case token_fault::bad_claims:
      return refusal::bad_token;
    case token_fault::algorithm:
      return refusal::token_algorithm;
    case token_fault::unknown_key:
      return refusal::token_key;
    case token_fault::bad_signature:
      return refusal::token_signature;
    case token_fault::expired:
      return refusal::expired_token;
    case token_fault::no_expiry:
      return refusal::token_no_expiry;
    case token_fault::issuer:
      return refusal::token_issuer;
    case token_fault::audience:
      return refusal::token_audience;
    case token_fault::no_client:
      return refusal::token_no_client;
  }
  return refusal::bad_token;
}

}  // namespace

std::string_view name_of(refusal why) {
  constexpr std::array<std::string_view, refusals> names = {
      "none",          "no_credentials",  "bad_key",
      "bad_token",     "expired_token",   "token_algorithm",
      "token_key",     "token_signature", "token_no_expiry",
      "token_issuer",  "token_audience",  "token_no_client",
      "no_token_keys", "model",           "class",
      "admin",         "address_rate",    "client_rate",
      "quota"};
  return names[static_cast<std::size_t>(why)];
}

std::string_view message_of(refusal why) {
  switch (why) {
    case refusal::none:
      return "";
    case refusal::no_credentials:
      return "an API key or a token is needed: Authorization: Bearer <key>, or X-API-Key: <key>";
    case refusal::bad_key:
      return "the API key is not known";
    case refusal::bad_token:
    case refusal::token_algorithm:
    case refusal::token_key:
    case refusal::token_signature:
    case refusal::token_no_expiry:
    case refusal::token_issuer:
    case refusal::token_audience:
    case refusal::token_no_client:
      return "the token is not valid here";
    case refusal::expired_token:
      return "the token has expired, or is not valid yet";
    case refusal::no_token_keys:
      return "tokens can't be checked at the moment; ask again later";
    case refusal::model:
      return "this client may not use this model";
    case refusal::client_class:
      return "this client may not use this class";
    case refusal::admin:
      return "this client may not load or unload models";
    case refusal::address_rate:
      return "too many requests from this address";
    case refusal::client_rate:
      return "too many requests of this client";
    case refusal::quota:
      return "this client's quota of the month is used up";
  }
  return "";
}

int http_status_of(refusal why) {
  switch (why) {
    case refusal::none:
      return 200;
    case refusal::no_credentials:
    case refusal::bad_key:
    case refusal::bad_token:
    case refusal::expired_token:
    case refusal::token_algorithm:
    case refusal::token_key:
    case refusal::token_signature:
    case refusal::token_no_expiry:
    case refusal::token_issuer:
    case refusal::token_audience:
    case refusal::token_no_client:
      return 401;
    case refusal::no_token_keys:
      return 503;
    case refusal::model:
    case refusal::client_class:
    case refusal::admin:
      return 403;
    case refusal::address_rate:
    case refusal::client_rate:
    case refusal::quota:
      return 429;
  }
  return 403;
}

std::string_view stage_of(refusal why) {
  const int status = http_status_of(why);
  return status == 403 ? "authorization" : status == 429 ? "rate_limit" : "authentication";
}

struct gatekeeper::impl {
  struct state {
    guard_options options;  ///< without the clients
    key_table keys;
    std::unordered_map<std::string, record_ptr> by_name;
  };

  /// The rates of a part of all addresses.
  struct address_shard {
    std::mutex mutex;
    std::optional<policy::address_limits> limits;
  };

  struct verified_token {
    digest token{};
    record_ptr who;
    std::int64_t expires = 0;
    std::uint64_t generation = 0;
  };

  guard_ports ports;
  std::uint64_t seed = 0;
  std::atomic<bool> idle{true};  ///< nothing is required and nothing limited
  std::atomic<std::shared_ptr<const state>> current;
  std::atomic<std::shared_ptr<const key_set>> token_keys;
  std::atomic<std::uint64_t> generation{1};  ///< of settings and token keys: what was verified before is not

  std::mutex tokens_mutex;
  std::vector<verified_token> tokens;
  mutable std::mutex clients_mutex;                           ///< of the next
  std::unordered_map<std::string, record_ptr> token_clients;  ///< that the file does not name
  std::array<address_shard, address_shards> addresses;
  std::mutex reload_mutex;

  [[nodiscard]] verdict refused(door via, refusal why, nanos retry_after = 0) const {
    if (ports.refused) ports.refused(via, why);
    verdict v;
    v.why = why;
    v.retry_after = retry_after;
    v.message = message_of(why);
    return v;
  }

  static policy::address address_of(const state& s, const question& q) {
    std::string buffer;
    const auto peer = policy::parse_address(q.peer(q.request, buffer));
    if (!peer) return {};
    policy::address who = *peer;
    for (std::size_t i = 0; !s.options.trusted_proxies.empty() && i < most_forwarded; ++i) {
      const auto line = q.header(q.request, "x-forwarded-for", i);
      if (line.data() == nullptr) break;
      who = policy::client_of(who, line, s.options.trusted_proxies);
      // An earlier header counts only behind a line that trusted proxies wrote from its beginning.
      if (policy::parse_address(line.substr(0, line.find(','))) != who) break;
    }
    return policy::limited_part(who);
  }

  /// 0, or how long to wait.
  [[nodiscard]] nanos take_address(const state& s, const question& q, nanos now) {
    const auto who = address_of(s, q);
    const std::uint64_t mixed =
        ((number(who.bytes.data()) ^ seed) * 0x9e3779b97f4a7c15ULL + number(who.bytes.data() + 8)) *
        0xbf58476d1ce4e5b9ULL;
    auto& shard = addresses[mixed >> 60];
    static_assert(address_shards == 16);
    const std::lock_guard lock(shard.mutex);
    return shard.limits->take(who, now);
  }

  [[nodiscard]] record_ptr verified(const digest& d, std::int64_t at) {
    const std::lock_guard lock(tokens_mutex);
    const auto& one = tokens[number(d.data()) % remembered_tokens];
    if (!one.who || one.generation != generation.load(std::memory_order_acquire) || at >= one.expires ||
        !same(one.token, d))
      return nullptr;
    return one.who;
  }
  void remember(const digest& d, record_ptr who, std::int64_t expires, std::uint64_t of) {
    const std::lock_guard lock(tokens_mutex);
    tokens[number(d.data()) % remembered_tokens] = {d, std::move(who), expires, of};
  }

  [[nodiscard]] record_ptr named(const state& s, const std::string& name) {
    if (const auto found = s.by_name.find(name); found != s.by_name.end()) return found->second;
    const std::lock_guard lock(clients_mutex);
    if (const auto found = token_clients.find(name); found != token_clients.end()) return found->second;
    if (token_clients.size() >= most_token_clients) forget_half();
    client_entry plain;
    plain.name = name;
    auto made = std::make_shared<const client_record>(std::move(plain), std::make_shared<usage>());
    token_clients.emplace(name, made);
    return made;
  }
  /// Those that were not seen for longest; what the store of counts knows of them comes back with them.
  void forget_half() {
    std::vector<std::pair<std::int64_t, const std::string*>> all;
    for (const auto& [name, who] : token_clients) {
      const std::lock_guard lock(who->used().mutex);
      all.emplace_back(who->used().seen, &name);
    }
    const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
    std::nth_element(all.begin(), middle, all.end());
    std::vector<std::string> old;
    for (auto it = all.begin(); it != middle; ++it) old.push_back(*it->second);
    for (const auto& name : old) token_clients.erase(name);
  }

  [[nodiscard]] static bool exempt(const guard_options& o, kind what) {
    return (what == kind::health && o.exempt_health) || (what == kind::metrics && o.exempt_metrics) ||
           (what == kind::docs && o.exempt_docs);
  }

  /// Clients that stay keep what they used.
  void use(guard_options options) {
    const std::lock_guard lock(reload_mutex);
    const auto before = current.load();
    auto next = std::make_shared<state>();
    std::size_t keys = 0;
    for (const auto& c : options.clients) keys += c.keys.size();
    next->keys.build(keys, seed * 0xd1342543de82ef95ULL + 1);
    for (auto& c : options.clients) {
      std::shared_ptr<usage> used;
      if (before)
        if (const auto was = before->by_name.find(c.name); was != before->by_name.end())
          used = was->second->shared_usage();
      if (!used) {
        const std::lock_guard names(clients_mutex);
        if (const auto was = token_clients.find(c.name); was != token_clients.end()) {
          used = was->second->shared_usage();
          token_clients.erase(was);
        }
      }
      if (!used) used = std::make_shared<usage>();
      const auto digests = std::move(c.keys);
      c.keys = {};
      const std::string name = c.name;
      const auto made = std::make_shared<const client_record>(std::move(c), std::move(used));
      for (const auto& d : digests) next->keys.add(d, made);
      next->by_name.emplace(name, made);
    }
    options.clients = {};
    if (options.burst <= 0) options.burst = std::max(1.0, options.per_minute);
    if (options.limited &&
        (!before || !before->options.limited || before->options.per_minute != options.per_minute ||
         before->options.burst != options.burst || before->options.addresses != options.addresses)) {
      const std::size_t each = options.addresses / address_shards + 1;
      for (auto& shard : addresses) {
        policy::address_limits fresh(options.per_minute / 60, options.burst, each, seed + 1);
        const std::lock_guard one(shard.mutex);
        shard.limits = std::move(fresh);
      }
    }
    {
      const std::lock_guard one(tokens_mutex);
      if (options.tokens) tokens.resize(remembered_tokens);
    }
    const bool nothing = !options.required && !options.limited;
    next->options = std::move(options);
    current.store(std::move(next));
    generation.fetch_add(1, std::memory_order_acq_rel);
    idle.store(nothing, std::memory_order_release);
  }

  [[nodiscard]] verdict take_of_month(door via, const guard_options& o, const client_record& who,
                                      std::uint64_t requests) const {
    const std::int64_t at = ports.epoch_seconds();
    if (who.take_of_month(at, o.per_month, requests)) return {};
    return refused(via, refusal::quota, (policy::month_end(policy::month_of(at)) - at) * policy::second);
  }

  verdict check(const question& q);
  verdict identify(const state& s, const question& q, nanos now, bool& charged, record_ptr& who);
};

/// Leaves in `who` whom the credentials name, or says why nobody.
verdict gatekeeper::impl::identify(const state& s, const question& q, nanos now, bool& charged,
                                   record_ptr& who) {
  auto why = refusal::bad_key;
  std::string_view given = q.header(q.request, "x-api-key", 0);
  if (given.empty()) given = bearer_of(q.header(q.request, "authorization", 0));
  if (given.empty()) {
    why = refusal::no_credentials;
  } else if (given.size() <= longest_credential) {
    const digest d = sha256(given);
    if (const auto* found = s.keys.find(d)) {
      who = *found;
      return {};
    }
    if (s.options.tokens && looks_like_token(given)) {
      const std::int64_t at = ports.epoch_seconds();
      who = verified(d, at);
      if (who) return {};
      if (s.options.limited) {
        charged = true;
        if (const nanos wait = take_address(s, q, now)) return refused(q.via, refusal::address_rate, wait);
      }
      const std::uint64_t of = generation.load(std::memory_order_acquire);
      const auto keys = token_keys.load();
      if (!keys) return refused(q.via, refusal::no_token_keys, policy::second);
      const auto result = check_token(given, *keys, s.options.rules, at);
      if (result.fault == token_fault::none) {
        who = named(s, result.client);
        remember(d, who, result.expires, of);
        return {};
      }
      if (result.fault == token_fault::unknown_key && ports.unknown_key) ports.unknown_key();
      why = refusal_of(result.fault);
    }
  }
  if (s.options.limited && !charged) {
    charged = true;
    if (const nanos wait = take_address(s, q, now)) return refused(q.via, refusal::address_rate, wait);
  }
  return refused(q.via, why);
}

verdict gatekeeper::impl::check(const question& q) {
  const auto s = current.load();
  const auto& o = s->options;
  if (exempt(o, q.kind)) return {};
  const nanos now = o.limited ? ports.steady() : 0;
  bool charged = false;
  record_ptr who;
  if (o.required) {
    if (verdict v = identify(*s, q, now, charged, who); !v.ok()) return v;
    if (q.kind == kind::admin && !who->admin()) return refused(q.via, refusal::admin);
  }
  if (o.limited) {
    if (who && who->own_rate()) {
      if (const nanos wait = who->take(now)) return refused(q.via, refusal::client_rate, wait);
    } else if (!charged) {
      if (const nanos wait = take_address(*s, q, now)) return refused(q.via, refusal::address_rate, wait);
    }
    if (who && q.kind == kind::inference)
      if (verdict v = take_of_month(q.via, o, *who, 1); !v.ok()) return v;
  }
  verdict v;
  v.who = std::move(who);
  return v;
}

gatekeeper::gatekeeper(guard_options options, guard_ports ports) : impl_(std::make_unique<impl>()) {
  impl_->ports = std::move(ports);
  if (impl_->ports.steady == nullptr) impl_->ports.steady = steady_clock_now;
  if (impl_->ports.epoch_seconds == nullptr) impl_->ports.epoch_seconds = system_clock_now;
  impl_->seed = impl_->ports.seed;
  if (impl_->seed == 0) {
    std::random_device random;
    impl_->seed = std::uint64_t{random()} << 32 | random();
  }
  impl_->use(std::move(options));
}

gatekeeper::~gatekeeper() = default;

verdict gatekeeper::check(const question& q) {
  if (impl_->idle.load(std::memory_order_acquire)) return {};
  return impl_->check(q);
}

verdict gatekeeper::refuse(door via, refusal why) const {
  return impl_->refused(via, why);
}

verdict gatekeeper::look_up(std::string_view name) {
  const auto s = impl_->current.load();
  verdict v;
  if (!s->options.required) return v;
  if (s->options.tokens) {
    v.who = impl_->named(*s, std::string(name));
  } else if (const auto found = s->by_name.find(std::string(name)); found != s->by_name.end()) {
    v.who = found->second;
  } else {
    v.why = refusal::bad_key;
    v.message = "the client that this belongs to is not known any more";
  }
  return v;
}

verdict gatekeeper::charge(door via, std::string_view name, std::uint64_t requests) {
  const auto s = impl_->current.load();
  if (!s->options.required || !s->options.limited) return {};
  record_ptr who;
  if (const auto found = s->by_name.find(std::string(name)); found != s->by_name.end())
    who = found->second;
  else if (s->options.tokens)
    who = impl_->named(*s, std::string(name));
  if (!who) return {};
  return impl_->take_of_month(via, s->options, *who, requests);
}

guard_terms gatekeeper::terms() const {
  const auto s = impl_->current.load();
  const auto& o = s->options;
  return {o.required, o.limited, o.exempt_health, o.exempt_metrics, o.exempt_docs};
}

void gatekeeper::reload(guard_options options) {
  impl_->use(std::move(options));
}

void gatekeeper::set_token_keys(std::shared_ptr<const key_set> keys) {
  impl_->token_keys.store(std::move(keys));
  impl_->generation.fetch_add(1, std::memory_order_acq_rel);
}

std::vector<quota_line> gatekeeper::unsaved() const {
  std::vector<quota_line> all;
  const auto look = [&](const auto& clients) {
    for (const auto& [name, who] : clients) {
      const std::lock_guard lock(who->used().mutex);
      const auto& count = who->used().count;
      if (count.pending() > 0) all.push_back({name, count.month(), count.pending()});
    }
  };
  look(impl_->current.load()->by_name);
  const std::lock_guard lock(impl_->clients_mutex);
  look(impl_->token_clients);
  return all;
}

void gatekeeper::saved(const quota_line& line, std::uint64_t total) {
  const auto s = impl_->current.load();
  record_ptr who;
  if (const auto found = s->by_name.find(line.client); found != s->by_name.end()) {
    who = found->second;
  } else {
    const std::lock_guard lock(impl_->clients_mutex);
    if (const auto other = impl_->token_clients.find(line.client); other != impl_->token_clients.end())
      who = other->second;
  }
  if (!who) return;
  const std::lock_guard lock(who->used().mutex);
  who->used().count.merged(line.month, line.added, total);
}

}  // namespace troupe::guard

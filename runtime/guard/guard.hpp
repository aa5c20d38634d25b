#pragma once
// The guard of the doors whose callers wait: who asks (an API key or a JSON Web Token), whether they may, and
// whether it is not too much. One for all doors of a node; asked before a call is made.
//
// The order: the credentials, the rate (of the client where it has one of its own, else of its address), the
// monthly quota. Wrong credentials use up the address's rate as well, so that guessing is slow; a token is
// only verified after that.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/guard/jwt.hpp"
#include "runtime/guard/key_file.hpp"
#include "runtime/policy/address.hpp"

namespace troupe::guard {

enum class refusal : std::uint8_t {
  none,
  no_credentials,
  bad_key,
  bad_token,
  expired_token,    ///< or not valid yet
  token_algorithm,  ///< what is wrong with a token, for who looks after the node; the caller isn't told
  token_key,        ///< its key is not in the set
  token_signature,
  token_no_expiry,
  token_issuer,
  token_audience,
  token_no_client,  ///< the claim that names it
  no_token_keys,    ///< the set of keys has not been had yet
  model,            ///< not allowed to this client
  client_class,     ///< class of service, likewise
  admin,            ///< only for clients with admin: true
  address_rate,
  client_rate,
  quota
};
inline constexpr std::size_t refusals = 19;
[[nodiscard]] std::string_view name_of(refusal why);  ///< "bad_key": the label of the metric

/// What the caller is told; never says which part of a credential was wrong.
[[nodiscard]] std::string_view message_of(refusal why);
/// How a refusal is said: 401, 403, 429 or 503.
[[nodiscard]] int http_status_of(refusal why);
/// authentication, authorization, rate_limit
[[nodiscard]] std::string_view stage_of(refusal why);

/// What is asked for.
enum class kind : std::uint8_t {
  inference,  ///< counts for the quota
  page,       ///< metadata, statistics
  admin,      ///< loading and unloading
  health,
  metrics,
  docs
};

/// Somebody known.
class client {
 public:
  virtual ~client() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual bool may_use_model(std::string_view model) const = 0;
  [[nodiscard]] virtual bool may_use_class(std::string_view name) const = 0;
  /// May do what is for administrators, and sees what belongs to others.
  [[nodiscard]] virtual bool admin() const = 0;
  /// Nothing of a request needs to be looked at once it is read.
  [[nodiscard]] virtual bool may_all() const = 0;
};
using client_ptr = std::shared_ptr<const client>;

/// What a door knows of a request. Texts are looked at only where they are needed.
struct question {
  door via = door::http;
  troupe::guard::kind kind = troupe::guard::kind::inference;
  const void* request = nullptr;
  /// A header or metadata field by its name in lower case: the last of that name, or the one that stands so
  /// many before it. data() == nullptr: there is none.
  std::string_view (*header)(const void* request, std::string_view name, std::size_t before_last) = nullptr;
  /// The peer's address as text (parse_address), which `buffer` may hold.
  std::string_view (*peer)(const void* request, std::string& buffer) = nullptr;
};

struct verdict {
  refusal why = refusal::none;
  client_ptr who;            ///< null: not known, or nobody was asked
  nanos retry_after = 0;     ///< of a rate, quota or no_token_keys
  std::string_view message;  ///< of a refusal; static
  [[nodiscard]] bool ok() const { return why == refusal::none; }
};

struct guard_options {
  bool required = false;  ///< credentials
  std::vector<client_entry> clients;
  bool exempt_health = true, exempt_metrics = false, exempt_docs = false;

  bool tokens = false;  ///< taken; keys come by set_token_keys()
  token_rules rules;

  bool limited = false;
  double per_minute = 100;              ///< an address
  double burst = 0;                     ///< 0: per_minute
  std::uint64_t per_month = 1'000'000;  ///< a client; 0: none
  std::size_t addresses = 100'000;      ///< that are remembered
  std::vector<policy::network> trusted_proxies;
};

/// What is asked of whom now.
struct guard_terms {
  bool required = false;
  bool limited = false;
  bool exempt_health = true, exempt_metrics = false, exempt_docs = false;
  [[nodiscard]] bool operator==(const guard_terms&) const = default;
};

struct guard_ports {
  /// A token's key is not known: the set may be an old one. Any thread, must not block.
  std::function<void()> unknown_key;
  /// Any thread, must be quick.
  std::function<void(door, refusal)> refused;
  nanos (*steady)() = nullptr;                ///< null: the steady clock
  std::int64_t (*epoch_seconds)() = nullptr;  ///< null: the system's clock
  std::uint64_t seed = 0;                     ///< 0: random
};

/// A client's count that the store does not have yet.
struct quota_line {
  std::string client;
  int month = 0;  ///< policy::month_of
  std::uint64_t added = 0;
};

class gatekeeper {
 public:
  gatekeeper(guard_options options, guard_ports ports);
  ~gatekeeper();
  gatekeeper(const gatekeeper&) = delete;
  gatekeeper& operator=(const gatekeeper&) = delete;

  /// Any thread; never blocks but for short locks. No allocation where nothing is required and limited, nor
  /// for an API key.
  [[nodiscard]] verdict check(const question& q);

  /// Says and counts a refusal that was found later: a model or class that `who` may not use.
  verdict refuse(door via, refusal why) const;

  /// For work that goes on after its request: whom a client's name stands for now, and so what it may use
  /// now. `who` is null where nobody is asked for credentials; a client that is not known any more is
  /// refused. Not counted.
  [[nodiscard]] verdict look_up(std::string_view name);
  /// So many inference requests of a client at once, as check() counts one: all of them or none.
  [[nodiscard]] verdict charge(door via, std::string_view name, std::uint64_t requests);

  /// Any thread.
  [[nodiscard]] guard_terms terms() const;
  /// Any thread. Clients that stay keep what they have used up.
  void reload(guard_options options);
  void set_token_keys(std::shared_ptr<const key_set> keys);

  /// What the store of counts is to be told, and what it said: `total` of each line. In between, and where
  /// the store can't be reached, the counts here go on.
  [[nodiscard]] std::vector<quota_line> unsaved() const;
  void saved(const quota_line& line, std::uint64_t total);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace troupe::guard

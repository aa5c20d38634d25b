#include "runtime/policy/registry_watch.hpp"

#include <algorithm>

namespace troupe::policy {
namespace {

bool usable(std::string_view text) {
  if (text.empty() || text.size() > 256 || text.front() == '.') return false;
  return std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '/' || c == '\\' || c == ':' || c == '@';
  });
}

}  // namespace

std::string model_reference::text() const {
  if (by == kind::alias) return "models:/" + name + "@" + value;
  return "models:/" + name + "/" + (by == kind::latest ? "latest" : value);
}

std::optional<model_reference> parse_model_reference(std::string_view text) {
  constexpr std::string_view scheme = "models:/";
  if (!text.starts_with(scheme)) return std::nullopt;
  text.remove_prefix(scheme.size());
  const auto at = text.find_first_of("/@");
  if (at == std::string_view::npos) return std::nullopt;
  model_reference r;
  r.name = text.substr(0, at);
  const bool alias = text[at] == '@';
  r.value = text.substr(at + 1);
  if (!usable(r.name) || !usable(r.value)) return std::nullopt;
  if (alias) {
    r.by = model_reference::kind::alias;
  } else if (r.value == "latest") {
    r.by = model_reference::kind::latest;
    r.value.clear();
  } else if (r.value.find_first_not_of("0123456789") == std::string::npos) {
    if (r.value.front() == '0' || r.value.size() > 18) return std::nullopt;
    r.by = model_reference::kind::number;
  } else {
    r.by = model_reference::kind::stage;
  }
  return r;
}

registry_watch::registry_watch(watch_config config, std::uint64_t seed) : config_(config), state_(seed) {}

std::vector<version_change> registry_watch::changes(
    const std::map<std::string, std::string>& resolved) const {
  std::vector<version_change> found;
  for (const auto& [reference, version] : resolved) {
    const auto it = current_.find(reference);
    if (it == current_.end())
      found.push_back({reference, "", version});
    else if (it->second != version)
      found.push_back({reference, it->second, version});
  }
  return found;
}

void registry_watch::accept(const version_change& change) {
  current_[change.reference] = change.after;
}

void registry_watch::polled(bool reached, nanos began, nanos ended) {
  const double factor = 1 + config_.jitter * (2 * random() - 1);
  const auto wait = [&](nanos t) { return static_cast<nanos>(static_cast<double>(t) * factor); };
  if (reached) {
    backoff_ = 0;
    next_ = std::max(began + wait(config_.interval), ended + wait(config_.interval / 4));
  } else {
    // Waits longer than the interval only when the registry stays away.
    backoff_ = backoff_ == 0 ? std::min(config_.backoff_min, config_.backoff_max)
                             : std::min(backoff_ * 2, config_.backoff_max);
    next_ = ended + wait(backoff_);
  }
}

/// splitmix64 (Steele, Lea, Flood 2014), as a fraction of 1.
double registry_watch::random() {
  std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
}

}  // namespace troupe::policy

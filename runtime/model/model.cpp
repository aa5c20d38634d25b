#include "runtime/model/model.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <utility>

namespace troupe::model {
namespace {

std::uint32_t hash_of(std::string_view text) {  // FNV-1a
  std::uint32_t h = 2166136261U;
  for (const char c : text) h = (h ^ static_cast<std::uint8_t>(c)) * 16777619U;
  return h ^ (h >> 15);
}

/// Numbers by value, before anything else.
bool version_less(std::string_view a, std::string_view b) {
  const auto number = [](std::string_view text) -> std::uint64_t {
    std::uint64_t n = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), n);
    return failed == std::errc() && end == text.data() + text.size() ? n : UINT64_MAX;
  };
  const auto x = number(a);
  const auto y = number(b);
  return x != y ? x < y : a < b;
}

}  // namespace

engine::~engine() = default;

schema::schema(std::vector<feature> columns, bool has_names)
    : features(std::move(columns)), named(has_names) {
  slots_.assign(std::bit_ceil(2 * features.size() + 1), 0);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = 0; i < features.size(); ++i) {
    std::size_t at = hash_of(features[i].name) & mask;
    while (slots_[at] != 0) at = (at + 1) & mask;
    slots_[at] = static_cast<std::uint32_t>(i + 1);
    rules |= features[i].rule != nullptr;
  }
}

schema::schema(std::vector<tensor_input> tensors) : inputs(std::move(tensors)) {
  std::size_t cells = 0;
  for (const auto& i : inputs) {
    cells += i.size;
    texts |= i.holds != tensor_input::kind::number;
  }
  features.resize(cells);
}

int schema::index_of(std::string_view name) const {
  if (slots_.empty()) return -1;
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash_of(name) & mask; slots_[at] != 0; at = (at + 1) & mask) {
    const std::uint32_t i = slots_[at] - 1;
    if (features[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

std::string_view plain_version(std::string_view version) {
  if (version.size() > 1 && version[0] == 'v') version.remove_prefix(1);
  return version;
}

loaded_model::loaded_model(parts p) : parts_(std::move(p)) {
  parts_.version = std::string(plain_version(parts_.version));
  constexpr std::string_view digits = "0123456789abcdef";
  for (int shift = 60; shift >= 0; shift -= 4) digest_hex_ += digits[(parts_.digest >> shift) & 15];
}

model_table::model_table(std::vector<std::shared_ptr<const loaded_model>> models, const options& how)
    : models_(std::move(models)), fallback_(how.fallback) {
  std::sort(models_.begin(), models_.end(), [](const auto& a, const auto& b) {
    return a->name() != b->name() ? a->name() < b->name() : version_less(a->version(), b->version());
  });
  for (std::uint32_t i = 0; i < models_.size(); ++i) {
    const loaded_model& m = *models_[i];
    if (!groups_.empty() && groups_.back().name == m.name()) {
      if (models_[i - 1]->version() == m.version())
        throw load_error("model " + m.name() + ": version " + m.version() + " is there twice; keep one");
      groups_.back().end = i + 1;
      groups_.back().production = i;
    } else {
      groups_.push_back({m.name(), i, i + 1, i});
    }
  }
  for (const auto& [name, asked] : how.production) {
    const auto* const g = group_of(name);
    if (!g) throw load_error("model " + name + ", which has a production version, is not loaded");
    const auto version = plain_version(asked);
    bool found = false;
    std::string there;
    for (auto i = g->begin; i < g->end; ++i) {
      if (models_[i]->version() == version) {
        groups_[static_cast<std::size_t>(g - groups_.data())].production = i;
        found = true;
      }
      there.append(there.empty() ? "" : ", ").append(models_[i]->version());
    }
    if (!found) {
      throw load_error("model " + name + ": the production version " + std::string(version) +
                       " is not there; name one of " + there);
    }
  }
  for (const auto& [name, s] : how.splits) {
    const auto* const g = group_of(name);
    const auto version = plain_version(s.version);
    std::shared_ptr<const loaded_model> candidate;
    for (auto i = g ? g->begin : 0; g && i < g->end; ++i)
      if (models_[i]->version() == version) candidate = models_[i];
    if (!candidate)
      throw load_error("model " + name + ": the new version " + std::string(version) + " is not loaded");
    const auto equals = s.header.find('=');
    groups_[static_cast<std::size_t>(g - groups_.data())].split = static_cast<std::uint32_t>(splits_.size());
    splits_.push_back({s.id, s.route, s.header.substr(0, equals),
                       equals == std::string::npos ? "" : s.header.substr(equals + 1), std::move(candidate)});
  }
  if (!how.default_model.empty()) {
    const auto* const g = group_of(how.default_model);
    if (!g && !how.default_stays) {
      std::string there;
      for (const auto& each : groups_) there.append(there.empty() ? "" : ", ").append(each.name);
      throw load_error("the default model " + how.default_model +
                       " is not there; models.default can be one of " + there);
    }
    if (g) default_group_ = static_cast<std::uint32_t>(g - groups_.data());
    default_name_ = how.default_model;
  } else if (groups_.size() == 1 && !how.default_stays) {
    default_group_ = 0;
    default_name_ = groups_[0].name;
  }
}

const model_table::group* model_table::group_of(std::string_view name) const {
  const auto at = std::lower_bound(groups_.begin(), groups_.end(), name,
                                   [](const group& g, std::string_view wanted) { return g.name < wanted; });
  return at != groups_.end() && at->name == name ? &*at : nullptr;
}

model_table::choice model_table::find(std::string_view name, std::string_view version) const {
  const group* g = nullptr;
  if (!name.empty()) {
    g = group_of(name);
  } else if (default_group_ != UINT32_MAX) {
    g = &groups_[default_group_];
  }
  if (!g) return {};
  const loaded_model* const production = models_[g->production].get();
  if (version.empty()) return {production, false, g->split == UINT32_MAX ? nullptr : &splits_[g->split]};
  version = plain_version(version);
  if (production->version() == version) return {production, false, nullptr};
  for (auto i = g->begin; i < g->end; ++i) {
    if (models_[i]->version() == version) return {models_[i].get(), false, nullptr};
  }
  if (!fallback_) return {};
  return {production, true, nullptr};
}

const version_split* model_table::split_of(const loaded_model& m) const {
  if (splits_.empty()) return nullptr;
  const auto* const g = group_of(m.name());
  if (!g || g->split == UINT32_MAX) return nullptr;
  const version_split& s = splits_[g->split];
  return models_[g->production].get() == &m || s.candidate.get() == &m ? &s : nullptr;
}

const loaded_model* model_table::default_model() const {
  return default_group_ == UINT32_MAX ? nullptr : models_[groups_[default_group_].production].get();
}

}  // namespace troupe::model

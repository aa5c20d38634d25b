#include "runtime/codec/request_head.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/codec/json_text.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {
namespace {

constexpr nanos never = std::numeric_limits<nanos>::max();

/// A rollout is on: which of its two versions answers.
void divide(record& r, const record_batch& batch, const model::version_split& split,
            const model_finder::question& q) {
  policy::route_subject s;
  s.key = r.key;
  s.partition = batch.partition;
  s.offset = r.offset;
  if (batch.via != door::kafka) s.id = r.request_id;
  const auto matches = [&](std::string_view value) {
    return split.header_value.empty() || value == split.header_value;
  };
  if (split.header.empty()) {
    // Nothing to look for.
  } else if (q.header != nullptr) {
    const std::string_view value = q.header(q.request, split.header);
    s.has_header = value.data() != nullptr && matches(value);
  } else {
    for (std::uint32_t i = 0; i < r.headers_count; ++i) {
      const header& one = batch.headers[r.headers_begin + i];
      if (one.name == split.header) s.has_header = matches(one.value);
    }
  }
  const bool fresh = split.route.takes_new(s);
  r.arm = fresh ? rollout_arm::new_version : rollout_arm::old_version;
  if (fresh) r.model = split.candidate.get();
}

}  // namespace

void refuse(record& r, record_batch& batch, error_code code, std::string_view message) {
  if (r.error != error_code::none) return;
  r.error = code;
  r.error_message = batch.keep(message);
}

nanos later(nanos base, double by) {
  // Beyond 2^62 ns (146 years) nothing is gained by being exact, and nothing can overflow below it.
  constexpr double far = 4.6e18;
  if (!(by < far)) return never;
  if (by < -far) by = -far;
  nanos sum = 0;
  return __builtin_add_overflow(base, static_cast<nanos>(by), &sum) ? (by > 0 ? never : -never) : sum;
}

std::string_view id_token(record_batch& batch, std::string_view id) {
  if (plain(id)) {
    auto* p = static_cast<char*>(batch.arena.allocate(id.size() + 2, 1));
    p[0] = '"';
    id.copy(p + 1, id.size());
    p[id.size() + 1] = '"';
    return {p, id.size() + 2};
  }
  std::string text;
  append_quoted(text, id);
  return batch.keep(text);
}

bool valid_priority(double p) {
  return p >= 0 && p == std::floor(p) && !std::isinf(p);
}

std::uint8_t class_of(double priority, std::span<const nanos> class_targets, std::uint8_t default_class) {
  if (priority == 0 || class_targets.empty()) return default_class;
  const double last = static_cast<double>(std::min<std::size_t>(class_targets.size(), 256));
  return static_cast<std::uint8_t>(std::min(priority, last) - 1);
}

nanos target_of(std::uint8_t cls, std::span<const nanos> class_targets, nanos base) {
  return later(base, cls < class_targets.size() ? static_cast<double>(class_targets[cls]) : 0);
}

void check_explainable(record& r, record_batch& batch) {
  if (!r.explain || r.model == nullptr || r.model->explain() != nullptr) return;
  r.explain = false;
  refuse(r, batch, error_code::invalid_features,
         r.model->unexplained().empty()
             ? "explanations are off here (models.explain): ask without explain"
             : asked_model(*r.model) + " cannot be explained: " + r.model->unexplained());
}

std::string asked_model(const model::loaded_model& m) {
  return "model " + m.name() + " version " + m.version();
}

const model_finder::known_model& model_finder::look_up(std::string_view name, std::string_view version) {
  for (std::size_t i = 0; i < known_count_; ++i)
    if (known_[i].name == name && known_[i].version == version) return known_[i];
  known_model& k = known_[next_known_];
  next_known_ = (next_known_ + 1) % known_.size();
  known_count_ = std::min(known_count_ + 1, known_.size());
  k.name = name;
  k.version = version;
  k.model = nullptr;
  k.fell_back = false;
  k.split = nullptr;
  if (models_ != nullptr) {
    const auto choice = models_->find(name, version);
    k.model = choice.model;
    k.fell_back = choice.fell_back;
    k.split = choice.split;
  }
  return k;
}

void model_finder::find(record& r, record_batch& batch, const question& q) {
  const known_model& k = look_up(q.name, q.version);
  const bool found = k.model != nullptr && (q.fallback || !k.fell_back);
  r.model = found ? k.model : nullptr;
  if (found && k.split != nullptr) [[unlikely]]
    divide(r, batch, *k.split, q);
  if (!q.version.empty() && (k.fell_back || r.model == nullptr)) {
    text_.clear();
    append_escaped(text_, q.version.substr(0, 256));
    r.fallback_from = batch.keep(text_);
  }
  if (r.model == nullptr) refuse_unknown(r, batch, q);
}

/// The message names what is there instead: versions of the model that was meant, else models.
void model_finder::refuse_unknown(record& r, record_batch& batch, const question& q) {
  std::string_view name = q.name;
  std::vector<std::string_view> there;
  constexpr std::size_t longest = 20;
  bool known_name = false;
  if (models_ != nullptr) {
    if (name.empty() && !q.version.empty() && models_->default_model() != nullptr)
      name = models_->default_model()->name();
    for (const auto& m : models_->all()) known_name = known_name || m->name() == name;
    for (const auto& m : models_->all()) {
      if (known_name && m->name() != name) continue;
      const std::string_view one = known_name ? std::string_view(m->version()) : std::string_view(m->name());
      if (there.empty() || there.back() != one) there.push_back(one);
    }
  }
  if (known_name) {
    text_ =
        "version " + shown(model::plain_version(q.version)) + " of model " + shown(name) + " is not loaded";
  } else if (!name.empty()) {
    text_ = "model " + shown(name) + " is not loaded";
  } else if (models_ != nullptr && !models_->default_name().empty()) {
    text_ = "the default model " + shown(models_->default_name()) + " is not loaded";
  } else if (!there.empty()) {
    text_ = "the request names no model and there is no default";
  } else {
    text_ = "no model is loaded";
  }
  if (!there.empty()) {
    text_ += "; loaded: ";
    for (std::size_t i = 0; i < there.size() && i < longest; ++i) {
      if (i != 0) text_ += ", ";
      text_ += there[i];
    }
    if (there.size() > longest) text_ += ", ...";
  }
  refuse(r, batch, error_code::model_not_found, text_);
}

}  // namespace troupe::codec

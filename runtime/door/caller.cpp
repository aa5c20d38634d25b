#include "runtime/door/caller.hpp"

#include <utility>

#include "runtime/codec/request_head.hpp"
#include "runtime/model/model.hpp"

namespace troupe::serving {

namespace {

void deny(record& r, record_batch& batch, std::string_view message) {
  r.error = error_code::none;  // what was found before is not this caller's to know
  codec::refuse(r, batch, error_code::model_not_found, message);
  batch.values.resize(r.values_begin);
  r.rows = 0;
}

}  // namespace

caller::caller(guard::client_ptr who, std::shared_ptr<const caller_rules> rules) {
  if (!who || !rules || who->may_all()) return;
  who_ = std::move(who);
  rules_ = std::move(rules);
}

guard::refusal caller::judge(record& r, record_batch& batch, std::string_view asked) {
  if (!who_) return guard::refusal::none;
  auto why = guard::refusal::none;
  const std::string_view model = r.model != nullptr ? std::string_view(r.model->name()) : asked;
  if (!model.empty() && !who_->may_use_model(model))
    why = guard::refusal::model;
  else if (r.cls < rules_->class_names.size() && !who_->may_use_class(rules_->class_names[r.cls]))
    why = guard::refusal::client_class;
  return why == guard::refusal::none ? why : refuse(r, batch, why);
}

guard::refusal caller::refuse(record& r, record_batch& batch, guard::refusal why) const {
  rules_->keeper->refuse(rules_->via, why);
  if (why == guard::refusal::client_class)
    deny(r, batch, class_refusal(r.cls));
  else
    deny(r, batch, guard::message_of(why));
  return why;
}

std::string caller::class_refusal(std::uint8_t cls) const {
  const auto& names = rules_->class_names;
  std::string text =
      "this client may not use the class '" + names[cls] + "'; ask for a priority of its own: ";
  std::string own;
  for (std::size_t i = 0; i < names.size(); ++i)
    if (who_->may_use_class(names[i]))
      own += (own.empty() ? "" : ", ") + std::to_string(i + 1) + " (" + names[i] + ")";
  return text + (own.empty() ? "there is none" : own);
}

std::uint8_t caller::default_class(std::uint8_t of_door) const {
  if (!who_ || of_door >= rules_->class_names.size() || who_->may_use_class(rules_->class_names[of_door]))
    return of_door;
  for (std::size_t i = 0; i < rules_->class_names.size(); ++i)
    if (who_->may_use_class(rules_->class_names[i])) return static_cast<std::uint8_t>(i);
  return of_door;
}

void judge_line(const caller_rules& rules, std::string_view client, std::string_view model, record& r,
                record_batch& batch) {
  if (client.empty()) return;
  const guard::verdict now = rules.keeper->look_up(client);
  if (!now.ok()) return deny(r, batch, now.message);
  // The caller lives no longer than this call, and so do the rules that it is given.
  caller who(now.who, std::shared_ptr<const caller_rules>(std::shared_ptr<void>(), &rules));
  if (who.judge(r, batch, model) != guard::refusal::none || !who.who_) return;
  // It names a model that is not loaded, and the error says which ones are.
  if (model.empty() && r.model == nullptr && r.error == error_code::model_not_found)
    who.refuse(r, batch, guard::refusal::model);
}

}  // namespace troupe::serving

#include "runtime/door/caller.hpp"

#include <utility>

#include "runtime/codec/request_head.hpp"
#include "runtime/model/model.hpp"

namespace troupe::serving {

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
  if (why == guard::refusal::none) return why;
  rules_->keeper->refuse(rules_->via, why);
  r.error = error_code::none;  // what was found before is not this caller's to know
  codec::refuse(r, batch, error_code::model_not_found, guard::message_of(why));
  batch.values.resize(r.values_begin);
  r.rows = 0;
  return why;
}

}  // namespace troupe::serving

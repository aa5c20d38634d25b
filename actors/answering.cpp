#include "actors/answering.hpp"

#include <cmath>

#include "runtime/codec/result_writer.hpp"
#include "runtime/model/model.hpp"

namespace troupe {

void answering::expect(std::size_t answers) {
  expected_ = answers;
}

answering::one_owner& answering::of(const record& request) {
  completion_port* owner = request.batch->via == door::kafka ? nullptr : request.batch->owner.get();
  for (auto& one : sets_)
    if (one.owner == owner) return one;
  sets_.push_back({owner, make_answer_set(), {}});
  one_owner& made = sets_.back();
  made.records.reserve(expected_);
  made.set->answers.reserve(expected_);
  if (!owner) made.set->text.reserve(expected_ * 192);
  return made;
}

answer& answering::add(one_owner& to, const record& request) {
  to.records.push_back(&request);
  answer& a = to.set->answers.emplace_back();
  a.request = &request;
  a.begin = static_cast<std::uint32_t>(to.set->text.size());
  return a;
}

bool answering::predicted(const record& request, const double* outputs, std::string_view explanation) {
  one_owner& to = of(request);
  auto& set = *to.set;
  if (!to.owner) {
    const auto begin = set.text.size();
    if (!writer_->prediction(set.text, request, outputs, explanation)) return false;
    answer& a = add(to, request);
    a.begin = static_cast<std::uint32_t>(begin);
    a.size = static_cast<std::uint32_t>(set.text.size() - begin);
    return true;
  }
  const std::size_t count = request.rows * request.model->output().width;
  for (std::size_t i = 0; i < count; ++i)
    if (!std::isfinite(outputs[i])) return false;
  answer& a = add(to, request);
  a.outputs = static_cast<std::uint32_t>(set.outputs.size());
  set.outputs.insert(set.outputs.end(), outputs, outputs + count);
  set.text += explanation;
  a.size = static_cast<std::uint32_t>(explanation.size());
  return true;
}

void answering::failed(const record& request, error_code code, std::string_view message) {
  one_owner& to = of(request);
  auto& set = *to.set;
  answer& a = add(to, request);
  a.code = code;
  if (!to.owner) {
    writer_->error(set.text, request, code, message);
    a.size = static_cast<std::uint32_t>(set.text.size()) - a.begin;
    return;
  }
  a.reason_begin = a.begin;
  a.reason_size = static_cast<std::uint32_t>(message.size());
  set.text += message;
}

void answering::poison(const record& request, std::string_view message) {
  if (request.batch->via != door::kafka) return failed(request, error_code::model_failed, message);
  one_owner& to = of(request);
  answer& a = add(to, request);
  a.code = error_code::model_failed;
  a.dead = true;
  a.reason_begin = a.begin;
  a.reason_size = static_cast<std::uint32_t>(message.size());
  to.set->text += message;
}

void answering::parked(const record& request, std::string_view message) {
  poison(request, message);
  answer& a = of(request).set->answers.back();
  a.code = error_code::unavailable;
  a.parked = true;
}

}  // namespace troupe

#include "runtime/codec/explanation.hpp"

#include <cmath>

#include "runtime/codec/json_text.hpp"
#include "runtime/model/model.hpp"
#include "runtime/model/shap.hpp"

namespace troupe::codec {
namespace {

void append_finite(std::string& out, double value) {
  if (std::isfinite(value)) {
    append_number(out, value);
  } else {
    out += "null";
  }
}

}  // namespace

std::vector<std::string> names_of_scores(const model::loaded_model& m) {
  const std::size_t scores = m.explain()->outputs();
  const auto& classes = m.output().classes;
  if (classes.size() == scores) return classes;
  if (classes.size() == 2 && scores == 1) return {classes[1]};
  std::vector<std::string> names(scores);
  for (std::size_t k = 0; scores > 1 && k < scores; ++k) names[k] = "target " + std::to_string(k);
  return names;
}

const std::string& explanation_writer::write(const record& request) {
  const model::loaded_model& m = *request.model;
  const model::explainer& e = *m.explain();
  const auto& features = m.schema().features;
  const std::size_t scores = e.outputs();
  rows_.clear();
  for (std::uint32_t i = 0; i < request.rows; ++i)
    rows_.push_back(request.batch->row(request, i, features.size()));
  contributions_.resize(rows_.size() * scores * features.size());
  scores_.resize(rows_.size() * scores);
  e.explain(rows_, contributions_.data(), scores_.data());

  const auto names = names_of_scores(m);
  text_ = ",\"explanation\":";
  if (request.list) text_ += '[';
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    text_ += r == 0 ? "[" : ",[";
    for (std::size_t k = 0; k < scores; ++k) {
      text_ += k == 0 ? "{" : ",{";
      if (!names[k].empty()) {
        text_ += "\"output\":";
        append_quoted(text_, names[k]);
        text_ += ',';
      }
      text_ += "\"base\":";
      append_finite(text_, e.base()[k]);
      text_ += ",\"score\":";
      append_finite(text_, scores_[r * scores + k]);
      text_ += ",\"contributions\":{";
      const double* const own = contributions_.data() + (r * scores + k) * features.size();
      for (std::size_t c = 0; c < features.size(); ++c) {
        if (c != 0) text_ += ',';
        append_quoted(text_, features[c].name);
        text_ += ':';
        append_finite(text_, own[c]);
      }
      text_ += "}}";
    }
    text_ += ']';
  }
  if (request.list) text_ += ']';
  return text_;
}

}  // namespace troupe::codec

#include "runtime/codec/prediction_text.hpp"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <vector>

#include "runtime/codec/appender.hpp"
#include "runtime/codec/class_scores.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {
namespace {

void append_padded(std::string& out, unsigned value, unsigned width) {
  const std::string text = std::to_string(value);
  if (text.size() < width) out.append(width - text.size(), '0');
  out += text;
}

}  // namespace

prediction_text::prediction_text(const model::loaded_model& m) {
  const auto& output = m.output();
  for (const auto& part : output.parts) {
    std::string& head = parts.emplace_back(parts.empty() ? "{" : ",");
    append_quoted(head, part.name);
    head += ':';
  }
  if (output.kind != model::task::classification) return;
  for (std::size_t i = 0; i < output.width; ++i)
    append_quoted(classes.emplace_back(),
                  i < output.classes.size() ? std::string_view(output.classes[i]) : std::to_string(i));
}

void append_predictions(appender& out, const model::loaded_model& m, const prediction_text& text,
                        std::size_t rows, bool list, const double* outputs) {
  const auto& parts = m.output().parts;
  const std::size_t width = m.output().width;
  if (!parts.empty()) {
    items(out, rows, list, [&](std::size_t row) {
      const double* p = outputs + row * width;
      for (std::size_t k = 0; k < parts.size(); ++k) {
        out += text.parts[k];
        items(out, parts[k].width, parts[k].width != 1, [&](std::size_t i) { out.number(p[i]); });
        p += parts[k].width;
      }
      out += '}';
    });
  } else if (m.output().kind == model::task::regression) {
    items(out, rows, list, [&](std::size_t row) {
      items(out, width, width != 1, [&](std::size_t i) { out.number(outputs[row * width + i]); });
    });
  } else {
    items(out, rows, list,
          [&](std::size_t row) { out += text.classes[likeliest(outputs + row * width, width)]; });
  }
}

void append_top_k(appender& out, const model::loaded_model& m, const prediction_text& text, std::size_t rows,
                  bool list, const double* outputs) {
  const std::size_t width = m.output().width;
  const std::size_t top = std::min(m.output().top_k, width);
  std::vector<std::size_t> order;
  items(out, rows, list, [&](std::size_t row) {
    const double* const p = outputs + row * width;
    rank(p, width, top, order);
    items(out, top, true, [&](std::size_t i) {
      out += "{\"class\":";
      out += text.classes[order[i]];
      out += ",\"probability\":";
      out.number(probability(p[order[i]]));
      out += '}';
    });
  });
}

void append_iso_time(std::string& out, std::int64_t epoch_ms) {
  using namespace std::chrono;
  const sys_time<milliseconds> at{milliseconds(epoch_ms)};
  const auto day = floor<days>(at);
  const year_month_day date(day);
  const hh_mm_ss time(at - day);
  out += '"';
  append_padded(out, static_cast<unsigned>(std::max(0, static_cast<int>(date.year()))), 4);
  out += '-';
  append_padded(out, static_cast<unsigned>(date.month()), 2);
  out += '-';
  append_padded(out, static_cast<unsigned>(date.day()), 2);
  out += 'T';
  append_padded(out, static_cast<unsigned>(time.hours().count()), 2);
  out += ':';
  append_padded(out, static_cast<unsigned>(time.minutes().count()), 2);
  out += ':';
  append_padded(out, static_cast<unsigned>(time.seconds().count()), 2);
  out += '.';
  append_padded(out, static_cast<unsigned>(time.subseconds().count()), 3);
  out += "Z\"";
}

}  // namespace troupe::codec

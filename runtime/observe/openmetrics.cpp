#include "runtime/observe/openmetrics.hpp"

#include <prometheus/metric_family.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace troupe::observe {
namespace {

constexpr std::string_view total = "_total";

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

std::string_view take_until(std::string_view& rest, char mark) {
  const auto at = rest.find(mark);
  const auto part = rest.substr(0, at);
  rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + 1);
  return trimmed(part);
}

bool same(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return (x >= 'A' && x <= 'Z' ? x - 'A' + 'a' : x) == y; });
}

/// Always with a point or an exponent, as the format wants `le` to be.
void append(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
    return;
  }
  if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
    return;
  }
  std::array<char, 400> text{};
  const double size = std::abs(value);
  const bool fixed = size == 0 || (size >= 1e-5 && size < 1e16);
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific)
                       .ptr;
  const std::string_view made(text.data(), static_cast<std::size_t>(end - text.data()));
  out += made;
  if (made.find_first_of(".e") == std::string_view::npos) out += ".0";
}

void append(std::string& out, std::uint64_t value) {
  out += std::to_string(value);
}

void append_escaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
}

void append_labels(std::string& out, const prometheus::ClientMetric& m, const double* bound = nullptr) {
  if (m.label.empty() && bound == nullptr) return;
  char mark = '{';
  for (const auto& label : m.label) {
    out += mark;
    out += label.name;
    out += "=\"";
    append_escaped(out, label.value);
    out += '"';
    mark = ',';
  }
  if (bound != nullptr) {
    out += mark;
    out += "le=\"";
    append(out, *bound);
    out += '"';
  }
  out += '}';
}

template <class Number>
void append_sample(std::string& out, std::string_view name, std::string_view suffix,
                   const prometheus::ClientMetric& m, Number value) {
  out += name;
  out += suffix;
  append_labels(out, m);
  out += ' ';
  append(out, value);
  out += '\n';
}

void append_bucket(std::string& out, std::string_view name, const prometheus::ClientMetric& m, double bound,
                   std::uint64_t count, const exemplar* shown) {
  out += name;
  out += "_bucket";
  append_labels(out, m, &bound);
  out += ' ';
  append(out, count);
  if (shown != nullptr && !shown->trace.empty()) {
    out += " # {trace_id=\"";
    append_escaped(out, shown->trace);
    out += "\"} ";
    append(out, shown->value);
    out += ' ';
    std::array<char, 64> text{};
    const auto end =
        std::to_chars(text.data(), text.data() + text.size(), shown->at, std::chars_format::fixed, 3).ptr;
    out.append(text.data(), end);
  }
  out += '\n';
}

void append_histogram(std::string& out, std::string_view name, const prometheus::ClientMetric& m,
                      const std::vector<exemplar>* shown) {
  const auto& h = m.histogram;
  const auto of = [&](std::size_t i) {
    return shown != nullptr && i < shown->size() ? &(*shown)[i] : nullptr;
  };
  bool all = false;
  for (std::size_t i = 0; i < h.bucket.size(); ++i) {
    append_bucket(out, name, m, h.bucket[i].upper_bound, h.bucket[i].cumulative_count, of(i));
    all = std::isinf(h.bucket[i].upper_bound);
  }
  if (!all) append_bucket(out, name, m, HUGE_VAL, h.sample_count, of(h.bucket.size()));
  append_sample(out, name, "_count", m, static_cast<std::uint64_t>(h.sample_count));
  append_sample(out, name, "_sum", m, h.sample_sum);
}

}  // namespace

bool wants_openmetrics(std::string_view accept) {
  double open = 0;
  double plain = 0;
  while (!accept.empty()) {
    std::string_view one = take_until(accept, ',');
    const std::string_view type = take_until(one, ';');
    double weight = 1;
    while (!one.empty()) {
      std::string_view parameter = take_until(one, ';');
      if (!same(take_until(parameter, '='), "q")) continue;
      const auto [end, error] =
          std::from_chars(parameter.data(), parameter.data() + parameter.size(), weight);
      if (error != std::errc() || !(weight >= 0)) weight = 0;
    }
    if (same(type, "application/openmetrics-text")) open = std::max(open, weight);
    if (same(type, "text/plain")) plain = std::max(plain, weight);
  }
  return open > 0 && open >= plain;
}

std::string openmetrics_text(const std::vector<prometheus::MetricFamily>& families, const exemplars& shown) {
  using prometheus::MetricType;
  std::string out;
  for (const auto& f : families) {
    if (f.metric.empty()) continue;
    std::string_view name = f.name;
    // A counter's family has no suffix, its samples do; one that is not named so can't be called a counter.
    const bool counter = f.type == MetricType::Counter && name.ends_with(total);
    if (counter) name.remove_suffix(total.size());
    const char* type = counter                           ? "counter"
                       : f.type == MetricType::Gauge     ? "gauge"
                       : f.type == MetricType::Histogram ? "histogram"
                       : f.type == MetricType::Summary   ? "summary"
                                                         : "unknown";
    out.append("# TYPE ").append(name).append(" ").append(type);
    out.append("\n# HELP ").append(name).append(" ");
    append_escaped(out, f.help);
    out += '\n';
    const auto found = shown.find(f.name);
    for (std::size_t i = 0; i < f.metric.size(); ++i) {
      const auto& m = f.metric[i];
      if (f.type == MetricType::Histogram) {
        const bool has = found != shown.end() && i < found->second.size();
        append_histogram(out, name, m, has ? &found->second[i] : nullptr);
      } else if (f.type == MetricType::Summary) {
        append_sample(out, name, "_count", m, static_cast<std::uint64_t>(m.summary.sample_count));
        append_sample(out, name, "_sum", m, m.summary.sample_sum);
      } else {
        append_sample(out, name, counter ? total : "", m,
                      f.type == MetricType::Gauge     ? m.gauge.value
                      : f.type == MetricType::Counter ? m.counter.value
                                                      : m.untyped.value);
      }
    }
  }
  out += "# EOF\n";
  return out;
}

}  // namespace troupe::observe

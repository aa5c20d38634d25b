// troupe batch: a file of requests, scored without a server.
#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "cli/batch_run.hpp"
#include "cli/commands.hpp"
#include "cli/model_choice.hpp"
#include "cli/parquet_source.hpp"
#include "runtime/batches/line_reader.hpp"

namespace troupe::cli {
namespace {

/// What it begins with. Nothing of a pipe, from which that would be gone.
bool begins_as_parquet(const std::string& path) {
  std::error_code error;
  if (path == "-" || !std::filesystem::is_regular_file(path, error)) return false;
  std::array<char, 4> magic{};
  std::ifstream in(path, std::ios::binary);
  return in.read(magic.data(), magic.size()) && std::string_view(magic.data(), magic.size()) == "PAR1";
}

bool is_parquet(const batch_options& o) {
  if (o.format == "parquet") return true;
  const bool begins = begins_as_parquet(o.input);
  if (!o.format.empty() && begins)
    throw usage_error(o.input + " is a Parquet file, not " + o.format + ": leave --format out");
  return o.format.empty() && (begins || o.input.ends_with(".parquet"));
}

batches::line_format format_of(const batch_options& o) {
  if (!o.format.empty()) {
    const auto f = batches::format_of_name(o.format);
    if (!f) throw usage_error("--format " + o.format + ": jsonl, csv or parquet");
    return *f;
  }
  return batches::format_of_path(o.input).value_or(batches::line_format::jsonl);
}

std::string grouped(std::uint64_t n) {
  std::string digits = std::to_string(n);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string time_text(double s) {
  char text[32];
  if (s < 60)
    std::snprintf(text, sizeof text, "%.0f s", s);
  else if (s < 3600)
    std::snprintf(text, sizeof text, "%d min %02d s", static_cast<int>(s) / 60, static_cast<int>(s) % 60);
  else
    std::snprintf(text, sizeof text, "%.1f h", s / 3600);
  return text;
}

double rate_of(const batch_run_report& r) {
  return r.seconds > 0 ? static_cast<double>(r.done - r.resumed) / r.seconds : 0;
}

/// [#####     ] 52 %, 520,000 lines, 410,000 lines/s, 3 errors, 2 s left
std::string bar(const batch_run_report& r, double bytes_before) {
  std::string text;
  const double rate = rate_of(r);
  if (r.bytes_all > 0) {
    const double share = static_cast<double>(r.bytes) / static_cast<double>(r.bytes_all);
    constexpr std::size_t wide = 24;
    const auto full = std::min(wide, static_cast<std::size_t>(share * static_cast<double>(wide)));
    char percent[16];
    std::snprintf(percent, sizeof percent, "] %3.0f %%, ", share * 100);
    text = "[" + std::string(full, '#') + std::string(wide - full, ' ') + percent;
  }
  text += grouped(r.done) + " lines, " + grouped(static_cast<std::uint64_t>(rate)) + " lines/s, " +
          grouped(r.errors) + (r.errors == 1 ? " error" : " errors");
  const double read = static_cast<double>(r.bytes) - bytes_before;
  if (r.bytes_all > 0 && read > 0)
    text += ", " +
            time_text(r.seconds * static_cast<double>(r.bytes_all - std::min(r.bytes_all, r.bytes)) / read) +
            " left";
  return text;
}

}  // namespace

int batch(const batch_options& o) {
  const auto settings = settings_of(o.common, true).values;
  batch_run_options run;
  run.input = o.input;
  run.output = o.output;
  const bool parquet = is_parquet(o);
  run.format = parquet ? batches::line_format::csv : format_of(o);
  run.model = load_one_model(settings, o.model, o.version);
  if (parquet) {
    if (!run.model->schema().inputs.empty())
      throw usage_error("model " + run.model->name() +
                        " takes tensors, which have no form in Parquet: send JSON lines");
    run.parquet = parquet_command();
  }
  run.threads = o.threads > 0 ? static_cast<std::size_t>(o.threads)
                              : std::max<std::size_t>(1, std::thread::hardware_concurrency());
  run.max_line = settings.batches.max_line;
  run.max_rows = static_cast<std::uint32_t>(settings.models.max_rows);
  run.max_explained = static_cast<std::uint32_t>(settings.models.max_explained_rows);
  run.restart = o.restart;

  progress_line line;
  double bytes_before = -1;
  batch_run_report report;
  try {
    report = run_batch(run, stop_requested(), [&](const batch_run_report& r) {
      if (bytes_before < 0) bytes_before = r.resumed > 0 ? static_cast<double>(r.bytes) : 0;
      line.show(bar(r, bytes_before));
    });
  } catch (const std::system_error& e) {
    line.clear();
    if (e.code() == std::errc::no_such_file_or_directory || e.code() == std::errc::permission_denied ||
        e.code() == std::errc::is_a_directory || e.code() == std::errc::too_many_symbolic_link_levels)
      throw usage_error(e.what());
    if (e.code() == std::errc::no_space_on_device)
      throw std::runtime_error(std::string(e.what()) +
                               "; make room and run the same command again: it goes on where it was");
    throw;
  }
  line.clear();

  // The results may be what stdout is for.
  std::FILE* const to = o.output == "-" ? stderr : stdout;
  if (o.common.json) {
    nlohmann::ordered_json j = {{"input", o.input},
                                {"output", o.output},
                                {"model", run.model->name()},
                                {"version", run.model->version()},
                                {"engine", run.model->engine().kind()},
                                {"finished", report.finished},
                                {"lines", report.done},
                                {"errors", report.errors},
                                {"resumed_after", report.resumed},
                                {"threads", run.threads},
                                {"seconds", report.seconds},
                                {"lines_per_second", rate_of(report)}};
    if (!report.first_error.empty()) j["first_error"] = report.first_error;
    std::fprintf(to, "%s\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    std::fprintf(
        to, "%s lines, %s errors, %s/%s, %.1f s, %s lines/s%s\n", grouped(report.done).c_str(),
        grouped(report.errors).c_str(), run.model->name().c_str(), run.model->version().c_str(),
        report.seconds, grouped(static_cast<std::uint64_t>(rate_of(report))).c_str(),
        report.resumed ? (" (" + grouped(report.resumed) + " lines of them by earlier runs)").c_str() : "");
    if (!report.first_error.empty()) std::fprintf(to, "first error: %s\n", report.first_error.c_str());
  }
  if (!report.finished) {
    std::fprintf(stderr, "troupe: stopped after %" PRIu64 " lines; %s\n", report.done,
                 report.checkpoint.empty()
                     ? "without a file for input and output there is nothing to go on from"
                     : "the same command goes on from there");
    return failed;
  }
  return report.errors > 0 && !o.allow_errors ? failed : ok;
}

}  // namespace troupe::cli

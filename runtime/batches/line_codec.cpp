#include "runtime/batches/line_codec.hpp"

#include <optional>
#include <utility>

#include "runtime/codec/infer_terms.hpp"
#include "runtime/codec/request_head.hpp"
#include "runtime/codec/request_parser.hpp"
#include "runtime/codec/result_writer.hpp"
#include "runtime/codec/score.hpp"

namespace troupe::batches {
namespace {

/// The "topic" of lines, which names those without an id.
const std::shared_ptr<const std::string>& line_topic() {
  static const auto name = std::make_shared<const std::string>("line");
  return name;
}

codec::parser_options parser_of(const line_rules& rules) {
  codec::parser_options o;
  o.max_record_bytes = rules.max_line;
  o.max_rows = rules.max_rows;
  o.max_explained = rules.max_explained;
  o.default_class = rules.cls;
  return o;  // no classes: every priority is the default one
}

std::string line_id(std::uint64_t number) {
  return "line-" + std::to_string(number);
}

}  // namespace

struct line_codec::work {
  codec::result_writer writer;
  codec::infer_terms terms;
  std::string text;          // of a CSV row with its header
  std::size_t max_line = 0;  // of the parser's rules, and the next three
  std::uint32_t max_rows = 0;
  std::uint32_t max_explained = 0;
  std::uint8_t cls = 0;
  std::optional<codec::request_parser> parser;

  void json(const line_rules& r, std::string_view line, std::uint64_t number, record& to,
            record_batch& batch) {
    if (!parser || max_line != r.max_line || max_rows != r.max_rows || max_explained != r.max_explained ||
        cls != r.cls) {
      parser.emplace(parser_of(r));
      max_line = r.max_line;
      max_rows = r.max_rows;
      max_explained = r.max_explained;
      cls = r.cls;
    }
    batch.topic = line_topic();
    batch.partition = -1;
    to.offset = static_cast<std::int64_t>(number);
    to.timestamp_ms = 0;
    to.value = line;
    to.headers_begin = static_cast<std::uint32_t>(batch.headers.size());
    if (!r.model.empty()) batch.headers.push_back({"model", r.model});
    if (!r.version.empty()) batch.headers.push_back({"model_version", r.version});
    to.headers_count = static_cast<std::uint32_t>(batch.headers.size()) - to.headers_begin;
    parser->parse(batch, batch.models, batch.records.size() - 1);
    if (!r.version.empty() && !to.fallback_from.empty() && to.error == error_code::none) {
      codec::refuse(to, batch, error_code::model_not_found,
                    "version '" + r.version + "' of the batch is not loaded any more");
      batch.values.resize(to.values_begin);
      to.rows = 0;
    }
  }

  void csv(const line_rules& r, std::string_view line, std::uint64_t number, record& to,
           record_batch& batch) {
    codec::infer_options o;
    o.default_class = r.cls;
    o.expiry = 0;
    o.max_rows = 1;
    o.max_elements = 1'000'000;
    const std::string id = line_id(number);
    codec::infer_head head;
    head.fallback_id = id;
    head.model = r.model;
    head.version = r.version;
    terms.begin(to, batch, head, o);
    codec::request_fault fault;
    if (to.error == error_code::none) {
      // It counts from the header; the line's own number is its id.
      if (r.csv_names) {
        text.assign(r.csv_header);
        text += '\n';
        text += line;
        fault = codec::read_csv(text, to, batch, o.limits(), codec::csv_head::names);
        if (const auto place = fault.message.find("line 2: "); place <= 4) fault.message.erase(0, place + 8);
        if (const auto place = fault.message.find("CSV line 1: "); place == 0)
          fault.message.replace(0, 11, "the header:");
      } else {
        fault = codec::read_csv(line, to, batch, o.limits(), codec::csv_head::row);
        if (const auto place = fault.message.find("line 1: "); place <= 4) fault.message.erase(0, place + 8);
      }
    }
    codec::infer_terms::finish(to, batch, o, fault);
    to.list = false;
  }
};

line_codec::line_codec() : work_(std::make_unique<work>()) {}
line_codec::~line_codec() = default;

void line_codec::read(const line_rules& rules, std::string_view text, std::uint64_t number,
                      std::uint64_t size, record& to, record_batch& batch) {
  to.batch = &batch;
  if (size > rules.max_line) {
    to.parsed = false;
    to.values_begin = static_cast<std::uint32_t>(batch.values.size());
    to.rows = 0;
    to.cls = rules.cls;
    to.model = nullptr;
    to.request_id = codec::id_token(batch, line_id(number));
    codec::refuse(to, batch, error_code::too_large,
                  "the line has " + std::to_string(size) + " bytes, more than the " +
                      std::to_string(rules.max_line) + " of " + rules.max_line_option);
  } else if (rules.format == line_format::jsonl) {
    work_->json(rules, text, number, to, batch);
  } else {
    work_->csv(rules, text, number, to, batch);
  }
  to.timestamp_ms = rules.timestamp_ms > 0 ? rules.timestamp_ms : batch.arrived_ms;
  to.cls = rules.cls;
  to.target = codec::later(batch.arrived, static_cast<double>(rules.class_target));
  if (rules.judge) rules.judge(to, batch);
}

bool line_codec::result(std::string& out, const record& request, const double* outputs,
                        std::string_view explanation) {
  if (!work_->writer.prediction(out, request, outputs, explanation)) return false;
  out += '\n';
  return true;
}

void line_codec::error(std::string& out, const record& request, std::uint64_t number, error_code code,
                       std::string_view message) {
  if (request.request_id.empty()) {
    record unread;
    const std::string id = '"' + line_id(number) + '"';
    unread.request_id = id;
    unread.timestamp_ms = request.timestamp_ms;
    work_->writer.error(out, unread, code, message);
  } else {
    work_->writer.error(out, request, code, message);
  }
  out += '\n';
}

}  // namespace troupe::batches

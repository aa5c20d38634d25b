#include "runtime/door/batch_pages.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/batches/service.hpp"
#include "runtime/codec/score.hpp"
#include "runtime/door/side_thread.hpp"
#include "runtime/model/model.hpp"

namespace troupe::serving {
namespace {

using batches::batch_state;
using batches::batch_status;
using batches::line_format;
using http::error_response;
using json = nlohmann::ordered_json;

constexpr std::size_t longest_named_input = std::size_t{64} << 10;  // bytes of {"input": ...}

bool over(batch_state s) {
  return s != batch_state::queued && s != batch_state::running;
}

json time_or_null(std::int64_t ms) {
  return ms > 0 ? json(ms) : json(nullptr);
}

json document_of(const batch_status& s) {
  json j = {{"id", s.id},
            {"status", batches::to_string(s.state)},
            {"model", s.model.empty() ? json(nullptr) : json(s.model)},
            {"version", s.version.empty() ? json(nullptr) : json(s.version)},
            {"format", batches::to_string(s.format)}};
  if (!s.input.empty()) j["input"] = s.input;
  j["lines"] = {{"done", s.lines_done},
                {"total", s.lines_total ? json(*s.lines_total) : json(nullptr)},
                {"errors", s.lines_errors}};
  j["bytes"] = {{"done", s.bytes_done}, {"total", s.input_bytes}, {"results", s.result_bytes}};
  j["created_ms"] = s.created_ms;
  j["started_ms"] = time_or_null(s.started_ms);
  j["ended_ms"] = time_or_null(s.ended_ms);
  if (!s.problem.empty()) j["problem"] = s.problem;
  return j;
}

http::response reply_of(const json& j, int status = 200) {
  http::response r;
  r.status = status;
  r.body = j.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  return r;
}

http::response reply_of(const batches::service_error& e) {
  http::response r = error_response(e.status, e.message);
  constexpr nanos usual = 10 * policy::second;
  if (e.status == 429 || e.status == 503)
    r.headers.push_back(http::retry_after(e.retry_after > 0 ? e.retry_after : usual));
  return r;
}

/// The media type without parameters, in small letters.
std::string type_of(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  while (type.ends_with(' ')) type.pop_back();
  for (char& c : type)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return type;
}

struct asked {
  std::string model;
  std::string version;
  std::optional<line_format> format;
};

/// Empty: all is well; else what is wrong.
std::string read_query(std::string_view query, asked& into) {
  while (!query.empty()) {
    const std::string_view one = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), one.size() + 1));
    if (one.empty()) continue;
    const std::string_view key = one.substr(0, one.find('='));
    std::string raw(one.substr(std::min(one.size(), key.size() + 1)));
    std::replace(raw.begin(), raw.end(), '+', ' ');
    const auto value = percent_decoded(raw);
    if (!value) return "parameter " + std::string(key) + " is not percent-encoded as it should be";
    if (key == "model") {
      into.model = *value;
    } else if (key == "version") {
      into.version = *value;
    } else if (key == "format") {
      into.format = batches::format_of_name(*value);
      if (!into.format) return "format is jsonl or csv";
    } else {
      return "there is no parameter '" + std::string(key) + "'; there are model, version and format";
    }
  }
  return {};
}

struct byte_range {
  std::uint64_t from = 0;
  std::uint64_t last = UINT64_MAX;
};

/// One range of RFC 9110, section 14.1.2; nullopt: none, or one that is to be ignored.
std::optional<byte_range> read_range(std::string_view header, std::uint64_t size) {
  constexpr std::string_view unit = "bytes=";
  if (!header.starts_with(unit)) return std::nullopt;
  header.remove_prefix(unit.size());
  const auto dash = header.find('-');
  if (dash == std::string_view::npos || header.find(',') != std::string_view::npos) return std::nullopt;
  const auto number = [](std::string_view text, std::uint64_t& into) {
    const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), into);
    return error == std::errc() && at == text.data() + text.size();
  };
  byte_range r;
  const std::string_view first = header.substr(0, dash);
  const std::string_view last = header.substr(dash + 1);
  if (first.empty()) {
    std::uint64_t n = 0;
    if (!number(last, n)) return std::nullopt;
    r.from = n == 0 ? size : size - std::min(n, size);
    return r;
  }
  if (!number(first, r.from) || (!last.empty() && !number(last, r.last)) || r.last < r.from)
    return std::nullopt;
  return r;
}

http::response no_parquet() {
  return error_response(415,
                        "a node does not read Parquet: score the file with troupe batch, or send it as "
                        "text/csv (docs/batches.md)");
}

}  // namespace

struct batch_pages::impl {
  batches::service* of;
  backend* models;
  std::shared_ptr<const caller_rules> rules;
  std::string cls;
  side_thread work;

  impl(batches::service* s, backend& m, std::shared_ptr<const caller_rules> guarded, std::string lines_class)
      : of(s), models(&m), rules(std::move(guarded)), cls(std::move(lines_class)) {}

  /// What a client asks for that it may not use.
  [[nodiscard]] http::response refused(guard::refusal why) const {
    const auto v = rules->keeper->refuse(door::http, why);
    return error_response(guard::http_status_of(v.why), v.message);
  }

  [[nodiscard]] static bool may_see(const batch_status& s, const guard::client* who) {
    return who == nullptr || who->admin() || (!s.client.empty() && s.client == who->name());
  }

  /// Another client's is as good as none.
  [[nodiscard]] std::optional<batch_status> find(const std::string& id, const guard::client* who) const {
    auto found = of->find(id);
    if (found && !may_see(*found, who)) found.reset();
    return found;
  }

  http::response submit(const http::request_view& r, const guard::client* who) const {
    asked a;
    const std::string type = type_of(r.header("content-type"));
    if (type == "application/vnd.apache.parquet" || type == "application/x-parquet" ||
        r.body.starts_with("PAR1"))
      return no_parquet();
    if (const std::string wrong = read_query(r.query, a); !wrong.empty()) return error_response(400, wrong);
    batches::batch_request b;
    if (type == "application/json") {
      if (r.body.size() > longest_named_input)
        return error_response(413,
                              "{\"input\": PATH} has at most 64 KiB; send lines as application/x-ndjson");
      const json j = json::parse(r.body, nullptr, false);
      if (!j.is_object() || j.size() != 1 || !j.contains("input") || !j["input"].is_string() ||
          j["input"].get_ref<const std::string&>().empty())
        return error_response(
            400,
            "expected {\"input\": PATH}; JSON lines are sent as application/x-ndjson, CSV as "
            "text/csv");
      b.input = j["input"];
      if (b.input.find('\0') != std::string::npos) return error_response(400, "input has a zero byte");
      b.format = a.format.value_or(batches::format_of_path(b.input).value_or(line_format::jsonl));
    } else {
      b.body = r.body;
      if (a.format)
        b.format = *a.format;
      else if (type == "text/csv")
        b.format = line_format::csv;
      else if (type == "application/x-ndjson" || type == "application/ndjson" ||
               type == "application/jsonl" || type == "application/x-jsonlines" ||
               type == "application/jsonlines")
        b.format = line_format::jsonl;
      else
        return error_response(415,
                              "send JSON lines as application/x-ndjson or CSV as text/csv, or say format=");
    }
    if (b.input.ends_with(".parquet")) return no_parquet();
    if (who && !who->may_use_class(cls)) {
      const auto v = rules->keeper->refuse(door::http, guard::refusal::client_class);
      return error_response(guard::http_status_of(v.why),
                            "batches run in the class '" + cls + "', which this client may not use");
    }
    if (who && !a.model.empty() && !who->may_use_model(a.model)) return refused(guard::refusal::model);
    if (!a.model.empty() || !a.version.empty()) {
      const auto table = models->models();
      const auto found = table->find(a.model, a.version);
      if (who && found.model && !who->may_use_model(found.model->name()))
        return refused(guard::refusal::model);
      if (!found.model || found.fell_back)
        return error_response(
            404,
            (a.model.empty() ? "the default model " + table->default_name() : "model '" + a.model + "'") +
                (a.version.empty() ? "" : " version '" + a.version + "'") + " is not loaded");
    }
    if (b.format == line_format::csv) {
      const auto found = models->models()->find(a.model, a.version);
      if (!found.model) return error_response(404, "rows of CSV name no model: say which with model=");
      if (who && !who->may_use_model(found.model->name())) return refused(guard::refusal::model);
      // The table may be another one once this is asked.
      b.csv_head = [table = models->models(), model = a.model, version = a.version](
                       std::string_view first, bool& names) -> std::optional<batches::service_error> {
        const auto chosen = table->find(model, version);
        if (!chosen.model) return std::nullopt;
        auto head = codec::csv_head::unknown;
        if (const auto fault = codec::look_at_csv(first, *chosen.model, head))
          return batches::service_error{400, fault.message};
        names = head == codec::csv_head::names;
        return std::nullopt;
      };
    }
    b.model = std::move(a.model);
    b.version = std::move(a.version);
    if (who) {
      b.client = who->name();
      b.admit = [&](std::uint64_t lines) -> std::optional<batches::service_error> {
        const auto v = rules->keeper->charge(door::http, who->name(), lines);
        if (v.ok()) return std::nullopt;
        return batches::service_error{guard::http_status_of(v.why),
                                      "the batch has " + std::to_string(lines) +
                                          " lines, more than this client's quota of the month has left",
                                      v.retry_after};
      };
    }
    batch_status made;
    if (const auto e = of->submit(b, made)) return reply_of(*e);
    http::response reply = reply_of(document_of(made), 202);
    reply.headers.emplace_back("Location", "/v2/batches/" + made.id);
    return reply;
  }

  [[nodiscard]] http::response list(const guard::client* who) const {
    json all = json::array();
    for (const auto& s : of->list())
      if (may_see(s, who)) all.push_back(document_of(s));
    return reply_of(json({{"batches", std::move(all)}}));
  }

  [[nodiscard]] http::response status(const std::string& id, const guard::client* who) const {
    const auto found = find(id, who);
    return found ? reply_of(document_of(*found)) : error_response(404, "no such batch");
  }

  [[nodiscard]] http::response remove(const std::string& id, const guard::client* who) const {
    if (!find(id, who)) return error_response(404, "no such batch");
    batch_status was;
    bool removed = false;
    if (const auto e = of->remove(id, was, removed)) return reply_of(*e);
    if (!removed) return reply_of(document_of(was));
    http::response r;
    r.status = 204;
    return r;
  }

  [[nodiscard]] http::response results(const http::request_view& r, const std::string& id,
                                       const guard::client* who) const {
    const auto found = find(id, who);
    if (!found) return error_response(404, "no such batch");
    if (!over(found->state))
      return error_response(409, "the batch is " + std::string(batches::to_string(found->state)) +
                                     ": its results are there once it has ended");
    const std::uint64_t size = found->result_bytes;
    const auto range = read_range(r.header("range"), size);
    if (range && range->from >= size) {
      http::response none = error_response(416, "the results have " + std::to_string(size) + " bytes");
      none.headers.emplace_back("Content-Range", "bytes */" + std::to_string(size));
      return none;
    }
    if (!range && size > longest_reply)
      return error_response(413, "the results have " + std::to_string(size) +
                                     " bytes: fetch them in ranges (Range: bytes=FROM-LAST), at most " +
                                     std::to_string(longest_reply) + " each");
    const std::uint64_t from = range ? range->from : 0;
    const std::uint64_t most =
        range ? std::min(longest_reply, range->last == UINT64_MAX ? UINT64_MAX : range->last - from + 1)
              : size;
    http::response reply;
    reply.content_type = "application/x-ndjson";
    reply.headers.emplace_back("Accept-Ranges", "bytes");
    if (const auto e = of->results(id, from, most, reply.body)) return reply_of(*e);
    if (range) {
      reply.status = 206;
      reply.headers.emplace_back("Content-Range", "bytes " + std::to_string(from) + "-" +
                                                      std::to_string(from + reply.body.size() - 1) + "/" +
                                                      std::to_string(size));
    }
    return reply;
  }

  [[nodiscard]] http::response answer(const http::request_view& r, const destination& to,
                                      const guard::client* who) const {
    switch (to.page) {
      case page::batch_submit:
        return submit(r, who);
      case page::batch_status:
        return status(to.model, who);
      case page::batch_results:
        return results(r, to.model, who);
      case page::batch_remove:
        return remove(to.model, who);
      default:
        return list(who);
    }
  }
};

batch_pages::batch_pages(batches::service* of, backend& models, std::shared_ptr<const caller_rules> rules,
                         std::string cls)
    : impl_(std::make_unique<impl>(of, models, std::move(rules), std::move(cls))) {}
batch_pages::~batch_pages() = default;

void batch_pages::take(http::exchange_ptr e, const destination& to, guard::client_ptr who) {
  if (!impl_->of)
    return e->reply(error_response(404, "there are no batches here: set batches.directory to have them"));
  const bool taken = impl_->work.run(
      [this, e, to, who = std::move(who)] { e->reply(impl_->answer(e->request(), to, who.get())); });
  if (!taken) e->reply(reply_of(batches::service_error{503, "too many requests about batches wait"}));
}

}  // namespace troupe::serving

#include "runtime/codec/request_parser.hpp"

#include <simdjson.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "runtime/codec/content_type.hpp"
#include "runtime/codec/dom_text.hpp"
#include "runtime/codec/json_text.hpp"
#include "runtime/codec/tensor_rows.hpp"
#include "runtime/model/model.hpp"

namespace troupe::codec {
namespace {

namespace dom = simdjson::dom;

// What a record that is not one of the usual ones may leave behind in a parser.
constexpr std::size_t kept_capacity = std::size_t{64} << 10;
constexpr std::size_t first_capacity = std::size_t{4} << 10;
constexpr nanos never = std::numeric_limits<nanos>::max();

bool token_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' || c == '-' ||
         c == '.';
}

bool space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/// Whether `text` is a number by JSON's grammar; `integer` tells that it has neither fraction nor exponent.
bool json_number(std::string_view text, bool& integer) {
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t from = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    return i - from;
  };
  integer = true;
  if (i < text.size() && text[i] == '-') ++i;
  if (i < text.size() && text[i] == '0') {
    ++i;
  } else if (digits() == 0) {
    return false;
  }
  if (i < text.size() && text[i] == '.') {
    integer = false;
    ++i;
    if (digits() == 0) return false;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    integer = false;
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (digits() == 0) return false;
  }
  return i == text.size();
}

/// The end of the string that starts (with its quote) at `at`: behind the closing quote, or the text's end.
std::size_t string_end(std::string_view text, std::size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      return at + 1;
    }
  }
  return text.size();
}

/// The text of the last top-level number under `key` in a valid JSON object; empty if there is none (or the
/// key is written with escapes). Numbers as ids and versions are taken by their text: 2.10 is not 2.1.
std::string_view number_text(std::string_view json, std::string_view key) {
  std::string_view found;
  int depth = 0;
  std::string_view last;
  for (std::size_t i = 0; i < json.size();) {
    const char c = json[i];
    if (c == '"') {
      const std::size_t end = string_end(json, i);
      last = json.substr(i + 1, end - i - 2);
      i = end;
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    ++i;
    if (c != ':' || depth != 1 || last != key) continue;
    while (i < json.size() && space(json[i])) ++i;
    std::size_t end = i;
    while (end < json.size() && token_char(json[end])) ++end;
    found = json.substr(i, end - i);
  }
  return found;
}

/// NaN is tolerated (to be refused by name) among features alone.
bool holds_not_a_number(const dom::element& e) {
  switch (e.type()) {
    case dom::element_type::ARRAY:
      for (const dom::element item : as<dom::array>(e))
        if (holds_not_a_number(item)) return true;
      return false;
    case dom::element_type::OBJECT:
      for (const auto field : as<dom::object>(e))
        if (holds_not_a_number(field.value)) return true;
      return false;
    case dom::element_type::STRING:
      return as<std::string_view>(e) == not_a_number;
    default:
      return false;
  }
}

std::string_view reason(simdjson::error_code code) {
  switch (code) {
    case simdjson::UTF8_ERROR:
      return "the value is not valid UTF-8";
    case simdjson::EMPTY:
      return "the value is empty";
    case simdjson::DEPTH_ERROR:
      return "the value is nested deeper than 64 levels";
    case simdjson::UNCLOSED_STRING:
      return "the value is not valid JSON: a string is not closed";
    case simdjson::UNESCAPED_CHARS:
      return "the value is not valid JSON: a control character in a string";
    case simdjson::STRING_ERROR:
      return "the value is not valid JSON: an invalid escape in a string";
    default:
      return "the value is not valid JSON";
  }
}

nanos later(nanos base, double by) {
  // Beyond 2^62 ns (146 years) nothing is gained by being exact, and nothing can overflow below it.
  constexpr double far = 4.6e18;
  if (!(by < far)) return never;
  if (by < -far) by = -far;
  nanos sum = 0;
  return __builtin_add_overflow(base, static_cast<nanos>(by), &sum) ? (by > 0 ? never : -never) : sum;
}

}  // namespace

class request_parser::work {
 public:
  explicit work(parser_options o) : options_(std::move(o)) {}

  void parse(record_batch& batch, std::shared_ptr<const model::model_table> models, std::size_t from);
  void limit(const live_limits& l) {
    options_.max_record_bytes = l.max_record_bytes.load(std::memory_order_relaxed);
    options_.max_rows = l.max_rows.load(std::memory_order_relaxed);
  }

 private:
  /// What a request says, the last one of equal keys.
  struct fields {
    std::optional<dom::element> features, request_id, model, version, priority, timeout, explain;
  };
  /// What the headers say; data() == nullptr: nothing.
  struct overrides {
    std::string_view request_id, model, version, priority, timeout, explain;
  };
  struct known_model {
    std::string name, version;
    const model::loaded_model* model = nullptr;
    bool fell_back = false;
    const model::version_split* split = nullptr;
  };

  void parse_record(record& r);
  [[nodiscard]] std::string_view bytes_type(const record& r) const;
  bool readable(record& r);
  bool read(record& r, dom::object& object);
  bool repair(std::string_view json);
  simdjson::error_code run(const char* json, std::size_t size, dom::element& root);
  void shrink();

  void default_id(record& r);
  void request_id(record& r, const fields& f, const overrides& h);
  void find_model(record& r, const fields& f, const overrides& h);
  void divide(record& r, const model::version_split& split);
  const known_model& look_up(std::string_view name, std::string_view version);
  void priority(record& r, const fields& f, const overrides& h);
  void timeout(record& r, const fields& f, const overrides& h, nanos base);
  void explain(record& r, const fields& f, const overrides& h);
  void features(record& r, const std::optional<dom::element>& given);
  void settle(record& r, const tensor_fault& fault) {
    if (fault.code != error_code::none) fail(r, fault.code, fault.message);
  }
  bool number(record& r, const dom::element& e, std::size_t row, std::size_t i, double& out);
  bool list_row(record& r, const dom::array& list, std::size_t row);
  bool named_row(record& r, const dom::object& object, std::size_t row);

  [[nodiscard]] std::string asked(const record& r) const;
  [[nodiscard]] std::string feature(const record& r, std::size_t row, std::size_t i) const;
  [[nodiscard]] static std::string row_prefix(const record& r, std::size_t row);
  void missing(record& r, std::size_t row, std::size_t i, std::string_view how);
  void wrong_count(record& r, std::size_t row, std::size_t count);

  /// The first thing wrong with a request is what is reported.
  void fail(record& r, error_code code, std::string_view message) {
    if (r.error != error_code::none) return;
    r.error = code;
    r.error_message = batch_->keep(message);
  }

  parser_options options_;
  dom::parser json_;
  std::unique_ptr<char[]> buffer_;
  std::size_t buffer_size_ = 0;
  std::string repaired_;
  bool was_repaired_ = false;
  std::string text_;

  // During one call.
  record_batch* batch_ = nullptr;
  const model::model_table* models_ = nullptr;
  std::array<known_model, 4> known_;
  std::size_t known_count_ = 0;
  std::size_t next_known_ = 0;
};

void request_parser::work::parse(record_batch& batch, std::shared_ptr<const model::model_table> models,
                                 std::size_t from) {
  if (from == 0 || !batch.models) batch.models = std::move(models);
  batch_ = &batch;
  models_ = batch.models.get();
  known_count_ = next_known_ = 0;
  for (std::size_t i = from; i < batch.records.size(); ++i) parse_record(batch.records[i]);
  shrink();
}

void request_parser::work::shrink() {
  if (buffer_size_ > kept_capacity) {
    buffer_.reset();
    buffer_size_ = 0;
  }
  if (json_.capacity() > kept_capacity) json_ = dom::parser();
  if (repaired_.capacity() > kept_capacity) std::string().swap(repaired_);
}

/// Parses `json`; `root` is good until the next run.
simdjson::error_code request_parser::work::run(const char* json, std::size_t size, dom::element& root) {
  if (size > json_.capacity()) {
    std::size_t capacity = first_capacity;
    while (capacity < size) capacity *= 2;
    // The library counts the document itself as a level.
    if (const auto error = json_.allocate(capacity, max_depth + 1)) return error;
  }
  // The library reads whole blocks, so it works on a copy with room behind it.
  if (buffer_size_ < size + simdjson::SIMDJSON_PADDING) {
    buffer_size_ = json_.capacity() + simdjson::SIMDJSON_PADDING;
    buffer_ = std::make_unique<char[]>(buffer_size_);
  }
  std::memcpy(buffer_.get(), json, size);
  return json_.parse(buffer_.get(), size, false).get(root);
}

/// Copies `json` into repaired_ with each token that the library has no number for (NaN, Infinity, 1e400) as
/// a marker string, and long integers as doubles. False if nothing was changed. All else stays for the
/// library to judge.
bool request_parser::work::repair(std::string_view json) {
  repaired_.clear();
  bool changed = false;
  dom::parser one;
  for (std::size_t i = 0; i < json.size();) {
    const char c = json[i];
    std::size_t end = i + 1;
    if (c == '"') {
      end = string_end(json, i);
    } else if (c == '-' || c == 'N' || c == 'I' || (c >= '0' && c <= '9')) {
      while (end < json.size() && token_char(json[end])) ++end;
      const std::string_view token = json.substr(i, end - i);
      std::size_t next = end;
      while (next < json.size() && space(json[next])) ++next;
      const bool key = next < json.size() && json[next] == ':';
      bool integer = false;
      if (key) {
        // Stays, and is an error.
      } else if (token == "NaN" || token == "Infinity" || token == "-Infinity") {
        repaired_ += "\"\\u0000NaN\\u0000\"";
        changed = true;
        i = end;
        continue;
      } else if (json_number(token, integer) && (!integer || token.size() > 18)) {
        text_.assign(token);
        if (integer) text_ += "e0";
        dom::element ignored;
        const bool fits = one.parse(text_).get(ignored) == simdjson::SUCCESS;
        changed = changed || integer || !fits;
        repaired_ += fits ? std::string_view(text_) : std::string_view("\"\\u0000range\\u0000\"");
        i = end;
        continue;
      }
    }
    repaired_ += json.substr(i, end - i);
    i = end;
  }
  return changed;
}

/// The content type of a value that is no JSON; empty: it is JSON.
std::string_view request_parser::work::bytes_type(const record& r) const {
  for (std::uint32_t i = 0; i < r.headers_count; ++i) {
    const header& one = batch_->headers[r.headers_begin + i];
    if (one.name == "content-type" && holds_bytes(one.value)) return one.value;
  }
  return {};
}

bool request_parser::work::readable(record& r) {
  if (r.value.data() == nullptr) {
    fail(r, error_code::invalid_json, "the record has no value (a tombstone)");
    return false;
  }
  if (r.value.size() > options_.max_record_bytes) {
    fail(r, error_code::too_large,
         "the value has " + std::to_string(r.value.size()) + " bytes, more than the " +
             std::to_string(options_.max_record_bytes) + " of kafka.max_record_bytes");
    return false;
  }
  return true;
}

/// The value as a JSON object, or false with the error in the record.
bool request_parser::work::read(record& r, dom::object& object) {
  was_repaired_ = false;
  if (!readable(r)) return false;
  std::string_view json = r.value;
  // One byte order mark is skipped, here rather than in the library, whose versions differ in this.
  constexpr std::string_view mark = "\xef\xbb\xbf";
  if (json.starts_with(mark)) json.remove_prefix(mark.size());
  if (json.starts_with(mark)) {
    fail(r, error_code::invalid_json, reason(simdjson::TAPE_ERROR));
    return false;
  }
  if (json.empty()) {
    fail(r, error_code::invalid_json, "the value is empty");
    return false;
  }
  dom::element root;
  auto error = run(json.data(), json.size(), root);
  if (error == simdjson::MEMALLOC) throw std::bad_alloc();
  if (error != simdjson::SUCCESS && error != simdjson::UTF8_ERROR && repair(json)) {
    was_repaired_ = true;
    if (run(repaired_.data(), repaired_.size(), root) == simdjson::SUCCESS) error = simdjson::SUCCESS;
  }
  if (error != simdjson::SUCCESS) {
    fail(r, error_code::invalid_json, reason(error));
    return false;
  }
  if (root.get(object) != simdjson::SUCCESS) {
    text_ = "a request is a JSON object, found ";
    text_ += found(root);
    fail(r, error_code::invalid_json, text_);
    return false;
  }
  return true;
}

void request_parser::work::parse_record(record& r) {
  record_batch& batch = *batch_;
  r.parsed = false;
  r.list = false;
  r.explain = false;
  r.error = error_code::none;
  r.error_message = {};
  r.fallback_from = {};
  r.request_id = {};
  r.model = nullptr;
  r.rows = 0;
  r.values_begin = static_cast<std::uint32_t>(batch.values.size());
  r.cls = options_.default_class;
  r.expiry = never;

  // A timestamp ahead of us, or none, counts as arrival.
  nanos base = batch.arrived;
  if (r.timestamp_ms > 0 && r.timestamp_ms < batch.arrived_ms)
    base = later(base, static_cast<double>(r.timestamp_ms - batch.arrived_ms) * 1e6);

  fields f;
  dom::object object;
  const std::string_view bytes_as = bytes_type(r);
  if (bytes_as.empty() ? !read(r, object) : !readable(r)) {
    default_id(r);
    r.target = base;
    return;
  }

  if (bytes_as.empty())
    for (const auto field : object) {
      switch (field.key.size()) {
        case 5:
          if (field.key == "model") f.model = field.value;
          break;
        case 7:
          if (field.key == "explain") f.explain = field.value;
          break;
        case 8:
          if (field.key == "features") f.features = field.value;
          if (field.key == "priority") f.priority = field.value;
          break;
        case 10:
          if (field.key == "request_id") f.request_id = field.value;
          if (field.key == "timeout_ms") f.timeout = field.value;
          break;
        case 13:
          if (field.key == "model_version") f.version = field.value;
          break;
        default:
          break;
      }
      if (was_repaired_ && field.key != "features" && holds_not_a_number(field.value)) {
        fail(r, error_code::invalid_json, "the value is not valid JSON: NaN or Infinity");
        default_id(r);
        r.target = base;
        return;
      }
    }
  overrides h;
  for (std::uint32_t i = 0; i < r.headers_count; ++i) {
    const header& one = batch.headers[r.headers_begin + i];
    if (one.value.empty()) continue;
    if (one.name == "request_id") h.request_id = one.value;
    if (one.name == "model") h.model = one.value;
    if (one.name == "model_version") h.version = one.value;
    if (one.name == "priority") h.priority = one.value;
    if (one.name == "timeout_ms") h.timeout = one.value;
    if (one.name == "explain") h.explain = one.value;
  }

  r.parsed = true;
  request_id(r, f, h);
  find_model(r, f, h);
  priority(r, f, h);
  r.target = later(
      base, r.cls < options_.class_targets.size() ? static_cast<double>(options_.class_targets[r.cls]) : 0);
  timeout(r, f, h, base);
  if (f.explain || h.explain.data() != nullptr) [[unlikely]]
    explain(r, f, h);
  if (r.error == error_code::none) {
    if (bytes_as.empty()) {
      features(r, f.features);
    } else {
      settle(r, take_bytes(r, batch, bytes_as));
    }
    if (r.error != error_code::none) {
      batch.values.resize(r.values_begin);
      r.rows = 0;
    }
  }
  if (r.explain && r.rows > options_.max_explained)
    fail(r, error_code::too_large,
         "the request has " + std::to_string(r.rows) + " rows; at most " +
             std::to_string(options_.max_explained) + " are explained at once (models.max_explained_rows)");
  if (r.error == error_code::none && r.expiry <= batch.arrived)
    fail(r, error_code::deadline_exceeded, "the request had expired when it was read");
  if (r.error != error_code::none && r.rows != 0) {
    batch.values.resize(r.values_begin);
    r.rows = 0;
  }
}

// --- who asks, whom, how urgently
// -----------------------------------------------------------------------------------

void request_parser::work::default_id(record& r) {
  text_.assign(1, '"');
  if (batch_->topic) append_escaped(text_, *batch_->topic);
  text_ += '-';
  append_number(text_, std::int64_t{batch_->partition});
  text_ += '-';
  append_number(text_, r.offset);
  text_ += '"';
  r.request_id = batch_->keep(text_);
}

void request_parser::work::request_id(record& r, const fields& f, const overrides& h) {
  const auto refuse = [&](std::string_view why) {
    default_id(r);
    fail(r, error_code::invalid_json, why);
  };
  std::string_view id;
  std::array<char, 24> digits;
  if (h.request_id.data() != nullptr) {
    id = h.request_id;
    if (!simdjson::validate_utf8(id.data(), id.size())) return refuse("header request_id is not valid UTF-8");
  } else if (f.request_id) {
    switch (f.request_id->type()) {
      case dom::element_type::STRING:
        id = as<std::string_view>(*f.request_id);
        break;
      case dom::element_type::INT64:
        id = {digits.data(),
              static_cast<std::size_t>(
                  std::to_chars(digits.data(), digits.data() + digits.size(), as<std::int64_t>(*f.request_id))
                      .ptr -
                  digits.data())};
        break;
      case dom::element_type::UINT64:
      case dom::element_type::DOUBLE:
        id = number_text(r.value, "request_id");
        break;
      case dom::element_type::NULL_VALUE:
        break;
      default:
        text_ = "request_id must be a string or a number, found ";
        text_ += found(*f.request_id);
        return refuse(std::string(text_));
    }
    if (id == out_of_range) id = number_text(r.value, "request_id");
  }
  if (id.empty()) return default_id(r);
  if (id.size() > max_request_id_bytes) {
    return refuse("request_id has " + std::to_string(id.size()) + " bytes, more than " +
                  std::to_string(max_request_id_bytes));
  }
  if (plain(id)) {
    auto* p = static_cast<char*>(batch_->arena.allocate(id.size() + 2, 1));
    p[0] = '"';
    id.copy(p + 1, id.size());
    p[id.size() + 1] = '"';
    r.request_id = {p, id.size() + 2};
    return;
  }
  text_.clear();
  append_quoted(text_, id);
  r.request_id = batch_->keep(text_);
}

const request_parser::work::known_model& request_parser::work::look_up(std::string_view name,
                                                                       std::string_view version) {
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

void request_parser::work::find_model(record& r, const fields& f, const overrides& h) {
  std::string_view name = h.model;
  std::string_view version = h.version;
  std::array<char, 24> digits;
  if (name.data() == nullptr && f.model && !f.model->is_null() && f.model->get(name) != simdjson::SUCCESS) {
    text_ = "model must be a string, found ";
    text_ += found(*f.model);
    fail(r, error_code::invalid_json, text_);
    name = {};
  }
  if (version.data() == nullptr && f.version) {
    switch (f.version->type()) {
      case dom::element_type::STRING:
        version = as<std::string_view>(*f.version);
        break;
      case dom::element_type::INT64: {
        char* end =
            std::to_chars(digits.data(), digits.data() + digits.size(), as<std::int64_t>(*f.version)).ptr;
        version = {digits.data(), static_cast<std::size_t>(end - digits.data())};
        break;
      }
      case dom::element_type::UINT64:
      case dom::element_type::DOUBLE:
        version = number_text(r.value, "model_version");
        break;
      case dom::element_type::NULL_VALUE:
        break;
      default:
        text_ = "model_version must be a string or a number, found ";
        text_ += found(*f.version);
        fail(r, error_code::invalid_json, text_);
    }
    if (version == out_of_range) version = number_text(r.value, "model_version");
  }
  const known_model& k = look_up(name, version);
  r.model = k.model;
  if (k.split != nullptr) [[unlikely]]
    divide(r, *k.split);
  if (!version.empty() && (k.fell_back || r.model == nullptr)) {
    text_.clear();
    append_escaped(text_, version.substr(0, 256));
    r.fallback_from = batch_->keep(text_);
  }
  if (r.model != nullptr) return;

  // The message names what is there instead: versions of the model that was meant, else models.
  std::vector<std::string_view> there;
  constexpr std::size_t longest = 20;
  bool known_name = false;
  if (models_ != nullptr) {
    if (name.empty() && !version.empty() && models_->default_model() != nullptr)
      name = models_->default_model()->name();
    for (const auto& m : models_->all()) known_name = known_name || m->name() == name;
    for (const auto& m : models_->all()) {
      if (known_name && m->name() != name) continue;
      const std::string_view one = known_name ? std::string_view(m->version()) : std::string_view(m->name());
      if (there.empty() || there.back() != one) there.push_back(one);
    }
  }
  if (known_name) {
    text_ = "version " + shown(model::plain_version(version)) + " of model " + shown(name) + " is not loaded";
  } else if (!name.empty()) {
    text_ = "model " + shown(name) + " is not loaded";
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
  fail(r, error_code::model_not_found, text_);
}

/// A rollout is on: which of its two versions answers.
void request_parser::work::divide(record& r, const model::version_split& split) {
  policy::route_subject s;
  s.key = r.key;
  s.partition = batch_->partition;
  s.offset = r.offset;
  if (batch_->via != door::kafka) s.id = r.request_id;
  if (!split.header.empty()) {
    for (std::uint32_t i = 0; i < r.headers_count; ++i) {
      const header& one = batch_->headers[r.headers_begin + i];
      if (one.name == split.header)
        s.has_header = split.header_value.empty() || one.value == split.header_value;
    }
  }
  const bool fresh = split.route.takes_new(s);
  r.arm = fresh ? rollout_arm::new_version : rollout_arm::old_version;
  if (fresh) r.model = split.candidate.get();
}

void request_parser::work::priority(record& r, const fields& f, const overrides& h) {
  double p = 0;
  if (h.priority.data() != nullptr) {
    const auto [end, error] = std::from_chars(h.priority.data(), h.priority.data() + h.priority.size(), p);
    if (error != std::errc() || end != h.priority.data() + h.priority.size()) p = -1;
  } else if (f.priority && !f.priority->is_null()) {
    if (f.priority->get(p) != simdjson::SUCCESS) {
      text_ = "priority must be an integer from 0, found ";
      text_ += found(*f.priority);
      fail(r, error_code::invalid_json, text_);
      return;
    }
  }
  if (!(p >= 0) || p != std::floor(p) || std::isinf(p)) {
    fail(r, error_code::invalid_json,
         h.priority.data() != nullptr ? "header priority must be an integer from 0"
                                      : "priority must be an integer from 0");
    return;
  }
  if (p == 0 || options_.class_targets.empty()) return;
  const double last = static_cast<double>(std::min<std::size_t>(options_.class_targets.size(), 256));
  r.cls = static_cast<std::uint8_t>(std::min(p, last) - 1);
}

void request_parser::work::timeout(record& r, const fields& f, const overrides& h, nanos base) {
  if (options_.queue_timeout > 0) r.expiry = later(base, static_cast<double>(options_.queue_timeout));
  double ms = 0;
  if (h.timeout.data() != nullptr) {
    const auto [end, error] = std::from_chars(h.timeout.data(), h.timeout.data() + h.timeout.size(), ms);
    if (error != std::errc() || end != h.timeout.data() + h.timeout.size() || !std::isfinite(ms)) {
      fail(r, error_code::invalid_json, "header timeout_ms must be a number of milliseconds");
      return;
    }
  } else if (f.timeout && !f.timeout->is_null()) {
    if (f.timeout->get(ms) != simdjson::SUCCESS) {
      text_ = "timeout_ms must be a number of milliseconds, found ";
      text_ += found(*f.timeout);
      fail(r, error_code::invalid_json, text_);
      return;
    }
  } else {
    return;
  }
  r.expiry = later(base, ms * 1e6);
}

void request_parser::work::explain(record& r, const fields& f, const overrides& h) {
  if (h.explain.data() != nullptr) {
    if (h.explain != "true" && h.explain != "false")
      return fail(r, error_code::invalid_json, "header explain must be true or false");
    r.explain = h.explain == "true";
  } else if (!f.explain->is_null() && f.explain->get(r.explain) != simdjson::SUCCESS) {
    text_ = "explain must be true or false, found ";
    text_ += found(*f.explain);
    return fail(r, error_code::invalid_json, text_);
  }
  if (!r.explain || r.model == nullptr || r.model->explain() != nullptr) return;
  r.explain = false;
  fail(r, error_code::invalid_features,
       r.model->unexplained().empty() ? "explanations are off here (models.explain): ask without explain"
                                      : asked(r) + " cannot be explained: " + r.model->unexplained());
}

// --- features
// -------------------------------------------------------------------------------------------------------

std::string request_parser::work::asked(const record& r) const {
  return "model " + std::string(r.model->name()) + " version " + std::string(r.model->version());
}

std::string request_parser::work::row_prefix(const record& r, std::size_t row) {
  return r.list ? "features[" + std::to_string(row) + "]: " : std::string();
}

std::string request_parser::work::feature(const record& r, std::size_t row, std::size_t i) const {
  const auto& schema = r.model->schema();
  if (schema.named) return row_prefix(r, row) + "feature " + shown(schema.features[i].name);
  return (r.list ? "features[" + std::to_string(row) + "][" : std::string("features[")) + std::to_string(i) +
         "]";
}

void request_parser::work::missing(record& r, std::size_t row, std::size_t i, std::string_view how) {
  fail(r, error_code::invalid_features,
       feature(r, row, i) + " is " + std::string(how) + " and " + asked(r) +
           " does not say what to put in its place");
}

void request_parser::work::wrong_count(record& r, std::size_t row, std::size_t count) {
  constexpr std::size_t longest = 12;
  const auto& schema = r.model->schema();
  text_ = row_prefix(r, row) + asked(r) + " takes " + std::to_string(schema.features.size()) +
          (schema.features.size() == 1 ? " feature" : " features");
  if (schema.named) {
    text_ += " (";
    for (std::size_t i = 0; i < schema.features.size() && i < longest; ++i) {
      if (i != 0) text_ += ", ";
      text_ += schema.features[i].name;
    }
    text_ += schema.features.size() > longest ? ", ...)" : ")";
  }
  text_ += ", got ";
  append_number(text_, static_cast<std::int64_t>(count));
  fail(r, error_code::invalid_features, text_);
}

/// A cell that is no number, or has a rule. A missing value without a default becomes a NaN.
bool request_parser::work::number(record& r, const dom::element& e, std::size_t row, std::size_t i,
                                  double& out) {
  const auto& one = r.model->schema().features[i];
  const model::cell_rule* const rule = one.rule.get();
  if (e.is_null()) {
    out = rule ? rule->missing : std::numeric_limits<double>::quiet_NaN();
    return true;
  }
  std::string_view name;
  const bool category = rule && !rule->categories.empty();
  if (category && e.get(name) == simdjson::SUCCESS && name != not_a_number && name != out_of_range) {
    out = rule->number_of(name);
    if (!std::isnan(out)) return true;
    text_ = feature(r, row, i) + " must be " + rule->allowed() + ", found another string";
    const auto close = nearest(name, rule->categories, [](const auto& x) -> std::string_view { return x; });
    if (!close.empty()) text_ += "; did you mean " + shown(close) + "?";
  } else if (category) {
    text_ = feature(r, row, i) + " must be " + rule->allowed() + ", found " + std::string(found(e));
  } else if (e.get(out) != simdjson::SUCCESS) {
    text_ = feature(r, row, i) + " must be a finite number, found " + std::string(found(e));
  } else if (!rule || rule->take(out)) {
    return true;
  } else {
    text_ = feature(r, row, i) + " is ";
    append_number(text_, out);
    text_ += ", and must be " + rule->allowed();
  }
  fail(r, error_code::invalid_features, text_);
  return false;
}

bool request_parser::work::list_row(record& r, const dom::array& list, std::size_t row) {
  const auto& schema = r.model->schema();
  const std::size_t width = schema.features.size();
  const std::size_t begin = batch_->values.size();
  batch_->values.resize(begin + width);
  double* out = batch_->values.data() + begin;
  const bool rules = schema.rules;
  std::size_t n = 0;
  for (const dom::element e : list) {
    if (n < width && (rules || e.get(out[n]) != simdjson::SUCCESS)) {
      if (!number(r, e, row, n, out[n])) return false;
      if (std::isnan(out[n]) && !schema.missing_allowed(n)) {
        missing(r, row, n, "null");
        return false;
      }
    }
    ++n;
  }
  if (n == width) return true;
  wrong_count(r, row, n);
  return false;
}

bool request_parser::work::named_row(record& r, const dom::object& object, std::size_t row) {
  const auto& schema = r.model->schema();
  const std::size_t width = schema.features.size();
  const std::size_t begin = batch_->values.size();
  batch_->values.resize(begin + width, std::numeric_limits<double>::quiet_NaN());
  double* out = batch_->values.data() + begin;
  const bool rules = schema.rules;
  for (const auto field : object) {
    const int at = schema.index_of(field.key);
    if (at < 0) {
      text_ = row_prefix(r, row) + shown(field.key) + " is not a feature of " + asked(r);
      const auto close =
          nearest(field.key, schema.features, [](const auto& x) -> std::string_view { return x.name; });
      if (!close.empty()) {
        text_ += "; did you mean ";
        text_ += shown(close);
        text_ += '?';
      } else if (!schema.named) {
        text_ += ", whose features have no names of their own: send a list, or f0, f1, ...";
      }
      fail(r, error_code::invalid_features, text_);
      return false;
    }
    const auto i = static_cast<std::size_t>(at);
    double value = std::numeric_limits<double>::quiet_NaN();
    if (rules || field.value.get(value) != simdjson::SUCCESS)
      if (!number(r, field.value, row, i, value)) return false;
    out[i] = value;
  }
  for (std::size_t i = 0; i < width; ++i) {
    if (!std::isnan(out[i])) continue;
    if (rules && schema.features[i].rule) out[i] = schema.features[i].rule->missing;
    if (!std::isnan(out[i]) || schema.missing_allowed(i)) continue;
    missing(r, row, i, "missing");
    return false;
  }
  return true;
}

void request_parser::work::features(record& r, const std::optional<dom::element>& given) {
  if (!given || given->is_null()) {
    fail(r, error_code::invalid_features, given ? "features is null" : "the request has no features");
    return;
  }
  if (!r.model->schema().inputs.empty())
    return settle(r, read_tensors(*given, r, *batch_, {options_.max_rows, options_.max_values}));
  dom::object object;
  if (given->get(object) == simdjson::SUCCESS) {
    if (named_row(r, object, 0)) r.rows = 1;
    return;
  }
  dom::array list;
  if (given->get(list) != simdjson::SUCCESS) {
    text_ = "features must be a list of numbers, an object by feature name or a list of rows, found ";
    text_ += found(*given);
    fail(r, error_code::invalid_features, text_);
    return;
  }
  const auto first = list.begin();
  r.list = first != list.end() && ((*first).is_array() || (*first).is_object());
  const std::size_t width = r.model->schema().features.size();
  if (!r.list) {
    if (list_row(r, list, 0)) r.rows = 1;
    return;
  }

  std::size_t rows = 0;
  for ([[maybe_unused]] const dom::element row : list) ++rows;
  if (rows > options_.max_rows || rows * width > options_.max_values) {
    text_ = "the request has " + std::to_string(rows) + " rows of " + std::to_string(width) +
            " features; at most " + std::to_string(options_.max_rows) + " rows and " +
            std::to_string(options_.max_values) + " numbers are taken";
    fail(r, error_code::too_large, text_);
    return;
  }
  std::size_t n = 0;
  for (const dom::element row : list) {
    dom::array values;
    if (row.get(values) == simdjson::SUCCESS) {
      if (!list_row(r, values, n)) return;
    } else if (row.get(object) == simdjson::SUCCESS) {
      if (!named_row(r, object, n)) return;
    } else {
      text_ = row_prefix(r, n) + "a row must be a list or an object, found ";
      text_ += found(row);
      fail(r, error_code::invalid_features, text_);
      return;
    }
    ++n;
  }
  r.rows = static_cast<std::uint32_t>(n);
}

// --------------------------------------------------------------------------------------------------------------------

request_parser::request_parser(parser_options options) : work_(std::make_unique<work>(std::move(options))) {}
request_parser::~request_parser() = default;
request_parser::request_parser(request_parser&&) noexcept = default;
request_parser& request_parser::operator=(request_parser&&) noexcept = default;

void request_parser::limit(const live_limits& limits) {
  work_->limit(limits);
}

void request_parser::parse(record_batch& batch, std::shared_ptr<const model::model_table> models,
                           std::size_t from) {
  work_->parse(batch, std::move(models), from);
}

}  // namespace troupe::codec

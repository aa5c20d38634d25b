#include "runtime/door/calls.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "runtime/codec/content_type.hpp"
#include "runtime/codec/multipart.hpp"
#include "runtime/codec/score.hpp"
#include "runtime/codec/v2_infer.hpp"
#include "runtime/door/traced.hpp"

namespace troupe::serving {
namespace {

/// What the calls of one thread read and write with: buffers and texts that outlive a call.
struct tools {
  codec::v2_tools v2;
  codec::json_reader json;
  codec::score_writer score;
};

tools& mine() {
  static thread_local tools own;
  return own;
}

/// Media types are the same in capitals; parameters follow a semicolon.
bool is_type(std::string_view content_type, std::string_view wanted) {
  if (content_type.size() < wanted.size()) return false;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const char c = content_type[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c) != wanted[i]) return false;
  }
  content_type.remove_prefix(wanted.size());
  return content_type.empty() || content_type[0] == ';' || content_type[0] == ' ';
}

std::string_view header_of(const void* request, std::string_view name) {
  const std::string_view value = static_cast<const http::request_view*>(request)->header(name);
  return value.empty() ? std::string_view() : value;
}

class exchange_call : public call {
 public:
  exchange_call(http::exchange_ptr exchange, door_options_ptr options, caller who)
      : exchange_(std::move(exchange)), options_(std::move(options)), who_(std::move(who)) {}

  [[nodiscard]] bool gone() const override { return exchange_->gone(); }

  void fail(const record& request, const call_failure& why) final {
    http::response r;
    r.status = denied_ != guard::refusal::none ? guard::http_status_of(denied_) : http_status_of(why.code);
    r.body = error_body(request, why);
    if (why.code == error_code::unavailable)
      r.headers.push_back(http::retry_after(why.retry_after > 0 ? why.retry_after : options_->retry_after));
    exchange_->reply(std::move(r));
  }

 protected:
  [[nodiscard]] virtual std::string error_body(const record& request, const call_failure& why) const = 0;

  [[nodiscard]] codec::infer_head head() const {
    const http::request_view& request = exchange_->request();
    codec::infer_head h;
    h.fallback_id = request.correlation_id.substr(0, codec::max_request_id_bytes);
    h.default_class = who_.default_class(options_->infer.default_class);
    h.arrived = request.arrived;
    h.header = header_of;
    h.request = &request;
    return h;
  }
  /// For what says nothing of it in its body.
  [[nodiscard]] codec::request_fault read_priority(codec::infer_head& h) const {
    const std::string_view text = header_of(&exchange_->request(), "x-priority");
    if (text.empty()) return {};
    double p = 0;
    const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), p);
    if (error != std::errc() || at != text.data() + text.size() || !codec::valid_priority(p))
      return {error_code::invalid_json, "X-Priority must be an integer from 0 (1 is the most urgent class)"};
    h.priority = p;
    return {};
  }
  /// The end of every reading.
  void judge(record& r, record_batch& batch, std::string_view model = {}) {
    serving::follow(*exchange_, r, batch);
    denied_ = who_.judge(r, batch, model);
  }
  void not_finite(const record& request) {
    fail(request, {error_code::model_failed, "the model gave a result that is not finite"});
  }

  http::exchange_ptr exchange_;
  door_options_ptr options_;
  guard::refusal denied_ = guard::refusal::none;  ///< to this caller

 private:
  caller who_;
};

class v2_call final : public exchange_call {
 public:
  v2_call(http::exchange_ptr exchange, door_options_ptr options, std::string model, std::string version,
          caller who)
      : exchange_call(std::move(exchange), std::move(options), std::move(who)),
        model_(std::move(model)),
        version_(std::move(version)) {}

  void read(record& to, record_batch& batch) override {
    codec::infer_head h = head();
    h.model = model_;
    h.version = version_;
    tools& t = mine();
    const http::request_view& request = exchange_->request();
    std::optional<std::size_t> length;
    const std::string_view given = request.header("inference-header-content-length");
    if (given.data() != nullptr && !given.empty()) {
      auto fault = codec::read_header_length(given, request.body.size(), length);
      if (!fault && length == std::size_t{0} && is_type(request.header("content-type"), "application/json"))
        fault = {
            error_code::invalid_json,
            "Inference-Header-Content-Length: 0 says that the body is raw data, its Content-Type that it is "
            "JSON: leave one of them out"};
      if (fault) {
        t.v2.terms.begin(to, batch, h, options_->infer, fault);
        codec::infer_terms::finish(to, batch, options_->infer, {});
        return judge(to, batch, model_);
      }
    }
    codec::read_v2_body(request.body, length, h, options_->infer, t.v2, to, batch, plan_, own_id_);
    judge(to, batch, model_);
  }

  void reply(const record& request, const call_result& result) override {
    http::response r;
    std::optional<std::size_t> length;
    codec::v2_response_writer::answer a;
    a.outputs = result.outputs;
    if (own_id_) a.id = request.request_id;
    a.explanation = result.explanation;
    if (!mine().v2.writer.write(r.body, request, a, plan_, length)) return not_finite(request);
    if (length) {
      r.content_type = "application/octet-stream";
      r.headers.emplace_back("Inference-Header-Content-Length", std::to_string(*length));
    }
    exchange_->reply(std::move(r));
  }

 private:
  [[nodiscard]] std::string error_body(const record&, const call_failure& why) const override {
    return codec::v2_error(why.message);
  }

  std::string model_;
  std::string version_;
  codec::v2_plan plan_;
  bool own_id_ = false;
};

class score_call final : public exchange_call {
 public:
  using exchange_call::exchange_call;

  void read(record& to, record_batch& batch) override {
    tools& t = mine();
    codec::infer_head h = head();
    codec::request_fault fault = read_priority(h);
    t.v2.terms.begin(to, batch, h, options_->infer, fault);
    if (to.error == error_code::none) {
      const http::request_view& request = exchange_->request();
      const std::string_view type = request.header("content-type");
      // Many a client says octet-stream of its JSON.
      const bool bytes = codec::holds_bytes(type) && (codec::takes_bytes(*to.model) || is_picture(type));
      if (bytes || codec::holds_form(type)) {
        fault = take_file(request.body, type, to, batch);
      } else {
        fault = codec::read_score(request.body, t.json, to, batch, options_->infer.limits());
        if (fault.code == error_code::invalid_json && is_type(type, "text/csv"))
          fault.message += "; /score takes JSON: POST text/csv to /invocations";
      }
    }
    codec::infer_terms::finish(to, batch, options_->infer, fault);
    judge(to, batch);
  }

  void reply(const record& request, const call_result& result) override {
    http::response r;
    const codec::score_metadata metadata{options_->deployment, result.model_time};
    if (!mine().score.score(r.body, request, result.outputs, metadata, result.explanation))
      return not_finite(request);
    exchange_->reply(std::move(r));
  }

 private:
  static bool is_picture(std::string_view type) { return is_type(type.substr(0, 6), "image/"); }

  static codec::request_fault take_file(std::string_view body, std::string_view type, record& to,
                                        record_batch& batch) {
    if (codec::holds_form(type)) {
      codec::uploaded_file file;
      if (auto fault = codec::read_upload(body, type, file)) return fault;
      body = file.bytes;
    }
    if (codec::takes_bytes(*to.model)) to.value = batch.keep(body);  // scoring may outlive the exchange
    return codec::take_bytes(to, batch, type);
  }

  [[nodiscard]] std::string error_body(const record& request, const call_failure& why) const override {
    return codec::score_error(
        request, why.code, why.message,
        denied_ != guard::refusal::none ? guard::stage_of(denied_) : std::string_view());
  }
};

class invocations_call final : public exchange_call {
 public:
  invocations_call(http::exchange_ptr exchange, door_options_ptr options, std::string model, caller who)
      : exchange_call(std::move(exchange), std::move(options), std::move(who)), model_(std::move(model)) {}

  void read(record& to, record_batch& batch) override {
    tools& t = mine();
    codec::infer_head h = head();
    h.model = model_;
    codec::request_fault fault = read_priority(h);
    t.v2.terms.begin(to, batch, h, options_->infer, fault);
    if (to.error == error_code::none) {
      const http::request_view& request = exchange_->request();
      const auto most = options_->infer.limits();
      const std::string_view type = request.header("content-type");
      if (is_type(type, "text/csv")) {
        fault = codec::read_csv(request.body, to, batch, most);
      } else {
        fault = codec::read_invocations(request.body, t.json, to, batch, most);
        if (fault.code == error_code::invalid_json && !is_type(type, "application/json") &&
            !request.body.starts_with('{'))
          fault.message += "; CSV is read with Content-Type: text/csv";
      }
    }
    codec::infer_terms::finish(to, batch, options_->infer, fault);
    judge(to, batch, model_);
  }

  void reply(const record& request, const call_result& result) override {
    http::response r;
    if (!mine().score.invocations(r.body, request, result.outputs)) return not_finite(request);
    exchange_->reply(std::move(r));
  }

 private:
  [[nodiscard]] std::string error_body(const record&, const call_failure& why) const override {
    return codec::v2_error(why.message);
  }

  std::string model_;  ///< empty: the default one
};

}  // namespace

std::unique_ptr<call> make_v2_call(http::exchange_ptr exchange, door_options_ptr options, std::string model,
                                   std::string version, caller who) {
  return std::make_unique<v2_call>(std::move(exchange), std::move(options), std::move(model),
                                   std::move(version), std::move(who));
}

std::unique_ptr<call> make_score_call(http::exchange_ptr exchange, door_options_ptr options, caller who) {
  return std::make_unique<score_call>(std::move(exchange), std::move(options), std::move(who));
}

std::unique_ptr<call> make_invocations_call(http::exchange_ptr exchange, door_options_ptr options,
                                            std::string model, caller who) {
  return std::make_unique<invocations_call>(std::move(exchange), std::move(options), std::move(model),
                                            std::move(who));
}

int http_status_of(error_code code) {
  switch (code) {
    case error_code::none:
      return 200;
    case error_code::invalid_json:
    case error_code::invalid_features:
      return 400;
    case error_code::too_large:
      return 413;
    case error_code::model_not_found:
      return 404;
    case error_code::deadline_exceeded:
      return 504;
    case error_code::model_failed:
      return 500;
    case error_code::unavailable:
      return 503;
  }
  return 500;
}

}  // namespace troupe::serving

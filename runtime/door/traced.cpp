#include "runtime/door/traced.hpp"

#include <string>
#include <utility>
#include <vector>

#include "runtime/door/paths.hpp"
#include "runtime/http/text.hpp"

namespace troupe::serving {
namespace {

class traced_exchange final : public http::exchange {
 public:
  traced_exchange(http::exchange_ptr inner, std::shared_ptr<const observe::request_trace> trace)
      : inner_(std::move(inner)), trace_(std::move(trace)) {}
  ~traced_exchange() override {
    if (!replied_) trace_->end(trace_->now(), {}, inner_->gone() ? "client_gone" : "not_answered");
  }

  [[nodiscard]] const http::request_view& request() const override { return inner_->request(); }
  [[nodiscard]] bool gone() const override { return inner_->gone(); }
  [[nodiscard]] std::shared_ptr<const observe::request_trace> trace() const override { return trace_; }

  void reply(http::response&& what) override {
    replied_ = true;
    const std::string status = std::to_string(what.status);
    trace_->end(trace_->now(), {{"http.response.status_code", std::int64_t{what.status}}},
                what.status >= 500 ? std::string_view(status) : std::string_view());
    what.headers.emplace_back("traceresponse", trace_->traceparent());
    inner_->reply(std::move(what));
  }

 private:
  http::exchange_ptr inner_;
  std::shared_ptr<const observe::request_trace> trace_;
  bool replied_ = false;
};

}  // namespace

http::exchange_ptr trace(const observe::tracer& by, const http::exchange_ptr& e, std::string_view route,
                         bool may_begin) {
  const http::request_view& r = e->request();
  auto t = by.begin(door::http, r.header("traceparent"), r.arrived, may_begin);
  if (!t) return nullptr;
  std::vector<std::string_view> states;
  for (const auto& [name, value] : r.headers)
    if (http::same_name(name, "tracestate")) states.push_back(value);
  t->set_state(policy::join_tracestate(states));
  const std::string method(r.method);
  observe::attributes what = {{"http.request.method", method},
                              {"url.path", std::string(r.path)},
                              {"url.scheme", "http"},
                              {"network.protocol.name", "http"},
                              {"client.address", std::string(r.client)},
                              {"http.request.body.size", static_cast<std::int64_t>(r.body.size())},
                              {"troupe.request_id", std::string(r.correlation_id)}};
  if (const auto agent = r.header("user-agent"); !agent.empty())
    what.push_back({"user_agent.original", std::string(agent)});
  std::string name = method;
  if (!route.empty()) {
    const std::string path = template_of(route);
    what.push_back({"http.route", path});
    name += " " + path;
  }
  t->describe(observe::span_kind::server, std::move(name), std::move(what));
  return std::make_shared<traced_exchange>(e, std::move(t));
}

void follow(const http::exchange& e, record& r, record_batch& batch) {
  auto t = e.trace();
  if (!t) return;
  r.trace = t.get();
  batch.traces.push_back(std::move(t));
}

}  // namespace troupe::serving

#include "runtime/observe/trace.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "runtime/observe/otlp_json.hpp"

namespace troupe::observe {
namespace {

using nlohmann::json;

constexpr std::string_view parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
constexpr std::string_view unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

class collected final : public span_sink {
 public:
  void put(span&& one) override {
    const std::lock_guard lock(mutex);
    spans.push_back(std::move(one));
  }
  std::mutex mutex;
  std::vector<span> spans;
};

struct traced {
  explicit traced(double door_ratio = 0, double kafka_ratio = 0) {
    tracer_options o;
    o.door_ratio = door_ratio;
    o.kafka_ratio = kafka_ratio;
    o.kafka_group = "group";
    o.results_topic = "results";
    o.dead_letter_topic = "dead";
    o.seed = 3;
    o.clock = [this] { return now; };
    o.wall = [] { return std::int64_t{1'700'000'000'000'000'000}; };
    by = tracer::make(std::move(o), to);
  }
  std::int64_t now = 1'000;
  std::shared_ptr<collected> to = std::make_shared<collected>();
  std::shared_ptr<const tracer> by;
};

std::string text_of(const span& s, std::string_view name) {
  for (const auto& a : s.attributes)
    if (a.name == name) {
      if (const auto* t = std::get_if<std::string>(&a.value)) return *t;
      if (const auto* n = std::get_if<std::int64_t>(&a.value)) return std::to_string(*n);
      return std::get<bool>(a.value) ? "true" : "false";
    }
  return "(none)";
}

TEST(tracer, a_sampled_parent_is_followed_and_an_unsampled_one_obeyed) {
  for (const double ratio : {0.0, 1.0}) {
    traced t(ratio, ratio);
    for (const door via : {door::http, door::grpc, door::kafka}) {
      const auto one = t.by->begin(via, parent, 500);
      ASSERT_TRUE(one) << ratio;
      EXPECT_EQ(one->id(), parent.substr(3, 32));
      EXPECT_NE(one->traceparent(), parent);
      EXPECT_EQ(one->traceparent().substr(0, 36), parent.substr(0, 36));
      EXPECT_FALSE(t.by->begin(via, unsampled, 500)) << ratio;
    }
  }
}

TEST(tracer, without_a_parent_each_door_has_its_own_ratio) {
  traced doors(1, 0), kafka(0, 1);
  for (const std::string_view text : {"", "00-broken"}) {
    EXPECT_TRUE(doors.by->begin(door::http, text, 0));
    EXPECT_TRUE(doors.by->begin(door::grpc, text, 0));
    EXPECT_FALSE(doors.by->begin(door::kafka, text, 0));
    EXPECT_FALSE(kafka.by->begin(door::http, text, 0));
    EXPECT_TRUE(kafka.by->begin(door::kafka, text, 0));
  }
  EXPECT_FALSE(doors.by->begin(door::http, "", 0, false)) << "a probe begins none";
  EXPECT_TRUE(doors.by->begin(door::http, parent, 0, false)) << "but follows one";
}

TEST(tracer, ids_are_new_and_a_ratio_is_kept) {
  traced t(0.25);
  std::set<std::string> ids;
  int taken = 0;
  for (int i = 0; i < 20'000; ++i)
    if (const auto one = t.by->begin(door::http, "", 0)) {
      ++taken;
      EXPECT_TRUE(ids.insert(one->id()).second);
      EXPECT_TRUE(ids.insert(one->traceparent().substr(36, 16)).second);
      EXPECT_EQ(one->traceparent().substr(52), "-03") << "sampled, and random";
    }
  EXPECT_NEAR(taken, 5'000, 5 * 62);
}

TEST(request_trace, spans_are_one_tree_with_the_callers_span_above) {
  traced t;
  t.now = 2'000;
  {
    const auto one = t.by->begin(door::http, parent, 1'500);
    one->set_state("a=1");
    one->describe(span_kind::server, "POST /score", {{"http.request.method", "POST"}});
    one->add({{"troupe.request_id", "r-1"}});
    one->child("queue", 1'600, 1'700, {{"troupe.class", "bulk"}});
    one->child("score", 1'700, 1'650, {}, "model_failed");  // a clock that went back
    one->end(3'000, {{"http.response.status_code", std::int64_t{500}}}, "500");
    one->end(4'000);
    one->child("late", 5'000, 5'001);
  }
  auto& all = t.to->spans;
  ASSERT_EQ(all.size(), 4U);
  const span& own = all[2];
  EXPECT_EQ(own.name, "POST /score");
  EXPECT_EQ(policy::hex(own.parent), parent.substr(36, 16));
  EXPECT_TRUE(own.remote_parent);
  EXPECT_TRUE(own.failed);
  EXPECT_EQ(text_of(own, "error.type"), "500");
  EXPECT_EQ(text_of(own, "http.response.status_code"), "500");
  EXPECT_EQ(text_of(own, "troupe.request_id"), "r-1");
  EXPECT_EQ(own.end_ns - own.begin_ns, 1'500);
  EXPECT_EQ(own.begin_ns, 1'700'000'000'000'000'000 - 500);
  std::set<std::uint64_t> ids;
  for (const auto& s : all) {
    EXPECT_TRUE(ids.insert(s.id).second);
    EXPECT_EQ(s.state, "a=1");
    EXPECT_EQ(policy::hex(s.trace), parent.substr(3, 32));
    if (&s == &own) continue;
    EXPECT_EQ(s.parent, own.id);
    EXPECT_FALSE(s.remote_parent);
  }
  EXPECT_EQ(all[0].end_ns - all[0].begin_ns, 100);
  EXPECT_EQ(all[1].end_ns, all[1].begin_ns);
  EXPECT_TRUE(all[1].failed);
}

TEST(request_trace, one_that_nobody_answers_is_told_all_the_same) {
  traced t(1);
  t.by->begin(door::http, "", 0)->describe(span_kind::server, "GET /x", {});
  ASSERT_EQ(t.to->spans.size(), 1U);
  EXPECT_TRUE(t.to->spans[0].failed);
  EXPECT_EQ(t.to->spans[0].message, "not_answered");
  EXPECT_FALSE(t.to->spans[0].remote_parent);
  EXPECT_EQ(t.to->spans[0].parent, 0U);
}

TEST(request_trace, what_is_sent_names_the_producers_span) {
  traced t;
  const auto one = t.by->begin(door::kafka, parent, 0);
  EXPECT_NE(one->sends(10), one->sends(20)) << "an answer that is sent again has a span of its own";
  const std::string header = one->sends(30);
  one->sent(50, true, {});
  one->sent(60, true, {});
  ASSERT_EQ(t.to->spans.size(), 1U) << "of the last one, once";
  const span& s = t.to->spans[0];
  EXPECT_EQ(policy::hex(s.id), header.substr(36, 16));
  EXPECT_EQ(s.kind, span_kind::producer);
  EXPECT_EQ(s.name, "send dead");
  EXPECT_EQ(s.end_ns - s.begin_ns, 20);
  EXPECT_EQ(text_of(s, "messaging.destination.name"), "dead");
}

TEST(request_trace, many_threads_may_tell) {
  traced t;
  const auto one = t.by->begin(door::http, parent, 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 500; ++n) {
        one->child("x", n, n + 1);
        one->add({{"troupe.n", std::int64_t{n}}});
        one->end(n);
      }
    });
  for (auto& th : threads) th.join();
  EXPECT_EQ(t.to->spans.size(), 2'001U);
}

struct poll {
  void add(std::vector<header> headers) {
    record& r = batch->records.emplace_back();
    r.offset = static_cast<std::int64_t>(batch->records.size());
    r.value = "{}";
    r.request_id = "\"r-7\"";
    r.headers_begin = static_cast<std::uint32_t>(batch->headers.size());
    r.headers_count = static_cast<std::uint32_t>(headers.size());
    batch->headers.insert(batch->headers.end(), headers.begin(), headers.end());
  }
  batch_ptr batch = [] {
    auto b = batch_ptr::make();
    b->topic = std::make_shared<const std::string>("requests");
    b->partition = 2;
    return b;
  }();
};

TEST(tracer, the_records_of_a_poll_that_have_a_sampled_parent_are_traced) {
  traced t;
  poll p;
  p.add({});
  p.add({{"k", "v"}, {"traceparent", parent}, {"tracestate", "a=1"}, {"tracestate", "b=2"}});
  p.add({{"traceparent", unsampled}});
  p.add({{"traceparent", "nonsense"}, {"traceparent", parent}, {"tracestate", "A=1"}});
  p.add({{"traceparent", {}}});
  t.by->begin(*p.batch);
  EXPECT_EQ(p.batch->traces.size(), 2U);
  std::vector<bool> has;
  for (const auto& r : p.batch->records) has.push_back(r.trace != nullptr);
  EXPECT_THAT(has, testing::ElementsAre(false, true, false, true, false));
  EXPECT_EQ(p.batch->records[1].trace->state(), "a=1,b=2");
  EXPECT_EQ(p.batch->records[3].trace->state(), "");
  p.batch->records[1].trace->end(t.now);
  const span& s = t.to->spans.at(0);
  EXPECT_EQ(s.kind, span_kind::consumer);
  EXPECT_EQ(s.name, "process requests");
  EXPECT_EQ(text_of(s, "messaging.kafka.offset"), "2");
  EXPECT_EQ(text_of(s, "messaging.destination.partition.id"), "2");
  EXPECT_EQ(text_of(s, "messaging.consumer.group.name"), "group");
  EXPECT_EQ(text_of(s, "troupe.request_id"), "r-7");
}

TEST(tracer, records_begin_traces_only_where_that_is_asked_for) {
  traced t(1, 1);
  poll p;
  p.add({});
  p.add({{"traceparent", unsampled}});
  t.by->begin(*p.batch);
  EXPECT_TRUE(p.batch->records[0].trace);
  EXPECT_FALSE(p.batch->records[1].trace);
}

bool is_hex(const json& j, std::size_t size) {
  const auto text = j.get<std::string>();
  return text.size() == size && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// The shapes of opentelemetry-proto's JSON: exactly these members, of these types.
void expect_otlp(const json& request) {
  const auto attributes_fine = [](const json& list) {
    for (const auto& a : list) {
      EXPECT_EQ(a.size(), 2U);
      EXPECT_FALSE(a.at("key").get<std::string>().empty());
      const auto& v = a.at("value");
      ASSERT_EQ(v.size(), 1U);
      EXPECT_TRUE(v.contains("intValue")    ? v["intValue"].is_string()
                  : v.contains("boolValue") ? v["boolValue"].is_boolean()
                                            : v.at("stringValue").is_string());
    }
  };
  ASSERT_EQ(request.at("resourceSpans").size(), 1U);
  const auto& resource = request["resourceSpans"][0];
  attributes_fine(resource.at("resource").at("attributes"));
  ASSERT_EQ(resource.at("scopeSpans").size(), 1U);
  EXPECT_EQ(resource["scopeSpans"][0].at("scope").at("name"), "troupe");
  const std::set<std::string> known = {"traceId",         "spanId",     "traceState", "parentSpanId",
                                       "flags",           "name",       "kind",       "startTimeUnixNano",
                                       "endTimeUnixNano", "attributes", "status"};
  for (const auto& s : resource["scopeSpans"][0].at("spans")) {
    for (const auto& [name, value] : s.items()) EXPECT_TRUE(known.contains(name)) << name;
    EXPECT_TRUE(is_hex(s.at("traceId"), 32));
    EXPECT_TRUE(is_hex(s.at("spanId"), 16));
    EXPECT_TRUE(!s.contains("parentSpanId") || is_hex(s["parentSpanId"], 16));
    EXPECT_TRUE(s.at("kind").is_number_integer());
    EXPECT_TRUE(s.at("flags").is_number_unsigned());
    EXPECT_TRUE(s.at("startTimeUnixNano").is_string());
    EXPECT_LE(s["startTimeUnixNano"].get<std::string>(), s.at("endTimeUnixNano").get<std::string>());
    attributes_fine(s.at("attributes"));
  }
}

TEST(otlp_json, spans_are_written_as_the_specification_has_them) {
  traced t(1);
  {
    const auto one = t.by->begin(door::http, parent, 500);
    one->set_state("a=1");
    one->describe(span_kind::server, "POST \"/x\"\n", {{"url.path", std::string("/\xff")}});
    one->child("score", 600, 700, {{"troupe.batch.rows", std::int64_t{1} << 60}, {"troupe.flag", true}});
    one->end(900, {}, "500");
    (void)t.by->begin(door::grpc, "", 500);
  }
  const std::string text =
      otlp_request({{{"service.name", "troupe"}, {"process.pid", std::int64_t{7}}}, "1.0"}, t.to->spans);
  const json request = json::parse(text);
  expect_otlp(request);
  const auto& spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"];
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans[0]["attributes"][0]["value"]["intValue"], "1152921504606846976");
  EXPECT_EQ(spans[0]["kind"], 1);
  EXPECT_EQ(spans[0]["flags"], 0x101);
  EXPECT_EQ(spans[1]["kind"], 2);
  EXPECT_EQ(spans[1]["flags"], 0x301) << "the parent is remote";
  EXPECT_EQ(spans[1]["traceState"], "a=1");
  EXPECT_EQ(spans[1]["status"]["code"], 2);
  EXPECT_EQ(spans[1]["traceId"], parent.substr(3, 32));
  EXPECT_FALSE(spans[2].contains("parentSpanId"));
}

TEST(otlp_json, what_a_receiver_says_may_be_anything) {
  EXPECT_EQ(otlp_response("{}").spans, 0U);
  EXPECT_EQ(otlp_response("").spans, 0U);
  EXPECT_EQ(otlp_response("\x80[").spans, 0U);
  EXPECT_EQ(otlp_response(R"({"partialSuccess": {"rejectedSpans": "3", "errorMessage": "full"}})").spans, 3U);
  EXPECT_EQ(otlp_response(R"({"partialSuccess": {"rejectedSpans": 4}})").spans, 4U);
  EXPECT_EQ(otlp_response(R"({"partialSuccess": {"rejectedSpans": -1}})").spans, 0U);
  EXPECT_EQ(otlp_response(R"({"partialSuccess": {"rejectedSpans": {}}, "errorMessage": 1})").spans, 0U);
  EXPECT_EQ(otlp_response(R"({"partialSuccess": 1})").spans, 0U);
}

}  // namespace
}  // namespace troupe::observe

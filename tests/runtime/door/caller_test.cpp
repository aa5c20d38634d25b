// What a client may ask for, of a request and of a batch's line.
#include "runtime/door/caller.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/codec/request_head.hpp"
#include "runtime/guard/sha256.hpp"
#include "runtime/model/model.hpp"

namespace troupe::serving {
namespace {

using ::testing::HasSubstr;

guard::guard_options clients() {
  guard::guard_options o;
  o.required = true;
  o.clients.resize(2);
  o.clients[0].name = "portal";
  o.clients[0].models = {"iris"};
  o.clients[0].classes = {"standard", "bulk"};
  o.clients[1].name = "all";
  return o;
}

struct stand {
  std::shared_ptr<guard::gatekeeper> keeper =
      std::make_shared<guard::gatekeeper>(clients(), guard::guard_ports());
  std::shared_ptr<const caller_rules> rules = std::make_shared<const caller_rules>(
      caller_rules{keeper, {"interactive", "standard", "bulk"}, door::http});
  std::shared_ptr<const model::loaded_model> iris = made("iris"), other = made("other");
  batch_ptr batch = batch_ptr::make();

  static std::shared_ptr<const model::loaded_model> made(const char* name) {
    model::loaded_model::parts p;
    p.name = std::string(name);
    p.version = std::string("1");
    p.schema = model::schema({{"a", false}}, true);
    return std::make_shared<const model::loaded_model>(std::move(p));
  }
  record read(const model::loaded_model* m, std::uint8_t cls = 1) {
    record r;
    r.batch = batch.get();
    r.model = m;
    r.cls = cls;
    r.rows = 1;
    r.values_begin = static_cast<std::uint32_t>(batch->values.size());
    batch->values.push_back(1);
    return r;
  }
  std::string line(const model::loaded_model* m, std::string_view client, std::string_view model = {},
                   error_code error = error_code::none) {
    record r = read(m);
    if (error != error_code::none) codec::refuse(r, *batch, error, "as it was");
    judge_line(*rules, client, model, r, *batch);
    return std::string(r.error_message);
  }
};

TEST(Caller, WithoutAPriorityAClassOfItsOwn) {
  stand s;
  caller portal(s.keeper->look_up("portal").who, s.rules), all(s.keeper->look_up("all").who, s.rules);
  EXPECT_EQ(portal.default_class(0), 1) << "the most urgent one";
  EXPECT_EQ(portal.default_class(2), 2) << "the door's, where it may use that";
  EXPECT_EQ(all.default_class(0), 0);
  EXPECT_EQ(caller().default_class(2), 2);
  record r = s.read(s.iris.get(), 0);
  EXPECT_EQ(portal.judge(r, *s.batch), guard::refusal::client_class);
  EXPECT_EQ(r.error_message,
            "this client may not use the class 'interactive'; ask for a priority of its own: 2 (standard), 3 "
            "(bulk)");
  EXPECT_EQ(r.rows, 0U);
}

TEST(Caller, ALineIsJudgedAsItsClientMayNow) {
  stand s;
  EXPECT_EQ(s.line(s.iris.get(), "portal"), "");
  EXPECT_EQ(s.line(s.other.get(), "portal"), "this client may not use this model");
  EXPECT_EQ(s.line(s.other.get(), "all"), "");
  EXPECT_EQ(s.line(s.other.get(), ""), "") << "nobody's";
  EXPECT_EQ(s.line(nullptr, "portal", "", error_code::model_not_found), "this client may not use this model")
      << "what is loaded is not its to know";
  EXPECT_EQ(s.line(nullptr, "portal", "iris", error_code::model_not_found), "as it was");
  EXPECT_EQ(s.line(nullptr, "all", "", error_code::model_not_found), "as it was");
  EXPECT_EQ(s.line(nullptr, "portal", "", error_code::invalid_json), "as it was");
  auto o = clients();
  o.clients[0].models = {"other"};
  s.keeper->reload(o);
  EXPECT_EQ(s.line(s.iris.get(), "portal"), "this client may not use this model");
  EXPECT_EQ(s.line(s.other.get(), "portal"), "");
  o = clients();
  o.clients.erase(o.clients.begin());
  s.keeper->reload(o);
  EXPECT_THAT(s.line(s.iris.get(), "portal"), HasSubstr("not known any more"));
}

}  // namespace
}  // namespace troupe::serving

#include "runtime/traffic/requests.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "inference.pb.h"
#include "runtime/traffic/grpc_run.hpp"

namespace troupe::traffic {
namespace {

using nlohmann::json;

const std::vector<std::string> three = {"[1,2]", "[3,4]", "[5,6.5]"};

TEST(requests, rows_go_by_turns) {
  request_options o;
  EXPECT_EQ(score_bodies(three, o).size(), 3U);
  o.rows = 2;
  const auto two = score_bodies(three, o);
  ASSERT_EQ(two.size(), 3U);
  EXPECT_EQ(two[0].bytes, R"({"data":[[1,2],[3,4]]})");
  EXPECT_EQ(two[1].bytes, R"({"data":[[5,6.5],[1,2]]})");
  o.rows = 3;
  EXPECT_EQ(score_bodies(three, o).size(), 1U);
}

TEST(requests, v2_says_urgency_and_deadline) {
  request_options o;
  o.priority = 1;
  o.timeout_us = 5000;
  const auto j = json::parse(v2_bodies(three, o).at(2).bytes);
  EXPECT_EQ(j, json::parse(R"({"parameters":{"priority":1,"timeout":5000},
    "inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","data":[5,6.5]}]})"));
  EXPECT_FALSE(json::parse(v2_bodies(three, {}).at(0).bytes).contains("parameters"));
}

TEST(requests, binary_and_grpc_hold_the_same_numbers) {
  request_options o;
  o.rows = 3;
  o.model = "m";
  o.model_version = "2";
  o.priority = 3;
  const auto binary = binary_bodies(three, o);
  ASSERT_EQ(binary.size(), 1U);
  const auto head = json::parse(binary[0].bytes.substr(0, binary[0].json));
  EXPECT_EQ(head["inputs"][0]["parameters"]["binary_data_size"], 24);
  EXPECT_EQ(head["inputs"][0]["shape"], json::array({3, 2}));
  const std::string raw = binary[0].bytes.substr(binary[0].json);
  ASSERT_EQ(raw.size(), 24U);
  float last = 0;
  std::memcpy(&last, raw.data() + 20, 4);
  EXPECT_EQ(last, 6.5F);
  inference::ModelInferRequest message;
  ASSERT_TRUE(message.ParseFromString(grpc_messages(three, o).at(0)));
  EXPECT_EQ(message.model_name(), "m");
  EXPECT_EQ(message.model_version(), "2");
  EXPECT_EQ(message.parameters().at("priority").int64_param(), 3);
  EXPECT_EQ(message.raw_input_contents(0), raw);
}

TEST(requests, rows_that_no_tensor_holds_are_named) {
  const auto wrong = [](std::vector<std::string> rows) -> std::string {
    try {
      (void)v2_bodies(rows, {});
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(wrong({"[1]", R"({"age":1})"}).find("row 2"), std::string::npos);
  EXPECT_NE(wrong({"[1]", "[1,2]"}).find("row 2 has 2 numbers"), std::string::npos);
  EXPECT_NE(wrong({R"(["a"])"}).find("row 1"), std::string::npos);
  EXPECT_NE(wrong({"[]"}).find("row 1"), std::string::npos);
}

TEST(requests, generated_rows_are_the_same_each_time_and_differ) {
  const auto rows = generated_rows(100, 10);
  EXPECT_EQ(rows, generated_rows(100, 10));
  EXPECT_EQ(rows, generated_rows(100, 10, usual_seed));
  EXPECT_EQ(rows.front().substr(0, 20), "[0.041889,-0.046683,");
  const auto others = generated_rows(100, 10, 8);
  EXPECT_EQ(others, generated_rows(100, 10, 8));
  for (const auto& row : others) EXPECT_EQ(std::count(rows.begin(), rows.end(), row), 0) << row;
  EXPECT_NE(rows[0], rows[1]);
  EXPECT_EQ(json::parse(rows[99]).size(), 10U);
}

TEST(addresses, are_read) {
  http_target to = read_url("https://[::1]:8443/a/b?c=1");
  EXPECT_TRUE(to.tls);
  EXPECT_EQ(to.host, "::1");
  EXPECT_EQ(to.port, "8443");
  EXPECT_EQ(to.path, "/a/b?c=1");
  to = read_url("http://host");
  EXPECT_EQ(to.port, "80");
  EXPECT_EQ(to.path, "/");
  for (const char* bad : {"host:8080", "ftp://host", "http://", "http://:80", "http://h:", "http://h:0",
                          "http://h:65536", "http://h:80x", "http://h/a b", "http://h/\r\nX: y"})
    EXPECT_THROW((void)read_url(bad), std::invalid_argument) << bad;
  EXPECT_EQ(read_grpc_address("host:8081").port, "8081");
  EXPECT_TRUE(read_grpc_address("https://host:8081").tls);
  EXPECT_EQ(read_grpc_address("[::1]:8081").host, "::1");
  for (const char* bad : {"host", "host:", "host:x", "host:1/path", "[::1]", "https://host", ""})
    EXPECT_THROW((void)read_grpc_address(bad), std::invalid_argument) << bad;
}

TEST(http_requests, have_their_length_and_headers) {
  http_target to = read_url("http://[::1]:80/score");
  EXPECT_EQ(http_request(to, "POST", "{}", {{"A", "b"}}),
            "POST /score HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 2\r\nA: b\r\n\r\n{}");
  EXPECT_EQ(http_request(to, "GET", "", {}), "GET /score HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
}

}  // namespace
}  // namespace troupe::traffic

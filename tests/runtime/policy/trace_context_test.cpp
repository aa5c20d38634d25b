#include "runtime/policy/trace_context.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace troupe::policy {
namespace {

const std::string id = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string span = "00f067aa0ba902b7";
const std::string good = "00-" + id + "-" + span + "-01";

std::string with(std::size_t at, char c) {
  std::string s = good;
  s[at] = c;
  return s;
}

TEST(trace_context, a_traceparent_is_read_and_written_back) {
  const auto c = read_traceparent(good);
  ASSERT_TRUE(c);
  EXPECT_EQ(hex(c->trace), id);
  EXPECT_EQ(c->span, 0x00f067aa0ba902b7U);
  EXPECT_EQ(hex(c->span), span);
  EXPECT_TRUE(c->sampled());
  EXPECT_EQ(write_traceparent(*c), good);
  EXPECT_FALSE(read_traceparent("00-" + id + "-" + span + "-00")->sampled());
}

TEST(trace_context, what_w3c_allows) {
  struct row {
    std::string text;
    bool valid;
    bool sampled;
  };
  const std::vector<row> table = {
      {good, true, true},
      {"00-" + id + "-" + span + "-00", true, false},
      {"00-" + id + "-" + span + "-02", true, false},
      {"00-" + id + "-" + span + "-ff", true, true},
      // A later version is read as far as it is known.
      {"01-" + id + "-" + span + "-01", true, true},
      {"cc-" + id + "-" + span + "-01-what-the-future-brings", true, true},
      {"cc-" + id + "-" + span + "-01-", true, true},
      {"01-" + id + "-" + span + "-01.more", false, false},
      {"01-" + id + "-" + span + "-011", false, false},
      // Version 00 has no more.
      {good + "-", false, false},
      {good + "-more", false, false},
      {good + " ", false, false},
      {" " + good, false, false},
      {"ff-" + id + "-" + span + "-01", false, false},
      {"00-" + std::string(32, '0') + "-" + span + "-01", false, false},
      {"00-" + id + "-" + std::string(16, '0') + "-01", false, false},
      {good.substr(0, 54), false, false},
      {"", false, false},
      {"0-" + good, false, false},
      {with(2, '_'), false, false},
      {with(35, '0'), false, false},
      {with(52, '0'), false, false},
      {with(0, 'A'), false, false},
      {with(3, 'A'), false, false},
      {with(40, 'g'), false, false},
      {with(53, 'F'), false, false},
      {with(54, '.'), false, false},
      {std::string(55, '\0'), false, false},
  };
  for (const auto& r : table) {
    EXPECT_EQ(is_traceparent(r.text), r.valid) << r.text;
    const auto read = read_traceparent(r.text);
    ASSERT_EQ(read.has_value(), r.valid) << r.text;
    EXPECT_EQ(read && read->sampled(), r.sampled) << r.text;
  }
}

TEST(trace_context, flags_that_are_not_known_are_not_passed_on) {
  const auto read = read_traceparent("00-" + id + "-" + span + "-fd");
  ASSERT_TRUE(read);
  EXPECT_EQ(write_traceparent(*read), good);
}

TEST(trace_context, random_bytes_are_read_or_refused_and_what_is_read_is_written_the_same) {
  std::mt19937 random(7);
  const std::string alphabet = "0123456789abcdef-gA";
  int valid = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = good;
    for (int n = std::uniform_int_distribution<int>(0, 2)(random); n-- > 0;)
      text[random() % text.size()] = alphabet[random() % alphabet.size()];
    text.resize(text.size() - (random() % 8 == 0 ? random() % 3 : 0));
    const auto read = read_traceparent(text);
    if (!read) continue;
    ++valid;
    EXPECT_EQ(write_traceparent(*read).substr(3, 49), text.substr(3, 49));
    EXPECT_EQ(read_traceparent(write_traceparent(*read))->trace, read->trace);
  }
  EXPECT_GT(valid, 5'000);
}

TEST(trace_context, what_a_tracestate_may_be) {
  const auto members = [](int n) {
    std::string all;
    for (int i = 0; i < n; ++i) all += (i ? ",k" : "k") + std::to_string(i) + "=v";
    return all;
  };
  const std::vector<std::pair<std::string, bool>> table = {
      {"", true},
      {"rojo=00f067aa0ba902b7", true},
      {"rojo=1,congo=t61rcWkgMzE", true},
      {"rojo=1 , congo=2", true},
      {"a=1,,b=2,", true},
      {"fw529a3039@dt=FfIyvaCgAAA", true},
      {"0tenant@vendor=x", true},
      {"a*-_/b=x y!", true},
      {members(32), true},
      {members(33), false},
      {"a=" + std::string(256, 'v'), true},
      {"a=" + std::string(257, 'v'), false},
      {std::string(256, 'k') + "=v", true},
      {std::string(257, 'k') + "=v", false},
      {"a=" + std::string(253, 'v') + ",b=" + std::string(254, 'v'), true},   // 512
      {"a=" + std::string(254, 'v') + ",b=" + std::string(254, 'v'), false},  // 513
      {"a=1,a=2", false},
      {"A=1", false},
      {"a", false},
      {"=1", false},
      {"a=", false},
      {"a=1=2", false},
      {"a b=1", false},
      {"a=\x01", false},
      {"a=\xc3\xa9", false},
  };
  for (const auto& [text, valid] : table) EXPECT_EQ(is_tracestate(text), valid) << text;
}

TEST(trace_context, several_fields_are_one_tracestate) {
  using fields = std::vector<std::string_view>;
  EXPECT_EQ(join_tracestate(fields{"a=1", " b=2 ", ""}), "a=1,b=2");
  EXPECT_EQ(join_tracestate(fields{"a=1", "a=2"}), "");
  EXPECT_EQ(join_tracestate(fields{}), "");
  const std::string half = "a=" + std::string(250, 'v');
  const std::string other = "b=" + std::string(250, 'v');
  EXPECT_EQ(join_tracestate(fields{half, other}), half + "," + other);
  EXPECT_EQ(join_tracestate(fields{half, other, "c=1,d=2,e=3"}), "");
}

TEST(trace_sampler, parents_are_obeyed_whatever_the_ratio) {
  const auto yes = *read_traceparent(good);
  const auto no = *read_traceparent("00-" + id + "-" + span + "-00");
  for (const double ratio : {0.0, 0.5, 1.0}) {
    EXPECT_TRUE(trace_sampler(ratio).takes(yes)) << ratio;
    EXPECT_FALSE(trace_sampler(ratio).takes(no)) << ratio;
  }
}

TEST(trace_sampler, a_ratio_takes_its_share_and_a_higher_one_takes_the_same_and_more) {
  std::mt19937_64 random(11);
  constexpr int n = 100'000;
  const std::vector<double> ratios = {0, 0.001, 0.01, 0.25, 0.5, 0.99, 1};
  std::vector<int> taken(ratios.size());
  for (int i = 0; i < n; ++i) {
    trace_id one;
    for (auto& b : one) b = static_cast<std::uint8_t>(random());
    bool before = false;
    for (std::size_t k = 0; k < ratios.size(); ++k) {
      const bool takes = trace_sampler(ratios[k]).takes(one);
      EXPECT_TRUE(takes || !before) << "a lower ratio took it";
      taken[k] += takes;
      before = takes;
    }
  }
  EXPECT_EQ(taken.front(), 0);
  EXPECT_EQ(taken.back(), n);
  for (std::size_t k = 0; k < ratios.size(); ++k) {
    const double expected = ratios[k] * n;
    EXPECT_NEAR(taken[k], expected, 5 * std::sqrt(expected * (1 - ratios[k])) + 1) << ratios[k];
  }
}

TEST(trace_sampler, only_the_last_56_bits_count) {
  trace_id low{}, high{};
  high.fill(0xff);
  low[8] = 0xff;  // above the 56 bits
  EXPECT_FALSE(trace_sampler(0.5).takes(low));
  EXPECT_TRUE(trace_sampler(0.5).takes(high));
  high[8] = 0;
  EXPECT_TRUE(trace_sampler(0.5).takes(high));
}

TEST(trace_sampler, ratios_beyond_their_range_are_the_nearest) {
  EXPECT_TRUE(trace_sampler(-1).never());
  EXPECT_TRUE(trace_sampler(std::nan("")).never());
  EXPECT_FALSE(trace_sampler(1e-9).never());
  EXPECT_TRUE(trace_sampler(7).takes(trace_id{}));
}

}  // namespace
}  // namespace troupe::policy

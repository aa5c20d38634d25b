#include "runtime/policy/address.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace {

using namespace troupe::policy;

std::string shown(const address& a) {
  std::string text;
  constexpr const char* digits = "0123456789abcdef";
  for (const auto b : a.bytes) {
    text += digits[b >> 4];
    text += digits[b & 15];
  }
  return text;
}

TEST(address, is_read) {
  const std::string v4 = "00000000000000000000ffff";
  const std::vector<std::pair<const char*, std::string>> good = {
      {"192.0.2.1", v4 + "c0000201"},
      {" 192.0.2.1\t", v4 + "c0000201"},
      {"192.0.2.1:8080", v4 + "c0000201"},
      {"::ffff:192.0.2.1", v4 + "c0000201"},
      {"0.0.0.0", v4 + "00000000"},
      {"255.255.255.255", v4 + "ffffffff"},
      {"::", "00000000000000000000000000000000"},
      {"::1", "00000000000000000000000000000001"},
      {"1::", "00010000000000000000000000000000"},
      {"2001:db8::8:800:200C:417a", "20010db80000000000080800200c417a"},
      {"1:2:3:4:5:6:7:8", "00010002000300040005000600070008"},
      {"1:2:3:4:5:6:1.2.3.4", "00010002000300040005000601020304"},
      {"1::8", "00010000000000000000000000000008"},
      {"1:2:3:4:5:6:7::", "00010002000300040005000600070000"},
      {"[2001:db8::1]:443", "20010db8000000000000000000000001"},
      {"[::1]", "00000000000000000000000000000001"},
  };
  for (const auto& [text, bytes] : good) {
    const auto a = parse_address(text);
    ASSERT_TRUE(a) << text;
    EXPECT_EQ(shown(*a), bytes) << text;
  }
  for (const char* text : {"",
                           " ",
                           "1.2.3",
                           "1.2.3.4.5",
                           "256.1.1.1",
                           "01.2.3.4",
                           "1.2.3.4:",
                           "1.2.3.4:70000",
                           "1.2.3.4:x",
                           "a.b.c.d",
                           ":",
                           ":::",
                           "1:",
                           "1::2::3",
                           "1:2:3:4:5:6:7",
                           "1:2:3:4:5:6:7:8:9",
                           "1:2:3:4:5:6:7:1.2.3.4",
                           "12345::",
                           "g::",
                           "::1%eth0",
                           "[::1",
                           "[::1]80",
                           "[1.2.3.4]",
                           "1.2.3.4, 5.6.7.8",
                           "unknown",
                           "_hidden",
                           "1:2:3:4:5:6:7:8::",
                           "1.2.3.4::",
                           "::1.2.3.4:5",
                           "00000000000000000000000000000000000000000000000000000000000000001"})
    EXPECT_FALSE(parse_address(text)) << text;
}

TEST(address, any_text_is_read_or_refused) {
  std::mt19937 random(11);
  const std::string alphabet = "0123456789abcdefF:.[]/% ,x";
  for (int i = 0; i < 200'000; ++i) {
    std::string text(random() % 24, ' ');
    for (auto& c : text) c = alphabet[random() % alphabet.size()];
    (void)parse_address(text);
    (void)parse_network(text);
  }
}

TEST(network, holds_what_has_its_prefix) {
  const auto in = [](const char* net, const char* a) {
    const auto n = parse_network(net);
    EXPECT_TRUE(n) << net;
    return n && n->contains(*parse_address(a));
  };
  EXPECT_TRUE(in("10.0.0.0/8", "10.255.1.2"));
  EXPECT_FALSE(in("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(in("172.16.0.0/12", "172.31.255.255"));
  EXPECT_FALSE(in("172.16.0.0/12", "172.32.0.0"));
  EXPECT_TRUE(in("192.0.2.1", "::ffff:192.0.2.1"));
  EXPECT_TRUE(in("0.0.0.0/0", "1.2.3.4"));
  EXPECT_FALSE(in("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(in("::/0", "1.2.3.4"));
  EXPECT_TRUE(in("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(in("2001:db8::/33", "2001:db8:8000::1"));
  for (const char* text : {"", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/-1", "::/129",
                           "10.0.0.0:80", "10.0.0.0:80/8", "[::1]/128", "ten/8", "10.0.0.0/8/8"})
    EXPECT_FALSE(parse_network(text)) << text;
}

TEST(client, is_the_last_address_that_no_trusted_proxy_wrote) {
  const std::vector<network> trusted = {*parse_network("10.0.0.0/8"), *parse_network("fd00::/8")};
  const auto who = [&](const char* peer, const char* forwarded) {
    return client_of(*parse_address(peer), forwarded, trusted);
  };
  EXPECT_EQ(who("198.51.100.7", "203.0.113.9"), *parse_address("198.51.100.7"))
      << "an untrusted peer says nothing";
  EXPECT_EQ(who("10.0.0.1", "203.0.113.9"), *parse_address("203.0.113.9"));
  EXPECT_EQ(who("10.0.0.1", "1.1.1.1, 203.0.113.9"), *parse_address("203.0.113.9"))
      << "the client wrote 1.1.1.1";
  EXPECT_EQ(who("10.0.0.1", "203.0.113.9, 10.1.1.1,fd00::2"), *parse_address("203.0.113.9"));
  EXPECT_EQ(who("10.0.0.1", ""), *parse_address("10.0.0.1"));
  EXPECT_EQ(who("10.0.0.1", "nonsense"), *parse_address("10.0.0.1"));
  EXPECT_EQ(who("10.0.0.1", "nonsense, 10.0.0.2"), *parse_address("10.0.0.2"));
  EXPECT_EQ(who("10.0.0.1", "10.0.0.3, 10.0.0.2"), *parse_address("10.0.0.3")) << "all trusted: the first";
}

TEST(client, of_ipv6_is_a_network_of_64_bits) {
  EXPECT_EQ(limited_part(*parse_address("2001:db8::1")), limited_part(*parse_address("2001:db8::ffff:1")));
  EXPECT_NE(limited_part(*parse_address("2001:db8::1")), limited_part(*parse_address("2001:db8:0:1::1")));
  EXPECT_NE(limited_part(*parse_address("192.0.2.1")), limited_part(*parse_address("192.0.2.2")));
}

}  // namespace

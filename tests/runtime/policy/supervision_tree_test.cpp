#include "runtime/policy/supervision_tree.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "runtime/policy/stuck_watch.hpp"

namespace troupe::policy {
namespace {

using id = supervision_tree::id;

group_rules rules(restart_strategy how, std::uint32_t intensity = 100, std::uint32_t groups = 100) {
  group_rules r;
  r.strategy = how;
  r.children.intensity = intensity;
  r.children.period = r.groups.period = 60 * second;
  r.groups.intensity = groups;
  r.children.jitter = r.groups.jitter = 0;
  r.children.first_delay = 10 * millisecond;
  r.groups.first_delay = 500 * millisecond;
  return r;
}

/// root: a, inner (x, y, z), b
struct small_tree {
  small_tree(restart_strategy outer, restart_strategy inner_how, std::uint32_t intensity = 100,
             std::uint32_t groups = 100)
      : tree("node", rules(outer, intensity, groups)) {
    a = tree.add_child(supervision_tree::root, "a");
    inner = tree.add_group(supervision_tree::root, "inner", rules(inner_how, intensity, groups));
    x = tree.add_child(inner, "x");
    y = tree.add_child(inner, "y");
    z = tree.add_child(inner, "z");
    b = tree.add_child(supervision_tree::root, "b");
  }
  std::string names(const std::vector<id>& of) const {
    std::string out;
    for (const id i : of)
      for (const auto& [name, n] : {std::pair("a", a), {"b", b}, {"x", x}, {"y", y}, {"z", z}})
        if (n == i) out += name;
    return out;
  }
  supervision_tree tree;
  id a{}, b{}, inner{}, x{}, y{}, z{};
};

constexpr auto one = restart_strategy::one_for_one;
constexpr auto rest = restart_strategy::rest_for_one;
constexpr auto all = restart_strategy::one_for_all;

TEST(supervision_tree, a_strategy_says_who_goes_with_the_one_that_crashed) {
  struct row {
    restart_strategy outer, inner;
    char who;
    const char *stop, *start;
  };
  for (const auto& [outer, inner, who, stop, start] : {row{one, one, 'y', "", "y"},
                                                       {one, rest, 'y', "z", "yz"},
                                                       {one, rest, 'x', "zy", "xyz"},
                                                       {one, rest, 'z', "", "z"},
                                                       {one, all, 'y', "zx", "xyz"},
                                                       {rest, one, 'a', "bzyx", "axyzb"},
                                                       {rest, one, 'b', "", "b"},
                                                       {all, one, 'b', "zyxa", "axyzb"},
                                                       {all, one, 'y', "", "y"},
                                                       {rest, all, 'x', "zy", "xyz"}}) {
    small_tree t(outer, inner);
    const std::map<char, id> ids = {{'a', t.a}, {'b', t.b}, {'x', t.x}, {'y', t.y}, {'z', t.z}};
    const auto d = t.tree.on_crash(ids.at(who), second);
    const std::string which =
        std::string(to_string(outer)) + "/" + std::string(to_string(inner)) + " " + std::string(1, who);
    EXPECT_EQ(t.names(d.stop), stop) << which;
    EXPECT_EQ(t.names(d.start), start) << which;
    EXPECT_EQ(d.after, 10 * millisecond) << which;
    EXPECT_TRUE(d.spent.empty()) << which;
    EXPECT_FALSE(d.give_up);
  }
}

TEST(supervision_tree, a_group_that_spends_its_budget_is_restarted_by_the_strategy_of_the_one_above) {
  for (const auto& [outer, stop, start] :
       {std::tuple(one, "zy", "xyz"), {rest, "bzy", "xyzb"}, {all, "bzya", "axyzb"}}) {
    small_tree t(outer, one, 2);
    EXPECT_TRUE(t.tree.on_crash(t.x, 1 * second).spent.empty());
    EXPECT_TRUE(t.tree.on_crash(t.y, 2 * second).spent.empty());
    const auto d = t.tree.on_crash(t.x, 3 * second);
    EXPECT_EQ(d.spent, std::vector<std::string>{"inner"});
    EXPECT_FALSE(d.give_up);
    EXPECT_EQ(t.names(d.stop), stop);
    EXPECT_EQ(t.names(d.start), start);
    EXPECT_EQ(d.after, 500 * millisecond);
    EXPECT_TRUE(t.tree.on_crash(t.z, 4 * second).spent.empty()) << "its budget is new";
    const auto groups = t.tree.groups(4 * second);
    ASSERT_EQ(groups.size(), 2U);
    EXPECT_EQ(groups[1].restarts, 1U);
    EXPECT_EQ(groups[1].since, 3 * second);
    EXPECT_EQ(groups[1].left, 1U);
    EXPECT_EQ(groups[0].groups_left, 99U);
    EXPECT_EQ(groups[0].left, 2U) << "a group's end is no crash of a child";
  }
}

TEST(supervision_tree, the_root_gives_up_when_groups_did_so_too_often) {
  small_tree t(one, one, 1, 2);
  int given_up = 0;
  std::vector<std::string> spent;
  for (int i = 1; i <= 6; ++i) {
    const auto d = t.tree.on_crash(t.x, i * second);
    given_up += d.give_up;
    spent = d.spent;
    EXPECT_EQ(d.give_up, i == 6) << i;
    if (d.give_up) {
      EXPECT_TRUE(d.start.empty());
      EXPECT_TRUE(d.stop.empty());
    }
  }
  EXPECT_EQ(given_up, 1);
  EXPECT_EQ(spent, (std::vector<std::string>{"inner", "node"}));
}

TEST(supervision_tree, the_root_gives_up_when_its_own_children_crash_too_often) {
  small_tree t(one, one, 2);
  for (int i = 1; i <= 2; ++i) EXPECT_FALSE(t.tree.on_crash(t.a, i * second).give_up);
  EXPECT_FALSE(t.tree.on_crash(t.x, 3 * second).give_up) << "that is another group's";
  EXPECT_TRUE(t.tree.on_crash(t.b, 3 * second).give_up);
}

TEST(supervision_tree, one_that_died_of_its_work_costs_nothing_and_comes_back_at_once) {
  small_tree t(one, one, 0, 0);
  for (int i = 0; i < 1000; ++i) {
    const auto d = t.tree.on_crash(t.y, second, true);
    EXPECT_FALSE(d.give_up);
    EXPECT_EQ(d.after, 0);
    EXPECT_EQ(t.names(d.start), "y");
    EXPECT_TRUE(d.stop.empty());
  }
  EXPECT_TRUE(t.tree.on_crash(t.y, second).give_up);
}

TEST(supervision_tree, delays_of_a_child_grow_and_begin_anew_with_its_group) {
  small_tree t(one, one, 3);
  EXPECT_EQ(t.tree.on_crash(t.x, second).after, 10 * millisecond);
  EXPECT_EQ(t.tree.on_crash(t.x, second).after, 20 * millisecond);
  EXPECT_EQ(t.tree.on_crash(t.y, second).after, 10 * millisecond);
  EXPECT_EQ(t.tree.on_crash(t.x, second).after, 500 * millisecond) << "of the group";
  EXPECT_EQ(t.tree.on_crash(t.x, second).after, 10 * millisecond);
}

TEST(supervision_tree, what_is_removed_is_gone_with_all_beneath) {
  small_tree t(one, all);
  t.tree.remove(t.y);
  EXPECT_EQ(t.names(t.tree.on_crash(t.x, second).start), "xz");
  t.tree.remove(t.inner);
  t.tree.remove(t.inner);
  EXPECT_EQ(t.names(t.tree.children()), "ab");
  EXPECT_FALSE(t.tree.has(t.x));
  EXPECT_EQ(t.tree.find_group("inner"), supervision_tree::root);
  EXPECT_THROW(t.tree.add_child(t.inner, "late"), std::out_of_range);
  EXPECT_THROW(t.tree.add_child(t.a, "under a child"), std::out_of_range);
}

// Random trees and crashes: what is started is a run of the tree's own order that contains the one that
// crashed, what is stopped is that without it, backwards, and nobody of a group outside those concerned is
// touched.
TEST(supervision_tree, decisions_keep_the_order_whatever_the_tree) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    const auto pick = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    const auto some_rules = [&] {
      return rules(static_cast<restart_strategy>(pick(3)), static_cast<std::uint32_t>(pick(6)),
                   static_cast<std::uint32_t>(pick(4)));
    };
    supervision_tree tree("root", some_rules(), seed);
    std::vector<id> groups = {supervision_tree::root};
    std::vector<id> leaves;
    for (int i = 0; i < 20; ++i) {
      const id parent = groups[pick(groups.size())];
      if (pick(4) == 0)
        groups.push_back(tree.add_group(parent, "g" + std::to_string(i), some_rules()));
      else
        leaves.push_back(tree.add_child(parent, "c" + std::to_string(i)));
    }
    if (leaves.empty()) continue;
    nanos now = 0;
    for (int i = 0; i < 200; ++i) {
      now += static_cast<nanos>(pick(20)) * second;
      const id who = leaves[pick(leaves.size())];
      const auto order = tree.children();
      const auto d = tree.on_crash(who, now, pick(10) == 0);
      if (d.give_up) {
        EXPECT_EQ(d.spent.back(), "root");
        break;
      }
      const auto first = std::find(order.begin(), order.end(), d.start.front());
      ASSERT_NE(first, order.end());
      ASSERT_TRUE(std::equal(d.start.begin(), d.start.end(), first)) << seed;
      ASSERT_NE(std::find(d.start.begin(), d.start.end(), who), d.start.end()) << seed;
      auto stop = d.start;
      std::reverse(stop.begin(), stop.end());
      std::erase(stop, who);
      ASSERT_EQ(stop, d.stop) << seed;
      ASSERT_GE(d.after, 0);
    }
  }
}

TEST(stuck_watch, one_that_owes_an_answer_for_too_long_is_stuck) {
  stuck_watch w(30 * second, 5 * second);
  std::uint64_t answered = 0;
  for (int i = 1; i <= 20; ++i) {
    const auto v = w.look(i * 5 * second, answered);
    EXPECT_EQ(v.ask, static_cast<std::uint64_t>(i));
    EXPECT_EQ(v.stuck_for, 0);
    answered = v.ask;
  }
  const auto last = w.look(105 * second, answered);  // asked, and never answered
  EXPECT_NE(last.ask, 0U);
  for (int i = 1; i < 6; ++i) EXPECT_EQ(w.look((105 + i * 5) * second, answered).stuck_for, 0) << i;
  EXPECT_EQ(w.look(135 * second, answered).stuck_for, 30 * second);
  EXPECT_EQ(w.look(140 * second, answered).stuck_for, 35 * second);
  const auto back = w.look(145 * second, last.ask);
  EXPECT_TRUE(back.recovered);
  EXPECT_EQ(back.ask, last.ask + 1);
  EXPECT_FALSE(w.look(150 * second, back.ask).recovered);
}

TEST(stuck_watch, nobody_is_blamed_for_a_machine_that_stood_still) {
  stuck_watch w(30 * second, 5 * second);
  const auto asked = w.look(5 * second, 0);
  EXPECT_EQ(asked.ask, 1U);
  EXPECT_EQ(w.look(3605 * second, 0).stuck_for, 0) << "an hour of suspension";
  EXPECT_EQ(w.look(3610 * second, 0).stuck_for, 0);
  for (int i = 1; i < 4; ++i) (void)w.look((3610 + i * 5) * second, 0);
  EXPECT_EQ(w.look(3630 * second, 0).stuck_for, 30 * second) << "but for its own time";
}

}  // namespace
}  // namespace troupe::policy

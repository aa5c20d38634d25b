#include "runtime/policy/supervision_tree.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace troupe::policy {
namespace {

restart_config without_budget(restart_config c) {
  c.intensity = UINT32_MAX;
  return c;
}

}  // namespace

std::string_view to_string(restart_strategy s) {
  switch (s) {
    case restart_strategy::one_for_one:
      return "one_for_one";
    case restart_strategy::rest_for_one:
      return "rest_for_one";
    case restart_strategy::one_for_all:
      return "one_for_all";
  }
  return "";
}

supervision_tree::supervision_tree(std::string name, const group_rules& rules, std::uint64_t seed)
    : random_(seed) {
  nodes_.emplace(root, entry{root,
                             std::move(name),
                             true,
                             rules,
                             restart_policy(without_budget(rules.groups), random_()),
                             restart_policy(rules.children, random_()),
                             restart_policy(rules.groups, random_()),
                             {},
                             0,
                             0});
}

supervision_tree::id supervision_tree::add(id parent, std::string name, bool group,
                                           const group_rules& rules) {
  auto& above = nodes_.at(parent);
  if (!above.group) throw std::out_of_range("supervision_tree: '" + above.name + "' is no group");
  const id made = next_++;
  above.members.push_back(made);
  const auto& delays = group ? above.rules.groups : above.rules.children;
  nodes_.emplace(made, entry{parent,
                             std::move(name),
                             group,
                             rules,
                             restart_policy(without_budget(delays), random_()),
                             restart_policy(rules.children, random_()),
                             restart_policy(rules.groups, random_()),
                             {},
                             0,
                             0});
  return made;
}

supervision_tree::id supervision_tree::add_group(id parent, std::string name, const group_rules& rules) {
  return add(parent, std::move(name), true, rules);
}

supervision_tree::id supervision_tree::add_child(id parent, std::string name) {
  return add(parent, std::move(name), false, {});
}

void supervision_tree::remove(id gone) {
  const auto it = nodes_.find(gone);
  if (gone == root || it == nodes_.end()) return;
  std::erase(nodes_.at(it->second.parent).members, gone);
  const auto members = it->second.members;
  for (const id m : members) remove(m);
  nodes_.erase(gone);
}

supervision_tree::id supervision_tree::find_group(std::string_view name) const {
  for (const auto& [i, n] : nodes_)
    if (n.group && n.name == name) return i;
  return root;
}

void supervision_tree::leaves(id of, std::vector<id>& out) const {
  const auto& n = nodes_.at(of);
  if (!n.group) {
    out.push_back(of);
    return;
  }
  for (const id m : n.members) leaves(m, out);
}

std::vector<supervision_tree::id> supervision_tree::children(id group) const {
  std::vector<id> out;
  leaves(group, out);
  return out;
}

std::vector<supervision_tree::id> supervision_tree::concerned(const entry& group, id member) const {
  switch (group.rules.strategy) {
    case restart_strategy::one_for_one:
      break;
    case restart_strategy::rest_for_one:
      return {std::find(group.members.begin(), group.members.end(), member), group.members.end()};
    case restart_strategy::one_for_all:
      return group.members;
  }
  return {member};
}

void supervision_tree::fresh(id group) {
  auto& n = nodes_.at(group);
  if (!n.group) {
    n.backoff = restart_policy(without_budget(nodes_.at(n.parent).rules.children), random_());
    return;
  }
  n.children = restart_policy(n.rules.children, random_());
  n.groups = restart_policy(n.rules.groups, random_());
  for (const id m : n.members) fresh(m);
}

supervision_tree::decision supervision_tree::on_crash(id child, nanos now, bool blameless) {
  decision d;
  auto& crashed = nodes_.at(child);
  id group = crashed.parent;
  id member = child;
  bool spent = false;
  if (!blameless) {
    spent = nodes_.at(group).children.on_crash(now).escalate;
    d.after = crashed.backoff.on_crash(now).after;
  }
  while (spent) {
    auto& gives_up = nodes_.at(group);
    d.spent.push_back(gives_up.name);
    if (group == root) {
      d.give_up = true;
      d.after = 0;
      return d;
    }
    fresh(group);
    ++gives_up.restarts;
    gives_up.since = now;
    d.after = gives_up.backoff.on_crash(now).after;
    member = group;
    group = gives_up.parent;
    spent = nodes_.at(group).groups.on_crash(now).escalate;
  }
  for (const id m : concerned(nodes_.at(group), member)) leaves(m, d.start);
  for (auto it = d.start.rbegin(); it != d.start.rend(); ++it)
    if (*it != child) d.stop.push_back(*it);
  return d;
}

void supervision_tree::describe(id of, nanos now, std::vector<group_state>& out) const {
  const auto& n = nodes_.at(of);
  if (!n.group) return;
  out.push_back({of, n.parent, n.name, n.rules.strategy, n.rules.children.intensity, n.rules.children.period,
                 n.children.left(now), n.groups.left(now), n.restarts, n.since});
  for (const id m : n.members) describe(m, now, out);
}

std::vector<supervision_tree::group_state> supervision_tree::groups(nanos now) const {
  std::vector<group_state> out;
  describe(root, now, out);
  return out;
}

}  // namespace troupe::policy

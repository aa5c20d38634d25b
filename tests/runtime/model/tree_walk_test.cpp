// Every walk of a forest gives the same bits: the vector ones are held against the portable one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "runtime/model/forest.hpp"

namespace troupe::model {
namespace {

struct shape {
  std::size_t width, trees, depth, distinct, sums;
  bool float_input, negated, wide_leaves;
};

void PrintTo(const shape& s, std::ostream* out) {
  *out << s.trees << " trees, depth " << s.depth << ", " << s.width << " columns, " << s.sums << " sums";
}

using engine = std::mt19937_64;

double pick(engine& random, const shape& s) {
  const double of[] = {0.0,
                       -0.0,
                       1e-30,
                       -1e-40,
                       1e30,
                       std::numeric_limits<double>::infinity(),
                       -std::numeric_limits<double>::infinity()};
  if (random() % 16 == 0) return of[random() % std::size(of)];
  const double v = static_cast<double>(random() % s.distinct) / 7 - static_cast<double>(s.distinct) / 14;
  return s.float_input ? static_cast<double>(static_cast<float>(v)) : v;
}

ensemble grow(const shape& s, engine& random) {
  ensemble e;
  e.width = s.width;
  e.float_input = s.float_input;
  e.handles_missing = true;
  e.sums = e.outputs = s.sums;
  struct place {
    std::uint32_t at;
    std::size_t depth;
  };
  for (std::size_t t = 0; t < s.trees; ++t) {
    std::vector<place> open{{static_cast<std::uint32_t>(e.nodes.size()), 0}};
    e.roots.push_back(open[0].at);
    e.nodes.emplace_back();
    while (!open.empty()) {
      const place p = open.back();
      open.pop_back();
      if (p.depth >= s.depth || random() % 5 == 0 || (p.depth > 8 && random() % 2)) {
        std::vector<double> weights(s.sums);
        for (double& w : weights) {
          w = static_cast<double>(random() % 1000) / 7 - 60;
          if (!s.wide_leaves) w = static_cast<double>(static_cast<float>(w));
        }
        tree_node leaf;
        e.set_leaf(leaf, weights.data(), s.sums);
        e.nodes[p.at] = leaf;
        continue;
      }
      tree_node n;
      const split hows[] = {split::leq, split::lt, split::gte, split::gt};
      n.how = hows[random() % (s.negated ? 4 : 2)];
      n.missing_yes = s.negated && random() % 2;
      n.column = static_cast<std::uint32_t>(random() % s.width);
      n.threshold = pick(random, s);
      n.yes = static_cast<std::uint32_t>(e.nodes.size());
      n.no = n.yes + 1;
      e.nodes[p.at] = n;
      e.nodes.resize(e.nodes.size() + 2);
      open.push_back({n.yes, p.depth + 1});
      open.push_back({n.no, p.depth + 1});
    }
  }
  return e;
}

class tree_walks : public testing::TestWithParam<shape> {};

TEST_P(tree_walks, agree_to_the_bit) {
  const shape& s = GetParam();
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    engine random(seed);
    const ensemble e = grow(s, random);
    const forest portable(e, tree_walk::portable);
    constexpr std::size_t most = 150;
    std::vector<double> rows(most * s.width);
    for (double& x : rows) {
      const auto what = random() % 12;
      x = pick(random, s);
      if (what == 0) x = std::copysign(std::numeric_limits<double>::quiet_NaN(), x);
      if (what == 1) x = std::nextafter(x, 1e300);
      if (what == 2) x = std::nextafter(x, -1e300);
    }
    std::vector<double> wanted(most * s.sums);
    portable.score(rows.data(), most, wanted.data());
    for (const tree_walk how : {tree_walk::portable, tree_walk::avx2, tree_walk::avx512}) {
      if (!has_tree_walk(how)) continue;
      const forest f(e, how);
      EXPECT_EQ(f.nodes(), portable.nodes());
      // Columns that are compared: all of them, and negated ones too.
      const bool fits = s.depth > 0 && s.width * (s.negated ? 2 : 1) <= forest_lanes::most_columns(how);
      if (fits) {
        EXPECT_EQ(f.walked(), how);
      }
      for (const std::size_t count : {1UL, 2UL, 3UL, 4UL, 7UL, 8UL, 13UL, 64UL, 65UL, most}) {
        std::vector<double> got(count * s.sums, -1);
        for (std::size_t from = 0; from + count <= most; from += count) {
          f.score(rows.data() + from * s.width, count, got.data());
          ASSERT_EQ(0, std::memcmp(got.data(), wanted.data() + from * s.sums, got.size() * sizeof(double)))
              << "walk " << static_cast<int>(how) << ", seed " << seed << ", " << count << " rows from "
              << from;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(shapes, tree_walks,
                         testing::Values(shape{10, 100, 9, 400, 1, true, false, false},
                                         shape{10, 33, 9, 400, 1, true, false, true},
                                         shape{3, 1, 0, 5, 1, true, false, false},     // a leaf
                                         shape{3, 17, 3, 5, 1, true, true, false},     // shallow
                                         shape{2, 50, 30, 100, 1, true, true, false},  // deep and uneven
                                         shape{1, 16, 12, 5000, 1, true, false, false},
                                         shape{16, 40, 6, 64, 1, true, false, false},
                                         shape{17, 40, 6, 64, 1, true, false, false},
                                         shape{30, 40, 7, 64, 3, true, true, true},
                                         shape{64, 40, 7, 64, 1, true, false, false},
                                         shape{65, 40, 7, 64, 1, true, false, false},
                                         shape{8, 80, 8, 900, 1, false, true, true},  // doubles
                                         shape{12, 30, 8, 90, 4, false, false, true}));

TEST(tree_walks, choose_one_that_the_processor_has) {
  EXPECT_TRUE(has_tree_walk(best_tree_walk()));
  EXPECT_TRUE(has_tree_walk(tree_walk::portable));
}

}  // namespace
}  // namespace troupe::model

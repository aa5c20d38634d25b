// What a rollout costs a record: the decision alone, and the parser without and with one.

#include <benchmark/benchmark.h>

#include <cstring>

#include "runtime/codec/request_parser.hpp"
#include "runtime/model/model.hpp"
#include "runtime/policy/rollout.hpp"

namespace {

using namespace troupe;

void decision(benchmark::State& state, policy::rollout_strategy strategy) {
  const policy::route r(strategy, 0.1, "churn");
  policy::route_subject s;
  s.key = "customer-12345";
  for (auto _ : state) {
    ++s.offset;
    benchmark::DoNotOptimize(r.takes_new(s));
  }
}

class nothing final : public model::engine {
 public:
  void score(std::span<const double* const>, double*) const override {}
  std::string_view kind() const override { return "none"; }
};

std::shared_ptr<const model::loaded_model> version(const char* number) {
  model::loaded_model::parts p;
  p.name = "churn";
  p.version = number;
  std::vector<model::feature> features(10);
  for (std::size_t i = 0; i < features.size(); ++i) features[i].name = "f" + std::to_string(i);
  p.schema = model::schema(features, true);
  p.engine = std::make_unique<nothing>();
  return std::make_shared<const model::loaded_model>(std::move(p));
}

void parse(benchmark::State& state, bool rollout) {
  model::model_table::options how;
  how.production = {{"churn", "1"}};
  if (rollout)
    how.splits["churn"] = {1, "2", policy::route(policy::rollout_strategy::canary, 0.1, "churn"), ""};
  const auto table = std::make_shared<const model::model_table>(
      std::vector<std::shared_ptr<const model::loaded_model>>{version("1"), version("2")}, how);
  const std::string value = R"({"request_id":"r-1","features":[1.5,2,3,4,5,6,7,8,9,10]})";
  codec::request_parser parser{codec::parser_options{}};
  constexpr int records = 512;
  for (auto _ : state) {
    auto batch = batch_ptr::make();
    batch->topic = std::make_shared<const std::string>("t");
    for (int i = 0; i < records; ++i) {
      record r;
      r.offset = i;
      r.value = value;
      batch->records.push_back(std::move(r));
    }
    parser.parse(*batch, table);
    benchmark::DoNotOptimize(batch->records.back().model);
  }
  state.SetItemsProcessed(state.iterations() * records);
}

}  // namespace

int main(int argc, char** argv) {
  const bool smoke = argc > 1 && std::strcmp(argv[1], "--smoke") == 0;
  const auto set = [&](benchmark::internal::Benchmark* b) {
    if (smoke) b->Iterations(10);
  };
  using policy::rollout_strategy;
  set(benchmark::RegisterBenchmark("decision/canary", decision, rollout_strategy::canary));
  set(benchmark::RegisterBenchmark("decision/ab", decision, rollout_strategy::ab));
  set(benchmark::RegisterBenchmark("parse/no rollout", parse, false));
  set(benchmark::RegisterBenchmark("parse/canary", parse, true));
  int count = 1;
  benchmark::Initialize(smoke ? &count : &argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}

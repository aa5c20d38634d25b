#include "runtime/model/preprocess.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/model/shap.hpp"

namespace troupe::model {
namespace {

/// The steps from features to columns; null where there is nothing to do.
std::shared_ptr<const pipeline> steps_of(const std::vector<preprocessing::feature>& features,
                                         std::size_t columns) {
  const auto scales = [](const auto& f) { return f.mean != 0 || f.scale != 1; };
  const bool scaled = std::any_of(features.begin(), features.end(), scales);
  const bool widened = std::any_of(features.begin(), features.end(), [](const auto& f) { return f.one_hot; });
  if (!scaled && !widened) return nullptr;
  auto made = std::make_shared<pipeline>();
  made->name = "preprocessing";
  const std::size_t width = features.size();
  const std::size_t most = 8 * (width + columns);
  std::uint32_t last = made->add_slot(width, most);
  made->sources.push_back({last, 0, false});
  const auto add = [&](step_ptr s, std::vector<std::uint32_t> from, std::size_t wide) {
    const std::uint32_t to = made->add_slot(wide, most);
    made->operations.push_back({std::move(s), std::move(from), to});
    return to;
  };
  if (scaled) {
    std::vector<double> means;
    std::vector<double> by;
    for (const auto& f : features) {
      means.push_back(f.mean);
      by.push_back(f.scale);
    }
    last = add(with_constant(arithmetic::sub, std::move(means), false, false), {last}, width);
    last = add(with_constant(arithmetic::div, std::move(by), false, false), {last}, width);
  }
  if (widened) {  // runs of features that are alike, side by side
    std::vector<std::uint32_t> parts;
    for (std::size_t i = 0; i < width;) {
      std::vector<std::uint32_t> run;
      std::vector<category_list> lists;
      std::size_t wide = 0;
      const bool one_hot_run = features[i].one_hot;
      for (; i < width && features[i].one_hot == one_hot_run; ++i) {
        run.push_back(static_cast<std::uint32_t>(i));
        if (!one_hot_run) continue;
        auto& list = lists.emplace_back();
        for (std::size_t k = 0; k < features[i].rule->categories.size(); ++k)
          list.values.push_back(static_cast<double>(k));
        wide += list.values.size();
      }
      const std::size_t count = run.size();
      std::uint32_t part = add(pick(std::move(run)), {last}, count);
      if (one_hot_run) part = add(one_hot(std::move(lists), std::vector<int>(count, -1)), {part}, wide);
      parts.push_back(part);
    }
    const std::size_t count = parts.size();
    last = add(concat(count), std::move(parts), columns);
  }
  made->result = last;
  return made;
}

/// Rows of the request become rows of the model in these, which a thread keeps.
struct scratch {
  std::vector<double> numbers;
  std::vector<const double*> rows;

  std::span<const double* const> fill(const pipeline& front, std::span<const double* const> from) {
    const std::size_t width = front.slots[front.result].width;
    if (numbers.size() < from.size() * width) numbers.resize(from.size() * width);
    rows.resize(from.size());
    for (std::size_t r = 0; r < from.size(); ++r) rows[r] = numbers.data() + r * width;
    front.score(from, numbers.data());
    return rows;
  }
};

/// So many rows at a time: 8 MiB of scratch a thread.
std::size_t block_of(std::size_t width) {
  return std::max<std::size_t>(1, (std::size_t{1} << 20) / width);
}

class preprocessed_engine final : public engine {
 public:
  preprocessed_engine(std::shared_ptr<const pipeline> front, std::unique_ptr<const engine> inner,
                      std::size_t answers)
      : front_(std::move(front)), inner_(std::move(inner)), answers_(answers) {}

  void score(std::span<const double* const> rows, double* out) const override {
    thread_local scratch kept;
    const std::size_t block = block_of(front_->slots[front_->result].width);
    for (std::size_t at = 0; at < rows.size(); at += block) {
      const auto some = rows.subspan(at, std::min(block, rows.size() - at));
      inner_->score(kept.fill(*front_, some), out + at * answers_);
    }
  }
  [[nodiscard]] std::string_view kind() const override { return inner_->kind(); }
  [[nodiscard]] policy::nanos ends_after() const override { return inner_->ends_after(); }

 private:
  std::shared_ptr<const pipeline> front_;
  std::unique_ptr<const engine> inner_;
  std::size_t answers_;
};

class preprocessed_explainer final : public explainer {
 public:
  preprocessed_explainer(std::shared_ptr<const pipeline> front, std::shared_ptr<const explainer> inner)
      : front_(std::move(front)), inner_(std::move(inner)), from_(origins(*front_)[front_->result]) {}

  [[nodiscard]] std::size_t features() const override { return front_->slots[0].width; }
  [[nodiscard]] std::size_t outputs() const override { return inner_->outputs(); }
  [[nodiscard]] std::span<const double> base() const override { return inner_->base(); }
  void explain(std::span<const double* const> rows, double* contributions, double* scores) const override {
    thread_local scratch kept;
    std::vector<double> wide;
    const std::size_t block = block_of(from_.size() * outputs());
    std::fill_n(contributions, rows.size() * outputs() * features(), 0.0);
    for (std::size_t at = 0; at < rows.size(); at += block) {
      const auto some = rows.subspan(at, std::min(block, rows.size() - at));
      wide.resize(some.size() * outputs() * from_.size());
      inner_->explain(kept.fill(*front_, some), wide.data(), scores + at * outputs());
      double* to = contributions + at * outputs() * features();
      for (std::size_t i = 0; i < some.size() * outputs(); ++i, to += features())
        for (std::size_t c = 0; c < from_.size(); ++c) to[from_[c]] += wide[i * from_.size() + c];
    }
  }

 private:
  std::shared_ptr<const pipeline> front_;
  std::shared_ptr<const explainer> inner_;
  std::vector<std::uint32_t> from_;  ///< by column, the feature that it comes from
};

}  // namespace

preprocessing::preprocessing(std::vector<feature> features, const onnx::limits& most)
    : features_(std::move(features)) {
  for (const auto& f : features_) {
    if (!f.one_hot) {
      columns_.push_back(f.name);
    } else {
      for (const auto& c : f.rule->categories) columns_.push_back(f.name + "=" + c);
    }
    if (columns_.size() > most.features)
      throw load_error("features makes more than " + std::to_string(most.features) +
                       " columns; leave some out, or encode: ordinal");
  }
  front_ = steps_of(features_, columns_.size());
}

schema preprocessing::request() const {
  std::vector<model::feature> made;
  for (const auto& f : features_) made.push_back({f.name, true, f.rule});
  return schema(std::move(made), true);
}

std::vector<std::vector<double>> preprocessing::rows_of_model(const std::vector<double>& values) const {
  std::vector<std::vector<double>> made;
  const std::size_t width = features_.size();
  for (std::size_t at = 0; at + width <= values.size(); at += width) {
    const double* const row = values.data() + at;
    if (std::any_of(row, row + width, [](double x) { return std::isnan(x); })) continue;
    auto& out = made.emplace_back(row, row + width);
    if (!front_) continue;
    out.resize(columns_.size());
    front_->score({&row, 1}, out.data());
  }
  return made;
}

void preprocessing::put_before(compiled_graph& graph) const {
  std::vector<model::feature> made;
  std::size_t column = 0;
  for (const auto& f : features_) {
    // A missing category has no column, and only the model's own columns may tell what is missing.
    const auto& own = graph.schema.features[column];
    if (own.rule && (f.rule || f.mean != 0 || f.scale != 1))
      throw load_error("model.yaml says what becomes of feature " + f.name +
                       ", and the model itself has its categories; write its name alone");
    made.push_back({f.name, !f.one_hot && own.imputed, f.rule ? f.rule : own.rule});
    column += f.one_hot ? f.rule->categories.size() : 1;
  }
  graph.schema = schema(std::move(made), true);
  if (!front_) return;
  graph.engine =
      std::make_unique<const preprocessed_engine>(front_, std::move(graph.engine), graph.output.width);
  if (graph.explain)
    graph.explain = std::make_shared<preprocessed_explainer>(front_, std::move(graph.explain));
}

}  // namespace troupe::model

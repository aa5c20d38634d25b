#pragma once
// What a loaded model is to the rest of the program: its inputs by name, its outputs, the engine that scores
// rows, and the immutable table of all models that a record's (model, version) is looked up in.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/cell_rule.hpp"
#include "runtime/policy/rollout.hpp"
#include "runtime/policy/time.hpp"

namespace troupe::model {

/// The engine could not score the rows it was given.
class model_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A model or the directory of models cannot be used. The text is one line: the file, what is wrong, what to
/// do.
class load_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct feature {
  std::string name;
  bool imputed = false;  ///< a missing value (NaN) has a defined meaning: an imputer's value, or a direction
                         ///< in every tree
  /// What model.yaml says of its values; null: any number will do.
  std::shared_ptr<const cell_rule> rule = {};
};

/// An input of a model whose rows are not one list of numbers.
struct tensor_input {
  enum class kind : std::uint8_t {
    number,
    text,
    bytes  ///< a text whose JSON is base64
  };
  std::string name;
  kind holds = kind::number;
  std::vector<std::int64_t> shape;  ///< of a row; none: one value
  std::size_t begin = 0;            ///< its first cell in a row
  std::size_t size = 1;             ///< cells

  bool operator==(const tensor_input&) const = default;
};

/// The columns of a row. `features` stays as constructed: names are looked up in an index made then.
struct schema {
  schema() = default;
  explicit schema(std::vector<feature> columns, bool has_names = false);
  /// A row is the cells of these, one input after the other; `features` is as many without names.
  explicit schema(std::vector<tensor_input> tensors);

  std::vector<tensor_input> inputs;  ///< none: a row is a list of numbers
  bool texts = false;                ///< some cells are texts (cells.hpp)
  std::vector<feature> features;
  bool named = false;  ///< the names are the model's own, not f0, f1, ...
  bool rules = false;  ///< some features have one

  /// The column of that name, -1 if there is none. One hash and one comparison.
  [[nodiscard]] int index_of(std::string_view name) const;
  [[nodiscard]] bool missing_allowed(std::size_t i) const { return features[i].imputed; }

 private:
  std::vector<std::uint32_t> slots_;  ///< open addressing, a power of two; column + 1, 0 is free
};

enum class task : std::uint8_t { regression, classification };

/// What a row's answer is: `width` doubles. Regression: one for each target. Classification: one probability
/// for each class, in the order of `classes`.
struct output_spec {
  /// One of several answers of a model, `width` doubles.
  struct part {
    std::string name;
    std::size_t width = 1;
    bool operator==(const part&) const = default;
  };
  task kind = task::regression;
  std::size_t width = 1;
  std::vector<std::string> classes = {};  ///< empty for regression
  std::vector<part> parts = {};           ///< of a regression with several outputs: they add up to width
  std::size_t top_k = 0;                  ///< so many classes are answered, the likeliest first; 0: all
};

class explainer;  // shap.hpp

/// Scores rows. Immutable, so that any number of threads may call score() at once.
class engine {
 public:
  engine() = default;
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  virtual ~engine();

  /// `rows`: pointers to schema-width doubles, NaN = missing. `out`: rows.size() x output width doubles,
  /// row-major. Allocates nothing once a thread has scored its first batch. Throws model_error if the engine
  /// fails; the built-in ones never do.
  virtual void score(std::span<const double* const> rows, double* out) const = 0;

  /// "forest", "linear", ...
  [[nodiscard]] virtual std::string_view kind() const = 0;

  /// A call that lasts so long ends by itself, with an exception. 0: none does.
  [[nodiscard]] virtual policy::nanos ends_after() const { return 0; }
};

/// One version of one model, ready to score.
class loaded_model {
 public:
  struct parts {
    std::string name;
    std::string version;  ///< a leading v is dropped
    model::schema schema;
    output_spec output;
    std::unique_ptr<const model::engine> engine;
    std::uint64_t digest = 0;
    std::filesystem::path path;
    std::string engine_reason{};  ///< why this engine and no other
    std::shared_ptr<const model::explainer> explain = {};
    std::string unexplained = {};
  };

  explicit loaded_model(parts p);

  [[nodiscard]] const std::string& name() const { return parts_.name; }
  [[nodiscard]] const std::string& version() const { return parts_.version; }  ///< "3", without a v
  [[nodiscard]] const model::schema& schema() const { return parts_.schema; }
  [[nodiscard]] const output_spec& output() const { return parts_.output; }
  [[nodiscard]] const model::engine& engine() const { return *parts_.engine; }
  /// XXH3 (64 bits) of the model file, seeded with that of its model.yaml: the same digest, the same answers.
  [[nodiscard]] std::uint64_t digest() const { return parts_.digest; }
  [[nodiscard]] const std::string& digest_hex() const { return digest_hex_; }  ///< 16 hexadecimal digits
  [[nodiscard]] const std::string& engine_reason() const { return parts_.engine_reason; }
  [[nodiscard]] const std::filesystem::path& path() const { return parts_.path; }  ///< the model file
  /// Null where the model was loaded without, or cannot be explained; unexplained() says why.
  [[nodiscard]] const model::explainer* explain() const { return parts_.explain.get(); }
  [[nodiscard]] const std::string& unexplained() const { return parts_.unexplained; }
  /// Expires when all of it is freed; a weak_ptr to the model itself does so before its destructor begins.
  [[nodiscard]] std::weak_ptr<const void> lifetime() const { return lifetime_; }

 private:
  std::shared_ptr<const void> lifetime_ = std::make_shared<char>();  // first here, so destroyed last
  parts parts_;
  std::string digest_hex_;
};

/// Two versions of a model share its requests, or a new one is compared with the production version.
struct version_split {
  std::uint64_t id = 0;  ///< of the rollout
  policy::route route;
  std::string header;        ///< of strategy header: its name
  std::string header_value;  ///< empty: any value
  std::shared_ptr<const loaded_model> candidate;
};

/// An immutable snapshot of all loaded models.
class model_table {
 public:
  struct choice {
    const loaded_model* model = nullptr;
    bool fell_back = false;  ///< the version asked for is not loaded, and the production version stands in
    /// Requests that name no version: the model is the old one, and the split says whether the new one
    /// answers. Lives as long as the table; null: no rollout.
    const version_split* split = nullptr;
  };

  struct split_options {
    std::uint64_t id = 0;
    std::string version;  ///< the new one
    policy::route route;
    std::string header;  ///< NAME or NAME=VALUE
  };

  struct options {
    std::string default_model;  ///< answers an empty name; empty: the only model, if it is alone
    std::map<std::string, std::string> production;  ///< model -> version; others: the highest version
    bool fallback = true;
    std::map<std::string, split_options> splits = {};  ///< by model
    /// Of a table in service: the default is default_model and no other, loaded or not; empty: none.
    bool default_stays = false;
  };

  model_table() = default;
  /// Throws load_error if two models share name and version, or the options name one that is not there.
  model_table(std::vector<std::shared_ptr<const loaded_model>> models, const options& how);

  /// An empty name is the default model, an empty version the production version; "v3" and "3" are one. A
  /// version that is not loaded: the production version where fallback is allowed, else none. Allocates
  /// nothing.
  [[nodiscard]] choice find(std::string_view name, std::string_view version) const;

  /// Ordered by name, then version (numbers by value).
  [[nodiscard]] const std::vector<std::shared_ptr<const loaded_model>>& all() const { return models_; }
  /// What an empty name and version mean; null if there is no default, or it is not loaded.
  [[nodiscard]] const loaded_model* default_model() const;
  /// The default model, loaded or not; empty: there is none.
  [[nodiscard]] const std::string& default_name() const { return default_name_; }
  /// The rollout that `m` is one of the two versions of; null: none.
  [[nodiscard]] const version_split* split_of(const loaded_model& m) const;

 private:
  struct group {  ///< the versions of one model: models_[begin, end)
    std::string_view name;
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
    std::uint32_t production = 0;
    std::uint32_t split = UINT32_MAX;
  };
  [[nodiscard]] const group* group_of(std::string_view name) const;

  std::vector<std::shared_ptr<const loaded_model>> models_;
  std::vector<group> groups_;
  std::vector<version_split> splits_;
  std::uint32_t default_group_ = UINT32_MAX;
  std::string default_name_;
  bool fallback_ = true;
};

/// "v3" -> "3"; anything else as it is.
[[nodiscard]] std::string_view plain_version(std::string_view version);

}  // namespace troupe::model

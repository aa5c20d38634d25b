#pragma once
// What every door's request says besides its values: who asks, which model is to answer, how urgent it is.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "messages/batch.hpp"

namespace troupe::model {
struct version_split;
}

namespace troupe::codec {

/// Longest request_id in bytes of UTF-8, without its quotes.
inline constexpr std::size_t max_request_id_bytes = 1024;

/// What a reader found wrong.
struct request_fault {
  error_code code = error_code::none;  ///< none: all is well
  std::string message;

  explicit operator bool() const { return code != error_code::none; }
};

/// The first thing wrong with a request is what is reported; the text is copied into the batch.
void refuse(record& r, record_batch& batch, error_code code, std::string_view message);

/// base + by, at the ends of the range where that is beyond it.
[[nodiscard]] nanos later(nanos base, double by);

/// `id` (UTF-8) as a JSON string in the batch's arena.
[[nodiscard]] std::string_view id_token(record_batch& batch, std::string_view id);

/// Whether `p` can be a priority: an integer from 0.
[[nodiscard]] bool valid_priority(double p);

/// The class of a valid priority: p from 1 asks for class p - 1, one beyond the list for the last; 0, or no
/// list, for the default.
[[nodiscard]] std::uint8_t class_of(double priority, std::span<const nanos> class_targets,
                                    std::uint8_t default_class);

/// The target of `cls`, a time.
[[nodiscard]] nanos target_of(std::uint8_t cls, std::span<const nanos> class_targets, nanos base);

/// Refuses a request for an explanation of a model that has none.
void check_explainable(record& r, record_batch& batch);

/// "model NAME version VERSION"
[[nodiscard]] std::string asked_model(const model::loaded_model& m);

/// The value of a header that a rollout divides by; data() == nullptr: there is none of that name.
using header_lookup = std::string_view (*)(const void* request, std::string_view name);

/// Names to models. Remembers the last few that were asked for; not thread safe.
class model_finder {
 public:
  /// Before the first find() of a table, which must outlive what is found.
  void begin(const model::model_table* models) {
    models_ = models;
    known_count_ = next_known_ = 0;
  }

  struct question {
    std::string_view name;     ///< empty: the default model
    std::string_view version;  ///< empty: the production version
    bool fallback = true;      ///< another version may stand in, where the table allows it
    /// Null: the record's own headers.
    header_lookup header = nullptr;
    const void* request = nullptr;
  };

  /// Fills model, arm (a rollout divides by the record's key, headers, place or id) and fallback_from; or the
  /// error, which names what is loaded instead.
  void find(record& r, record_batch& batch, const question& q);

 private:
  struct known_model {
    std::string name, version;
    const model::loaded_model* model = nullptr;
    bool fell_back = false;
    const model::version_split* split = nullptr;
  };
  const known_model& look_up(std::string_view name, std::string_view version);
  void refuse_unknown(record& r, record_batch& batch, const question& q);

  const model::model_table* models_ = nullptr;
  std::array<known_model, 4> known_;
  std::size_t known_count_ = 0;
  std::size_t next_known_ = 0;
  std::string text_;
};

}  // namespace troupe::codec

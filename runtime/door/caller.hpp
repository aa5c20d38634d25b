#pragma once
// Whom a call is for, where that limits what the request may use: asked once the request is read, for only
// then its model and class are known.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "messages/batch.hpp"
#include "runtime/guard/guard.hpp"

namespace troupe::serving {

/// Of a door, shared by its calls; outlives them.
struct caller_rules {
  std::shared_ptr<guard::gatekeeper> keeper;
  std::vector<std::string> class_names;  ///< by class
  door via = door::http;
};

class caller {
 public:
  caller() = default;  ///< may all
  caller(guard::client_ptr who, std::shared_ptr<const caller_rules> rules);

  /// Makes a record that its caller may not score one that is refused, and says why; refusal::none: nothing
  /// was changed. `asked`: the model's name in the request, for when it was not found; a name that this
  /// caller may not use is refused whether there is such a model or not.
  guard::refusal judge(record& r, record_batch& batch, std::string_view asked = {});

  /// Of a request that names no class: the door's, or where this caller may not use that, the most urgent one
  /// that it may.
  [[nodiscard]] std::uint8_t default_class(std::uint8_t of_door) const;

 private:
  [[nodiscard]] std::string class_refusal(std::uint8_t cls) const;
  friend void judge_line(const caller_rules&, std::string_view, std::string_view, record&, record_batch&);
  guard::refusal refuse(record& r, record_batch& batch, guard::refusal why) const;

  guard::client_ptr who_;  ///< null: may all
  std::shared_ptr<const caller_rules> rules_;
};

/// Judges a line of a batch that the client of that name submitted, as it may now; empty: nobody was asked
/// who they are. `model`: that of the whole batch; empty: the line names one itself.
void judge_line(const caller_rules& rules, std::string_view client, std::string_view model, record& r,
                record_batch& batch);

}  // namespace troupe::serving

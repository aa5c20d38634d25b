#pragma once
// Gathers the answers to a batch and hands each to whoever sends it: Kafka's are written at once and go to
// the producer in one set; those of the other doors go as they are to the owner of the request, in one set an
// owner. Used by every actor that answers.

#include <string>
#include <string_view>
#include <vector>

#include "messages/interfaces.hpp"

namespace troupe::codec {
class result_writer;
}

namespace troupe {

class answering {
 public:
  /// `writer` must live as long.
  explicit answering(codec::result_writer& writer) : writer_(&writer) {}

  /// Room for about so many.
  void expect(std::size_t answers);

  /// `outputs`: request.rows x output width. False, and nothing added, when one of them is not finite.
  /// `explanation`: JSON or empty.
  [[nodiscard]] bool predicted(const record& request, const double* outputs,
                               std::string_view explanation = {});
  void failed(const record& request, error_code code, std::string_view message);
  /// A record that ends what scores it: a dead letter for Kafka, an error for the other doors.
  void poison(const record& request, std::string_view message);
  /// A record of Kafka's whose model can't answer: to the parking topic.
  void parked(const record& request, std::string_view message);

  [[nodiscard]] bool empty() const { return sets_.empty(); }

  /// Hands all of it over; `model_time` is the execution time of the batch. `send(set)` gives the producer's.
  template <class Send>
  void hand_over(nanos model_time, Send send) {
    for (auto& one : sets_) {
      one.set->rows.add_many(one.records);
      one.set->model_time = model_time;
      if (one.owner == nullptr)
        send(std::move(one.set));
      else
        one.owner->answered(std::move(one.set));
    }
    sets_.clear();
  }

 private:
  struct one_owner {
    completion_port* owner = nullptr;  ///< null: the producer
    answer_set_ptr set;
    std::vector<const record*> records;
  };
  one_owner& of(const record& request);
  answer& add(one_owner& to, const record& request);

  codec::result_writer* writer_;
  std::size_t expected_ = 0;
  std::vector<one_owner> sets_;
};

}  // namespace troupe

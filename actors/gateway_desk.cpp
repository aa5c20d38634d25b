#include "actors/gateway_desk.hpp"

#include <iterator>
#include <utility>

namespace troupe {

/// Takes answers from whatever thread has them to the gateway that attends now.
class gateway_desk::answer_port final : public completion_port {
 public:
  void delivered(std::shared_ptr<row_refs>) override {}  // Kafka's
  void answered(std::shared_ptr<answer_set> set) override {
    gateway_actor to;
    {
      const std::lock_guard lock(mutex_);
      if (!to_) {  // between a gateway and its successor, who finds them here
        waiting_.push_back(std::move(set));
        return;
      }
      to = to_;
    }
    caf_line::post(to, answers{std::move(set)});
  }
  std::vector<answer_set_ptr> attend(const gateway_actor& who) {
    const std::lock_guard lock(mutex_);
    to_ = who;
    return std::exchange(waiting_, {});
  }

 private:
  std::mutex mutex_;
  gateway_actor to_;
  std::vector<answer_set_ptr> waiting_;
};

gateway_desk::gateway_desk() : port_(std::make_shared<answer_port>()) {}

gateway_desk::~gateway_desk() {
  close();
}

void gateway_desk::hand_in(std::vector<std::unique_ptr<call>> calls) {
  gateway_actor to;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;  // they end as they are destroyed
    open_.fetch_add(calls.size(), std::memory_order_relaxed);
    const bool told = !inbox_.empty();
    if (told) {
      inbox_.insert(inbox_.end(), std::make_move_iterator(calls.begin()),
                    std::make_move_iterator(calls.end()));
      return;
    }
    inbox_.swap(calls);
    to = attends_;
  }
  caf_line::post(to, calls_ready{});
}

void gateway_desk::close() {
  std::vector<std::unique_ptr<call>> inbox;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    attends_ = gateway_actor();
    inbox.swap(inbox_);
  }
  (void)port_->attend(gateway_actor());
  batches_.clear();
  open_.store(0, std::memory_order_relaxed);
}

std::vector<answer_set_ptr> gateway_desk::attend(const gateway_actor& who) {
  {
    const std::lock_guard lock(mutex_);
    attends_ = who;
  }
  return port_->attend(who);
}

std::vector<std::unique_ptr<call>> gateway_desk::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(inbox_, {});
}

std::shared_ptr<completion_port> gateway_desk::port() const {
  return port_;
}

gateway_desk::open_batch& gateway_desk::open(std::vector<std::unique_ptr<call>> calls) {
  auto made = std::make_unique<open_batch>();
  made->batch = batch_ptr::make();
  made->batch->owner = port_;
  made->batch->slot = first_slot_ + batches_.size();
  made->left = calls.size();
  made->calls = std::move(calls);
  return *batches_.emplace_back(std::move(made));
}

gateway_desk::open_batch* gateway_desk::at(std::uint64_t slot) {
  if (slot < first_slot_ || slot - first_slot_ >= batches_.size()) return nullptr;
  return batches_[slot - first_slot_].get();
}

void gateway_desk::ended(open_batch& of, const record& r) {
  of.calls[r.seq].reset();
  --of.left;
  open_.fetch_sub(1, std::memory_order_relaxed);
}

void gateway_desk::end_unread(open_batch& of) {
  for (std::size_t i = of.batch->records.size(); i < of.calls.size(); ++i) {
    if (!of.calls[i]) continue;
    of.calls[i].reset();
    --of.left;
    open_.fetch_sub(1, std::memory_order_relaxed);
  }
}

void gateway_desk::forget_finished() {
  for (auto& b : batches_)
    if (b && b->left == 0) b.reset();
  while (!batches_.empty() && !batches_.front()) {
    batches_.pop_front();
    ++first_slot_;
  }
}

}  // namespace troupe

#include "runtime/batches/line_window.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace troupe::batches {
namespace {

nanos steady_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// What the calls of one thread read and write with.
line_codec& codec_here() {
  static thread_local line_codec own;
  return own;
}

}  // namespace

class line_window::line_call final : public call {
 public:
  line_call(std::shared_ptr<line_window> of, std::uint64_t at, std::string text, std::uint64_t number,
            std::uint64_t size)
      : of_(std::move(of)), at_(at), text_(std::move(text)), number_(number), size_(size) {}
  ~line_call() override {
    if (!ended_) (void)of_->came_back(at_, text_, "the service is going down", false, steady_now());
  }

  void read(record& to, record_batch& batch) override {
    codec_here().read(*of_->rules_, text_, number_, size_, to, batch);
  }

  void reply(const record& request, const call_result& result) override {
    std::string out;
    if (!codec_here().result(out, request, result.outputs, result.explanation)) {
      fail(request, {error_code::model_failed, "the model gave no finite prediction for this request", 0});
      return;
    }
    ended_ = true;
    of_->answered(at_, std::move(out), false);
  }

  void fail(const record& request, const call_failure& why) override {
    ended_ = true;
    if (why.code == error_code::unavailable && of_->came_back(at_, text_, why.message, true, steady_now()))
      return;
    std::string out;
    codec_here().error(out, request, number_, why.code, why.message);
    of_->answered(at_, std::move(out), true);
  }

  [[nodiscard]] bool gone() const override { return of_->abandoned_.load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<line_window> of_;
  std::uint64_t at_;
  std::string text_;
  std::uint64_t number_;
  std::uint64_t size_;
  bool ended_ = false;
};

line_window::line_window(std::shared_ptr<const line_rules> rules, nanos pause, std::uint32_t tries)
    : rules_(std::move(rules)), pause_(pause), tries_(tries) {}

std::unique_ptr<call> line_window::make(std::uint64_t at, std::string text) {
  const slot& s = slots_[at - first_];
  return std::make_unique<line_call>(shared_from_this(), at, std::move(text), s.number, s.size);
}

std::unique_ptr<call> line_window::add(const input_line& line) {
  const std::lock_guard lock(mutex_);
  slot& s = slots_.emplace_back();
  s.number = line.number;
  s.size = line.size;
  s.end = line.end;
  s.kept = line.text.size();
  bytes_ += line.text.size();
  return make(first_ + slots_.size() - 1, std::string(line.text));
}

std::size_t line_window::lines() const {
  const std::lock_guard lock(mutex_);
  return slots_.size();
}

std::size_t line_window::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

answered_lines line_window::take() {
  answered_lines all;
  const std::lock_guard lock(mutex_);
  while (!slots_.empty() && slots_.front().state == state::answered) {
    const slot& s = slots_.front();
    all.text += s.text;
    all.end = s.end;
    ++all.lines;
    --answered_;
    all.errors += s.error;
    bytes_ -= s.text.size() + s.kept;
    slots_.pop_front();
    ++first_;
  }
  return all;
}

std::vector<std::unique_ptr<call>> line_window::again(nanos now) {
  std::vector<std::unique_ptr<call>> calls;
  const std::lock_guard lock(mutex_);
  if (back_ == 0 || now < again_at_) return calls;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    slot& s = slots_[i];
    if (s.state != state::back) continue;
    s.state = state::out;
    calls.push_back(make(first_ + i, std::exchange(s.text, {})));
  }
  back_ = 0;
  return calls;
}

void line_window::wait(nanos most) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::nanoseconds(most), [this] {
    // Not for every single one: what is written together is cheaper.
    return woken_ || (!slots_.empty() && slots_.front().state == state::answered &&
                      answered_ >= std::min<std::size_t>(slots_.size() / 2 + 1, 512));
  });
  woken_ = false;
}

void line_window::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

std::string line_window::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

void line_window::answered(std::uint64_t at, std::string text, bool error) {
  bool tell = false;
  {
    const std::lock_guard lock(mutex_);
    slot& s = slots_[at - first_];
    bytes_ += text.size();  // the line itself counts until its result leaves
    s.text = std::move(text);
    s.error = error;
    s.state = state::answered;
    ++answered_;
    tell =
        at == first_ || answered_ == 512 || answered_ == slots_.size() || answered_ == slots_.size() / 2 + 1;
    trouble_.clear();
  }
  if (tell) changed_.notify_all();
}

bool line_window::came_back(std::uint64_t at, std::string& text, std::string_view why, bool counts,
                            nanos now) {
  const std::lock_guard lock(mutex_);
  slot& s = slots_[at - first_];
  if (counts && s.tries + 1 >= tries_) return false;
  s.tries += counts;
  s.text = std::move(text);
  s.state = state::back;
  if (back_++ == 0) again_at_ = now + pause_;
  trouble_ = why;
  return true;
}

}  // namespace troupe::batches

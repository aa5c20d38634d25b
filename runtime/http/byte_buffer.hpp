#pragma once
// Bytes that grow without being zeroed first, with room behind them for readers that look ahead.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

namespace troupe::http {

class byte_buffer {
 public:
  /// So many bytes behind size() may be read (they are not set).
  static constexpr std::size_t padding = 64;

  [[nodiscard]] char* data() { return bytes_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  [[nodiscard]] std::string_view view() const { return {bytes_.get(), size_}; }

  void clear() { size_ = 0; }
  void release() {
    bytes_.reset();
    size_ = capacity_ = 0;
  }
  /// Keeps the contents; at least doubles, so that appending is linear.
  void reserve(std::size_t wanted) {
    if (wanted <= capacity_) return;
    const std::size_t next = std::max({wanted, 2 * capacity_, std::size_t{256}});
    // Not make_unique, which zeroes.
    std::unique_ptr<char[]> fresh(new char[next + padding]);
    if (size_ > 0) std::memcpy(fresh.get(), bytes_.get(), size_);
    bytes_ = std::move(fresh);
    capacity_ = next;
  }
  void append(std::string_view more) {
    if (more.empty()) return;
    reserve(size_ + more.size());
    std::memcpy(bytes_.get() + size_, more.data(), more.size());
    size_ += more.size();
  }
  /// Bytes that were written behind size() by hand.
  void grew(std::size_t by) { size_ += by; }

 private:
  std::unique_ptr<char[]> bytes_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace troupe::http

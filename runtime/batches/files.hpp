#pragma once
// Files that outlive a crash: replaced as a whole, or appended to behind a mark.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::batches {

/// A descriptor, closed with its owner.
class file_handle {
 public:
  file_handle() = default;
  explicit file_handle(int fd) : fd_(fd) {}
  file_handle(file_handle&& o) noexcept : fd_(o.fd_) { o.fd_ = -1; }
  file_handle& operator=(file_handle&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  file_handle(const file_handle&) = delete;
  file_handle& operator=(const file_handle&) = delete;
  ~file_handle();

  [[nodiscard]] int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// All of these throw std::system_error with the path in what().

/// For reading; a regular file, or with `any` whatever can be read.
[[nodiscard]] file_handle open_input(const std::filesystem::path& path, bool any = false);
/// For writing, made if need be; never through a symbolic link.
[[nodiscard]] file_handle open_output(const std::filesystem::path& path);
/// Up to `most` bytes; 0 at the end.
[[nodiscard]] std::size_t read_some(const file_handle& from, char* to, std::size_t most,
                                    const std::filesystem::path& path);
void write_all(const file_handle& to, std::string_view bytes, const std::filesystem::path& path);
void seek(const file_handle& in, std::uint64_t offset, const std::filesystem::path& path);
/// Cuts the file to `size` and goes on there. Throws as well when it is shorter than that.
void cut(const file_handle& of, std::uint64_t size, const std::filesystem::path& path);
/// On disk, as far as the system knows.
void sync(const file_handle& of, const std::filesystem::path& path);
void sync_directory(const std::filesystem::path& path);

/// All of the file; nullopt when it is not there.
[[nodiscard]] std::optional<std::string> read_file(const std::filesystem::path& path);
/// The file as it was or as it is to be, never in between, also across a loss of power.
void replace_file(const std::filesystem::path& path, std::string_view content);

/// What tells whether a file is the same as before.
struct file_stamp {
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;  ///< epoch
  [[nodiscard]] bool operator==(const file_stamp&) const = default;
};
[[nodiscard]] file_stamp stamp_of(const file_handle& file, const std::filesystem::path& path);

}  // namespace troupe::batches

#include "runtime/batches/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace troupe::batches {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw std::system_error(errno, std::generic_category(), path.string());
}

}  // namespace

file_handle::~file_handle() {
  if (fd_ >= 0) ::close(fd_);
}

file_handle open_input(const std::filesystem::path& path, bool any) {
  file_handle f(::open(path.c_str(), O_RDONLY | O_CLOEXEC | (any ? 0 : O_NONBLOCK)));
  if (!f) fail(path);
  struct stat s {};
  if (::fstat(f.fd(), &s) != 0) fail(path);
  if (S_ISDIR(s.st_mode)) {
    errno = EISDIR;
    fail(path);
  }
  if (!any && !S_ISREG(s.st_mode)) {
    errno = EINVAL;
    fail(path);
  }
  return f;
}

file_handle open_output(const std::filesystem::path& path) {
  file_handle f(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640));
  if (!f) fail(path);
  return f;
}

std::size_t read_some(const file_handle& from, char* to, std::size_t most,
                      const std::filesystem::path& path) {
  for (;;) {
    const ssize_t n = ::read(from.fd(), to, most);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EINTR) fail(path);
  }
}

void write_all(const file_handle& to, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(to.fd(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

void seek(const file_handle& in, std::uint64_t offset, const std::filesystem::path& path) {
  if (::lseek(in.fd(), static_cast<off_t>(offset), SEEK_SET) < 0) fail(path);
}

void cut(const file_handle& of, std::uint64_t size, const std::filesystem::path& path) {
  if (stamp_of(of, path).size < size)
    throw std::system_error(std::make_error_code(std::errc::io_error),
                            path.string() + " is shorter than its checkpoint says");
  if (::ftruncate(of.fd(), static_cast<off_t>(size)) != 0) fail(path);
  seek(of, size, path);
}

void sync(const file_handle& of, const std::filesystem::path& path) {
  // A pipe or a terminal has nothing to be brought to disk.
  if (::fdatasync(of.fd()) != 0 && errno != EINVAL && errno != EROFS) fail(path);
}

void sync_directory(const std::filesystem::path& path) {
  const auto at = path.empty() ? std::filesystem::path(".") : path;
  const file_handle d(::open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!d) fail(at);
  if (::fsync(d.fd()) != 0 && errno != EINVAL && errno != EROFS) fail(at);
}

std::optional<std::string> read_file(const std::filesystem::path& path) {
  const file_handle f(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!f) {
    if (errno == ENOENT) return std::nullopt;
    fail(path);
  }
  std::string all;
  std::array<char, 4096> part;
  while (const std::size_t n = read_some(f, part.data(), part.size(), path)) all.append(part.data(), n);
  return all;
}

void replace_file(const std::filesystem::path& path, std::string_view content) {
  auto next = path;
  next += ".new";
  {
    const file_handle f = open_output(next);
    cut(f, 0, next);
    write_all(f, content, next);
    sync(f, next);
  }
  if (::rename(next.c_str(), path.c_str()) != 0) fail(path);
  sync_directory(path.parent_path());
}

file_stamp stamp_of(const file_handle& file, const std::filesystem::path& path) {
  struct stat s {};
  if (::fstat(file.fd(), &s) != 0) fail(path);
  return {static_cast<std::uint64_t>(s.st_size),
          std::int64_t{s.st_mtim.tv_sec} * 1'000'000'000 + s.st_mtim.tv_nsec};
}

}  // namespace troupe::batches

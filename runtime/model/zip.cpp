#include "runtime/model/zip.hpp"

#include <zlib.h>

#include <algorithm>

#include "runtime/model/model.hpp"

namespace troupe::model::zip {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw load_error("as a ZIP archive it " + what);
}

/// A little-endian number of `size` bytes.
std::uint32_t number(std::string_view bytes, std::size_t at, std::size_t size) {
  if (at > bytes.size() || bytes.size() - at < size) refuse("ends in the middle");
  std::uint32_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  return value;
}

constexpr std::string_view end_mark = "PK\x05\x06";
constexpr std::uint32_t entry_mark = 0x02014b50;
constexpr std::uint32_t local_mark = 0x04034b50;

std::string inflate_all(std::string_view packed, std::size_t size) {
  std::string out(size, '\0');
  z_stream s{};
  if (inflateInit2(&s, -MAX_WBITS) != Z_OK) refuse("cannot be inflated");
  s.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  s.avail_in = static_cast<uInt>(packed.size());
  // One byte more than it says, so that an entry that is longer shows.
  char beyond = 0;
  s.next_out = reinterpret_cast<Bytef*>(size ? out.data() : &beyond);
  s.avail_out = static_cast<uInt>(size ? size : 1);
  const int rc = inflate(&s, Z_FINISH);
  const bool whole = rc == Z_STREAM_END && s.total_out == size;
  inflateEnd(&s);
  if (!whole) refuse("has an entry that is not what its header says");
  return out;
}

}  // namespace

archive::archive(std::string_view bytes, std::size_t most_bytes) : bytes_(bytes), left_(most_bytes) {
  const std::size_t end = bytes.rfind(end_mark);
  if (end == std::string_view::npos || bytes.size() > UINT32_MAX) refuse("has no directory");
  const std::size_t count = number(bytes, end + 10, 2);
  std::size_t at = number(bytes, end + 16, 4);
  if (number(bytes, end + 4, 2) != 0 || count == 0xffff || at == 0xffff'ffff)
    refuse("is of a kind that is not built in (ZIP64, or several parts)");
  for (std::size_t i = 0; i < count; ++i) {
    if (number(bytes, at, 4) != entry_mark) refuse("has a broken directory");
    entry e;
    const std::uint32_t flags = number(bytes, at + 8, 2);
    e.method = number(bytes, at + 10, 2);
    e.crc = number(bytes, at + 16, 4);
    e.packed = number(bytes, at + 20, 4);
    e.size = number(bytes, at + 24, 4);
    const std::size_t name_size = number(bytes, at + 28, 2);
    const std::size_t more = number(bytes, at + 30, 2) + number(bytes, at + 32, 2);
    e.header = number(bytes, at + 42, 4);
    if (bytes.size() - at < 46 + name_size) refuse("ends in the middle");
    const std::string name(bytes.substr(at + 46, name_size));
    if (flags & 1) refuse("is encrypted");
    if (!entries_.emplace(name, e).second) refuse("has an entry twice");
    at += 46 + name_size + more;
  }
}

std::string archive::read(std::string_view name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) refuse("has no entry " + std::string(name.substr(0, 64)));
  const entry& e = found->second;
  if (number(bytes_, e.header, 4) != local_mark) refuse("has a broken entry");
  const std::size_t at = e.header + 30 + number(bytes_, e.header + 26, 2) + number(bytes_, e.header + 28, 2);
  if (at > bytes_.size() || bytes_.size() - at < e.packed) refuse("ends in the middle");
  if (e.size > left_) refuse("unpacks to more than the limit");
  left_ -= e.size;
  const std::string_view packed = bytes_.substr(at, e.packed);
  std::string out;
  if (e.method == 0) {
    if (e.size != e.packed) refuse("has an entry that is not what its header says");
    out = packed;
  } else if (e.method == 8) {
    // Deflate packs at most 1,032 to 1: what claims more is not allocated.
    if (e.size / 1032 > e.packed) refuse("has an entry that is not what its header says");
    out = inflate_all(packed, e.size);
  } else {
    refuse("is packed by method " + std::to_string(e.method) + "; stored and deflated entries are built in");
  }
  const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(out.data()), static_cast<uInt>(out.size()));
  if (crc != e.crc) refuse("has a damaged entry, " + std::string(name.substr(0, 64)));
  return out;
}

}  // namespace troupe::model::zip

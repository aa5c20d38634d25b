#include "runtime/grpc/unpack.hpp"

#include <zlib.h>

#include <algorithm>

namespace troupe::rpc {

bool packed(std::string_view message) {
  if (message.size() < 2) return false;
  const unsigned first = static_cast<unsigned char>(message[0]);
  const unsigned second = static_cast<unsigned char>(message[1]);
  if (first == 0x1f) return second == 0x8b;
  constexpr unsigned preset_dictionary = 0x20;
  return first == 0x78 && (first * 256 + second) % 31 == 0 && (second & preset_dictionary) == 0;
}

unpacked unpack(std::string_view message, std::size_t limit, std::string& to) {
  z_stream z{};
  constexpr int gzip_or_zlib = 32 + MAX_WBITS;
  if (inflateInit2(&z, gzip_or_zlib) != Z_OK) return unpacked::broken;
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(message.data()));
  z.avail_in = static_cast<uInt>(message.size());
  to.clear();
  int state = Z_OK;
  while (state == Z_OK && to.size() <= limit) {
    const std::size_t before = to.size();
    to.resize(std::min(limit + 1, std::max<std::size_t>(before * 2, 4096)));
    z.next_out = reinterpret_cast<Bytef*>(to.data() + before);
    z.avail_out = static_cast<uInt>(to.size() - before);
    state = inflate(&z, Z_NO_FLUSH);
    to.resize(to.size() - z.avail_out);
    if (state == Z_OK && z.avail_in == 0 && to.size() == before) state = Z_DATA_ERROR;  // cut off
  }
  inflateEnd(&z);
  if (to.size() > limit) return unpacked::too_large;
  return state == Z_STREAM_END ? unpacked::done : unpacked::broken;
}

}  // namespace troupe::rpc

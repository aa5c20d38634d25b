#include "runtime/grpc/unpack.hpp"

#include <zlib.h>

#include <algorithm>

namespace troupe::rpc {

bool packed(std::string_view message) {
  return message.size() >= 2 && message[0] == '\x1f' && message[1] == '\x8b';
}

unpacked unpack(std::string_view message, std::size_t limit, std::string& to) {
  z_stream z{};
  constexpr int gzip_only = 16 + MAX_WBITS;
  if (inflateInit2(&z, gzip_only) != Z_OK) return unpacked::broken;
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

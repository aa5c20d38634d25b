#pragma once
// An HTTP/1.1 reply as a load generator needs it: where it ends, its status, its body when it is an error.
// RFC 9112, sections 6 and 7.

#include <cstddef>
#include <string>
#include <string_view>

namespace troupe::traffic {

class http_reply {
 public:
  enum class state { more, whole, bad };

  void reset();
  /// More bytes of it. What follows a whole reply is dropped with the next reset().
  [[nodiscard]] state take(std::string_view bytes);
  /// The peer closed: `whole` where that is how the reply ends.
  [[nodiscard]] state end() const;

  [[nodiscard]] bool begun() const { return !got_.empty(); }
  [[nodiscard]] int status() const { return status_; }
  /// The server ends the connection after this reply.
  [[nodiscard]] bool closes() const { return closes_; }
  /// Of a whole reply; with the chunks' frames where it came in chunks.
  [[nodiscard]] std::string_view body() const { return std::string_view(got_).substr(head_); }

 private:
  [[nodiscard]] state read_head();
  [[nodiscard]] state read_chunks();

  enum class framing { length, chunks, until_close };
  std::string got_;
  std::size_t head_ = 0;   // its length, once it is here
  std::size_t whole_ = 0;  // with the body
  std::size_t chunk_ = 0;  // where the next chunk's size is
  framing framing_ = framing::length;
  int status_ = 0;
  bool closes_ = false;
};

}  // namespace troupe::traffic

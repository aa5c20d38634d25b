#pragma once
// goaway: tells all clients of a server to take their next calls elsewhere, while it still serves what comes.
//
// grpc::Server::Shutdown() takes no more calls and tells the clients at the same time: what they had sent by
// then ends as CANCELLED. The library can tell them alone, and does where a connection has its greatest age
// (a graceful GOAWAY, RFC 9113 section 6.8), but its public headers have no call for it: here is its own,
// grpc_core::Server::SendGoaways(), found when the program is linked. A library without it: nobody is told
// before Shutdown().

#include <memory>

namespace grpc {
class Server;
}

namespace troupe::rpc {

class goaway {
 public:
  goaway();
  ~goaway();
  goaway(const goaway&) = delete;
  goaway& operator=(const goaway&) = delete;

  /// From a thread of the library, soon; at most once. False: the library can't.
  bool send(::grpc::Server& server);
  /// Before the server's end: it is not touched any more.
  void forget();

 private:
  struct body;
  std::unique_ptr<body> body_;
};

}  // namespace troupe::rpc

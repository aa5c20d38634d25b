#include "runtime/grpc/goaway.hpp"

#include <grpc/support/time.h>
#include <grpcpp/alarm.h>
#include <grpcpp/server.h>

#include <mutex>
#include <utility>

// grpc_core::Server::SendGoaways(); a grpc_server is the address of one.
extern "C" void _ZN9grpc_core6Server11SendGoawaysEv(void* server) __attribute__((weak));

namespace troupe::rpc {

struct goaway::body {
  /// The alarm's function may run after everything else is gone.
  struct target {
    std::mutex mutex;
    grpc_server* server = nullptr;
  };
  const std::shared_ptr<target> to = std::make_shared<target>();
  ::grpc::Alarm alarm;
};

goaway::goaway() : body_(std::make_unique<body>()) {}
goaway::~goaway() {
  forget();
}

bool goaway::send(::grpc::Server& server) {
  if (_ZN9grpc_core6Server11SendGoawaysEv == nullptr) return false;
  {
    const std::lock_guard lock(body_->to->mutex);
    if (std::exchange(body_->to->server, server.c_server()) != nullptr) return true;
  }
  // The library's own functions want what its threads have (an ExecCtx): the alarm's is one.
  body_->alarm.Set(gpr_now(GPR_CLOCK_MONOTONIC), [to = body_->to](bool expired) {
    if (!expired) return;
    const std::lock_guard held(to->mutex);
    if (to->server != nullptr) _ZN9grpc_core6Server11SendGoawaysEv(to->server);
  });
  return true;
}

void goaway::forget() {
  const std::lock_guard lock(body_->to->mutex);
  body_->to->server = nullptr;
}

}  // namespace troupe::rpc

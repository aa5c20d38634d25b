#include "runtime/grpc/goaway.hpp"

#include <grpc/support/time.h>

#include <mutex>

// grpc_core::Server::SendGoaways(); a grpc_server is the address of one.
extern "C" void _ZN9grpc_core6Server11SendGoawaysEv(void* server) __attribute__((weak));

namespace troupe::rpc {

struct goaway::target {
  std::mutex mutex;
  grpc_server* server = nullptr;
};

goaway::goaway() : target_(std::make_shared<target>()) {}
goaway::~goaway() {
  forget();
}

bool goaway::send(::grpc::Server& server) {
  if (_ZN9grpc_core6Server11SendGoawaysEv == nullptr) return false;
  const std::lock_guard lock(target_->mutex);
  if (target_->server != nullptr) return true;
  target_->server = server.c_server();
  // The library's own functions want what its threads have (an ExecCtx): the alarm's is one.
  alarm_.Set(gpr_now(GPR_CLOCK_MONOTONIC), [to = target_](bool expired) {
    if (!expired) return;
    const std::lock_guard held(to->mutex);
    if (to->server != nullptr) _ZN9grpc_core6Server11SendGoawaysEv(to->server);
  });
  return true;
}

void goaway::forget() {
  const std::lock_guard lock(target_->mutex);
  target_->server = nullptr;
}

}  // namespace troupe::rpc

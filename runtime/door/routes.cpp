#include "runtime/door/routes.hpp"

#include <utility>

#include "runtime/door/paths.hpp"

namespace troupe::serving {

struct routes::impl {
  route_options options;
  backend* of;
};

routes::routes(route_options options, backend& of)
    : impl_(std::make_unique<impl>(impl{std::move(options), &of})) {}

routes::~routes() = default;
void routes::stop() {}

std::unique_ptr<call> routes::take(http::exchange_ptr e) {
  const auto& r = e->request();
  const destination to = find_page(r.method, r.path);
  switch (to.page) {
    case page::health:
      e->reply(http::health(impl_->options.health()));
      return nullptr;
    case page::ready:
      e->reply(http::ready(impl_->options.health()));
      return nullptr;
    case page::liveness:
      e->reply(http::liveness());
      return nullptr;
    default:
      e->reply(http::error_response(404, "no such path: " + std::string(r.path)));
      return nullptr;
  }
}

}  // namespace troupe::serving

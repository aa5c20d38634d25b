#pragma once
// The registry's options out of the configuration, for the node and the commands.

#include "runtime/config/settings.hpp"
#include "runtime/registry/registry_poller.hpp"

namespace troupe::registry {

[[nodiscard]] client_options client_options_of(const config::mlflow_settings& s);
[[nodiscard]] poller_options poller_options_of(const config::mlflow_settings& s);

}  // namespace troupe::registry

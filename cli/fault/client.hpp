#pragma once
// A running node's /admin/faults.

#include "cli/fault/options.hpp"
#include "cli/models/admin_client.hpp"

namespace troupe::cli {

/// Throws usage_error when there is no token.
[[nodiscard]] inline admin_client fault_client(const fault_options& o) {
  models_options m;
  m.common = o.common;
  m.url = o.url;
  m.token_file = o.token_file;
  return admin_client(m);
}

}  // namespace troupe::cli

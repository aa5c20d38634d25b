#include "cli/models/admin_client.hpp"

namespace troupe::cli {

int models_rollback(const models_options& o) {
  return admin_client(o).command("rollback", o);
}

}  // namespace troupe::cli

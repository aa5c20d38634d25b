#include "cli/models/admin_client.hpp"

namespace troupe::cli {

int models_unload(const models_options& o) {
  return admin_client(o).command("unload", o);
}

}  // namespace troupe::cli

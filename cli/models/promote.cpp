#include "cli/models/admin_client.hpp"

namespace troupe::cli {

int models_promote(const models_options& o) {
  return admin_client(o).command("promote", o);
}

}  // namespace troupe::cli

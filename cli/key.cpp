#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "runtime/guard/key_file.hpp"

namespace troupe::cli {

int make_key(const key_options& o) {
  if (!guard::is_client_name(o.name))
    throw usage_error("NAME: expected 1 to 128 printable characters without spaces");
  const std::string key = "tk_" + guard::random_text(32);
  const std::string digest = guard::shown(guard::sha256(key));
  const nlohmann::ordered_json entry = {{"name", o.name}, {"sha256", digest}};
  if (o.json)
    std::printf("%s\n", nlohmann::ordered_json({{"key", key}, {"entry", entry}}).dump().c_str());
  else
    std::printf("key (shown this once, for the client):\n  %s\nentry for auth.keys_file:\n- %s\n",
                key.c_str(), entry.dump().c_str());
  return ok;
}

}  // namespace troupe::cli

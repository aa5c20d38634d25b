#include "runtime/registry/from_settings.hpp"

#include <algorithm>

namespace troupe::registry {

client_options client_options_of(const config::mlflow_settings& s) {
  client_options o;
  o.uri = s.uri;
  o.username = s.username;
  o.password = s.password;
  o.token = s.token;
  o.tls_ca = s.tls_ca;
  o.timeout = s.timeout;
  o.max_file_bytes = s.max_version_bytes;
  return o;
}

poller_options poller_options_of(const config::mlflow_settings& s) {
  poller_options o;
  o.client = client_options_of(s);
  for (std::size_t from = 0; from < s.models.size();) {
    const auto comma = std::min(s.models.find(',', from), s.models.size());
    const auto first = s.models.find_first_not_of(' ', from);
    if (first < comma) {
      auto one = s.models.substr(first, comma - first);
      one.erase(one.find_last_not_of(' ') + 1);
      o.references.push_back(std::move(one));
    }
    from = comma + 1;
  }
  o.cache_directory = s.cache_directory;
  o.cache_versions = s.cache_versions;
  o.max_version_bytes = s.max_version_bytes;
  o.watch.interval = s.poll_interval;
  o.watch.backoff_min = std::min(policy::second, s.poll_interval);
  o.watch.backoff_max = s.poll_interval;
  return o;
}

}  // namespace troupe::registry

#pragma once
// Whether files of keys and certificates can be used, before a library reads them and says nothing.

#include <string>

namespace troupe::rpc {

struct tls_files;

/// Empty: they can. Else one line: the option (grpc.tls_cert, ...), the file, the remedy.
[[nodiscard]] std::string tls_fault(const tls_files& files, const std::string& name);

}  // namespace troupe::rpc

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>

#include <health.pb.h>
#include <inference.pb.h>
#include <reflection.pb.h>
#include "runtime/grpc/methods.hpp"

namespace troupe::rpc {
namespace {

namespace pb = ::google::protobuf;
namespace api = ::grpc::reflection::v1;

constexpr int not_found = static_cast<int>(status_code::not_found);

/// The file and all that it imports, each once.
void add(const pb::FileDescriptor* file, std::set<std::string>& seen, api::FileDescriptorResponse& to) {
  if (!seen.insert(file->name()).second) return;
  pb::FileDescriptorProto text;
  file->CopyTo(&text);
  to.add_file_descriptor_proto(text.SerializeAsString());
  for (int i = 0; i < file->dependency_count(); ++i) add(file->dependency(i), seen, to);
}

void give(const pb::FileDescriptor* file, const std::string& asked, api::ServerReflectionResponse& to) {
  if (file == nullptr) {
    to.mutable_error_response()->set_error_code(not_found);
    to.mutable_error_response()->set_error_message("there is no " + asked);
    return;
  }
  std::set<std::string> seen;
  add(file, seen, *to.mutable_file_descriptor_response());
}

}  // namespace

bool reflect(std::string_view request, std::string& response) {
  api::ServerReflectionRequest asked;
  if (!asked.ParseFromArray(request.data(), static_cast<int>(request.size()))) return false;
  api::ServerReflectionResponse out;
  out.set_valid_host(asked.host());
  *out.mutable_original_request() = asked;
  // Descriptors are in the pool once their code is linked, which naming one message of a file makes sure of.
  const pb::FileDescriptor* files[] = {inference::ServerLiveRequest::descriptor()->file(),
                                       ::grpc::health::v1::HealthCheckRequest::descriptor()->file(),
                                       api::ServerReflectionRequest::descriptor()->file()};
  const auto* pool = pb::DescriptorPool::generated_pool();
  switch (asked.message_request_case()) {
    case api::ServerReflectionRequest::kListServices:
      for (const auto* file : files)
        for (int i = 0; i < file->service_count(); ++i)
          out.mutable_list_services_response()->add_service()->set_name(file->service(i)->full_name());
      break;
    case api::ServerReflectionRequest::kFileByFilename:
      give(pool->FindFileByName(asked.file_by_filename()), "file " + asked.file_by_filename(), out);
      break;
    case api::ServerReflectionRequest::kFileContainingSymbol:
      give(pool->FindFileContainingSymbol(asked.file_containing_symbol()),
           "symbol " + asked.file_containing_symbol(), out);
      break;
    case api::ServerReflectionRequest::kFileContainingExtension:
      give(nullptr, "extension of " + asked.file_containing_extension().containing_type(), out);
      break;
    case api::ServerReflectionRequest::kAllExtensionNumbersOfType:
      if (pool->FindMessageTypeByName(asked.all_extension_numbers_of_type()) == nullptr)
        give(nullptr, "message " + asked.all_extension_numbers_of_type(), out);
      else
        out.mutable_all_extension_numbers_response()->set_base_type_name(
            asked.all_extension_numbers_of_type());
      break;
    default:
      out.mutable_error_response()->set_error_code(static_cast<int>(status_code::invalid_argument));
      out.mutable_error_response()->set_error_message("the request asks for nothing");
      break;
  }
  return out.SerializeToString(&response);
}

}  // namespace troupe::rpc

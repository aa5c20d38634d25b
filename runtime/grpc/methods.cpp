#include "runtime/grpc/methods.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

#include <health.pb.h>
#include <inference.pb.h>
#include "runtime/codec/json_text.hpp"
#include "runtime/codec/v2_metadata.hpp"
#include "runtime/codec/v2_response.hpp"
#include "runtime/model/model.hpp"

namespace troupe::rpc {
namespace {

namespace health_api = ::grpc::health::v1;
using codec::shown;

constexpr const char* inference_service = "inference.GRPCInferenceService";

/// Wraps what works on messages as what works on bytes.
template <class Request, class Response, class Answer>
method on_messages(Answer answer, bool blocking = false) {
  return {[answer = std::move(answer)](std::string_view text, std::string& out,
                                       [[maybe_unused]] const guard::client* who) -> status {
            Request request;
            if (!request.ParseFromArray(text.data(), static_cast<int>(text.size())))
              return {status_code::invalid_argument,
                      "the message is not a " + std::string(Request::descriptor()->name())};
            Response response;
            status how;
            if constexpr (std::is_invocable_v<const Answer&, const Request&, Response&, const guard::client*>)
              how = answer(std::as_const(request), response, who);
            else
              how = answer(std::as_const(request), response);
            if (how.ok() && !response.SerializeToString(&out))
              return {status_code::internal, "the response can't be written"};
            return how;
          },
          blocking};
}

/// Lists have only the models that the client may use.
bool sees(const guard::client* who, std::string_view model) {
  return who == nullptr || who->may_use_model(model);
}

/// A version that is asked for by its number is that one or none: nothing stands in for it.
const model::loaded_model* find(const model::model_table& table, std::string_view name,
                                std::string_view version) {
  const auto found = table.find(name, version);
  return found.fell_back ? nullptr : found.model;
}

status unknown_model(std::string_view name, std::string_view version) {
  std::string text = "unknown model " + shown(name);
  if (!version.empty()) text += " version " + shown(version);
  return {status_code::not_found, text + "; RepositoryIndex lists what is loaded"};
}

inference::DataType config_type(codec::v2_type type) {
  inference::DataType known = inference::TYPE_INVALID;
  inference::DataType_Parse(codec::v2_config_type(type), &known);
  return known;
}

void write_metadata(const model::loaded_model& from, inference::ModelMetadataResponse& to) {
  const auto add = [](const codec::v2_tensor_spec& one, auto& tensor) {
    tensor.set_name(one.name);
    tensor.set_datatype(std::string(codec::name_of(one.type)));
    for (const auto n : one.shape) tensor.add_shape(n);
  };
  to.set_name(from.name());
  to.set_platform(codec::v2_platform_of(from));
  for (const auto& one : codec::v2_inputs_of(from)) add(one, *to.add_inputs());
  for (const auto& one : codec::v2_outputs_of(from)) add(one, *to.add_outputs());
}

void write_config(const model::loaded_model& from, int max_batch_size, inference::ModelConfig& to) {
  const auto add = [](const codec::v2_tensor_spec& one, auto& tensor) {
    tensor.set_name(one.name);
    tensor.set_data_type(config_type(one.type));
    for (std::size_t i = 1; i < one.shape.size(); ++i) tensor.add_dims(one.shape[i]);
    if (one.shape.size() < 2) {  // a column: one value a row
      tensor.add_dims(1);
      tensor.mutable_reshape();
    }
  };
  to.set_name(from.name());
  to.set_platform(codec::v2_platform_of(from));
  to.set_backend("troupe");
  to.set_max_batch_size(max_batch_size);
  for (const auto& one : codec::v2_inputs_of(from)) add(one, *to.add_input());
  for (const auto& one : codec::v2_outputs_of(from)) add(one, *to.add_output());
  to.mutable_dynamic_batching();
  to.mutable_model_transaction_policy()->set_decoupled(false);
}

void write(const codec::v2_duration& from, inference::StatisticDuration& to) {
  to.set_count(from.count);
  to.set_ns(from.ns);
}

void write_statistics(const codec::v2_model_stats& from, inference::ModelStatistics& to) {
  to.set_name(from.name);
  to.set_version(from.version);
  to.set_last_inference(from.last_inference);
  to.set_inference_count(from.inference_count);
  to.set_execution_count(from.execution_count);
  auto& all = *to.mutable_inference_stats();
  write(from.success, *all.mutable_success());
  write(from.fail, *all.mutable_fail());
  write(from.queue, *all.mutable_queue());
  write(from.compute_input, *all.mutable_compute_input());
  write(from.compute_infer, *all.mutable_compute_infer());
  write(from.compute_output, *all.mutable_compute_output());
  write(from.cache_hit, *all.mutable_cache_hit());
  write(from.cache_miss, *all.mutable_cache_miss());
  for (const auto& one : from.batches) {
    auto& batch = *to.add_batch_stats();
    batch.set_batch_size(one.batch_size);
    write(one.compute_input, *batch.mutable_compute_input());
    write(one.compute_infer, *batch.mutable_compute_infer());
    write(one.compute_output, *batch.mutable_compute_output());
  }
}

/// In gRPC's terms what a command says in HTTP's.
status status_of(const command_result& result) {
  if (result.status < 300) return {};
  const auto code = result.status == 400   ? status_code::invalid_argument
                    : result.status == 404 ? status_code::not_found
                    : result.status == 409 ? status_code::failed_precondition
                    : result.status == 503 ? status_code::unavailable
                                           : status_code::internal;
  return {code, result.text};
}

/// Parameter `version` of a load or unload: a text or a number.
template <class Request>
std::string version_of(const Request& request) {
  const auto found = request.parameters().find("version");
  if (found == request.parameters().end()) return {};
  const auto& value = found->second;
  if (value.has_int64_param()) return std::to_string(value.int64_param());
  return value.string_param();
}

}  // namespace

std::map<std::string, method, std::less<>> make_methods(std::shared_ptr<serving::backend> backend,
                                                        const method_options& options,
                                                        const std::atomic<bool>& draining) {
  using namespace inference;  // NOLINT: the protocol's messages
  std::map<std::string, method, std::less<>> all;
  const auto add = [&](const char* name, method what) {
    all.emplace(std::string("/") + inference_service + "/" + name, std::move(what));
  };
  const auto ready = [backend, &draining] { return !draining.load() && backend->ready(); };

  add("ServerLive", on_messages<ServerLiveRequest, ServerLiveResponse>([=](const auto&, auto& to) -> status {
        to.set_live(backend->live());
        return {};
      }));
  add("ServerReady",
      on_messages<ServerReadyRequest, ServerReadyResponse>([=](const auto&, auto& to) -> status {
        to.set_ready(ready());
        return {};
      }));
  add("ModelReady",
      on_messages<ModelReadyRequest, ModelReadyResponse>([=](const auto& request, auto& to) -> status {
        const auto table = backend->models();
        if (table->find(request.name(), {}).model == nullptr) return unknown_model(request.name(), {});
        const auto* found = find(*table, request.name(), request.version());
        to.set_ready(found != nullptr && backend->state_of(*found).ready);
        return {};
      }));
  add("ServerMetadata",
      on_messages<ServerMetadataRequest, ServerMetadataResponse>([=](const auto&, auto& to) -> status {
        to.set_name(options.server_name);
        to.set_version(options.server_version);
        for (const auto& one : codec::v2_server_info().extensions) to.add_extensions(one);
        return {};
      }));
  add("ModelMetadata",
      on_messages<ModelMetadataRequest, ModelMetadataResponse>([=](const auto& request, auto& to) -> status {
        const auto table = backend->models();
        const auto* found = find(*table, request.name(), request.version());
        if (found == nullptr) return unknown_model(request.name(), request.version());
        write_metadata(*found, to);
        for (const auto& one : table->all())
          if (one->name() == found->name()) to.add_versions(one->version());
        return {};
      }));
  add("ModelConfig",
      on_messages<ModelConfigRequest, ModelConfigResponse>([=](const auto& request, auto& to) -> status {
        const auto table = backend->models();
        const auto* found = find(*table, request.name(), request.version());
        if (found == nullptr) return unknown_model(request.name(), request.version());
        write_config(*found, options.max_batch_size, *to.mutable_config());
        return {};
      }));
  add("ModelStatistics",
      on_messages<ModelStatisticsRequest, ModelStatisticsResponse>([=](const auto& request, auto& to,
                                                                       const guard::client* who) -> status {
        if (!request.name().empty() && find(*backend->models(), request.name(), request.version()) == nullptr)
          return unknown_model(request.name(), request.version());
        const auto version = model::plain_version(request.version());
        for (const auto& one : backend->statistics(request.name(), version))
          if (sees(who, one.name)) write_statistics(one, *to.add_model_stats());
        return {};
      }));
  add("RepositoryIndex", on_messages<RepositoryIndexRequest, RepositoryIndexResponse>(
                             [=](const auto& request, auto& to, const guard::client* who) -> status {
                               for (const auto& one : backend->index(request.ready())) {
                                 if (!sees(who, one.name)) continue;
                                 auto& made = *to.add_models();
                                 made.set_name(one.name);
                                 made.set_version(one.version);
                                 made.set_state(one.state);
                                 made.set_reason(one.reason);
                               }
                               return {};
                             }));
  add("RepositoryModelLoad",
      on_messages<RepositoryModelLoadRequest, RepositoryModelLoadResponse>(
          [=](const auto& request, auto&) -> status {
            for (const auto& [name, value] : request.parameters())
              if (name == "config" || name.starts_with("file:"))
                return {
                    status_code::invalid_argument,
                    "loading with a configuration or files in the request is not supported: put them into "
                    "the models' directory or the registry"};
            return status_of(backend->load(request.model_name(), model::plain_version(version_of(request))));
          },
          true));
  add("RepositoryModelUnload", on_messages<RepositoryModelUnloadRequest, RepositoryModelUnloadResponse>(
                                   [=](const auto& request, auto&) -> status {
                                     return status_of(backend->unload(
                                         request.model_name(), model::plain_version(version_of(request))));
                                   },
                                   true));

  all.emplace(
      "/grpc.health.v1.Health/Check",
      on_messages<health_api::HealthCheckRequest, health_api::HealthCheckResponse>(
          [backend, &draining](const auto& request, auto& to) -> status {
            const health now = health_of(*backend, draining.load(), request.service());
            if (now == health::service_unknown)
              return {status_code::not_found, "there is no service or model " + shown(request.service())};
            to.set_status(static_cast<health_api::HealthCheckResponse::ServingStatus>(now));
            return {};
          }));
  return all;
}

health health_of(const serving::backend& backend, bool draining, std::string_view service) {
  if (!service.empty() && service != inference_service) {
    const auto table = backend.models();
    const auto* found = find(*table, service, {});
    if (found == nullptr) {
      const auto slash = service.rfind('/');
      if (slash != std::string_view::npos && slash != 0 && slash + 1 < service.size())
        found = find(*table, service.substr(0, slash), service.substr(slash + 1));
    }
    if (found == nullptr) return health::service_unknown;
    if (!backend.state_of(*found).ready) return health::not_serving;
  }
  return !draining && backend.ready() ? health::serving : health::not_serving;
}

bool read_health_request(std::string_view message, std::string& service) {
  health_api::HealthCheckRequest request;
  if (!request.ParseFromArray(message.data(), static_cast<int>(message.size()))) return false;
  service = request.service();
  return true;
}

std::string write_health(health state) {
  health_api::HealthCheckResponse response;
  response.set_status(static_cast<health_api::HealthCheckResponse::ServingStatus>(state));
  return response.SerializeAsString();
}

std::string model_named(std::string_view path, std::string_view request) {
  const auto name = path.substr(path.rfind('/') + 1);
  if (name == "RepositoryModelLoad" || name == "RepositoryModelUnload") {
    inference::RepositoryModelUnloadRequest named;  // both begin alike: model_name = 2
    if (!named.ParseFromArray(request.data(), static_cast<int>(request.size()))) return {};
    return named.model_name();
  }
  if (name != "ModelReady" && name != "ModelMetadata" && name != "ModelConfig" && name != "ModelStatistics")
    return {};
  inference::ModelReadyRequest named;  // all of them begin alike: name = 1, version = 2
  if (!named.ParseFromArray(request.data(), static_cast<int>(request.size()))) return {};
  return named.name();
}

}  // namespace troupe::rpc

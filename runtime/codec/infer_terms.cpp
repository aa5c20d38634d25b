#include "runtime/codec/infer_terms.hpp"

#include <limits>
#include <string>

namespace troupe::codec {

void infer_terms::begin(record& r, record_batch& batch, const infer_head& head, const infer_options& options,
                        const request_fault& fault) {
  r.batch = &batch;
  if (r.timestamp_ms == 0) r.timestamp_ms = batch.arrived_ms;
  r.error = error_code::none;
  r.error_message = r.fallback_from = {};
  r.model = nullptr;
  r.rows = 0;
  r.values_begin = static_cast<std::uint32_t>(batch.values.size());
  r.parsed = true;
  r.list = true;
  r.arm = rollout_arm::none;
  r.explain = head.explain;
  r.request_id = id_token(batch, head.id.empty() ? head.fallback_id : head.id);

  const nanos base = head.arrived > 0 && head.arrived < batch.arrived ? head.arrived : batch.arrived;
  r.cls = class_of(head.priority, options.class_targets, head.default_class.value_or(options.default_class));
  r.target = target_of(r.cls, options.class_targets, base);
  r.expiry = head.timeout > 0     ? later(base, head.timeout)
             : options.expiry > 0 ? later(base, static_cast<double>(options.expiry))
                                  : std::numeric_limits<nanos>::max();

  models_.begin(batch.models.get());
  models_.find(r, batch,
               {.name = head.model,
                .version = head.version,
                .fallback = false,
                .header = head.header,
                .request = head.request});
  if (fault) refuse(r, batch, fault.code, fault.message);
  if (r.explain && !options.explain) {
    r.explain = false;
    refuse(r, batch, error_code::invalid_features,
           "explanations are off here (models.explain): ask without explain");
  }
  check_explainable(r, batch);
}

void infer_terms::finish(record& r, record_batch& batch, const infer_options& options,
                         const request_fault& fault) {
  if (fault) refuse(r, batch, fault.code, fault.message);
  if (r.error == error_code::none && r.rows == 0)
    refuse(r, batch, error_code::invalid_features, "the request has no rows");
  if (r.explain && r.rows > options.max_explained)
    refuse(r, batch, error_code::too_large,
           "the request has " + std::to_string(r.rows) + " rows; at most " +
               std::to_string(options.max_explained) + " are explained at once (models.max_explained_rows)");
  if (r.error == error_code::none && r.expiry <= batch.arrived)
    refuse(r, batch, error_code::deadline_exceeded, "the request had expired when it was read");
  if (r.error == error_code::none) return;
  batch.values.resize(r.values_begin);
  r.rows = 0;
}

}  // namespace troupe::codec

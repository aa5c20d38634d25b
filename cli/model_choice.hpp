#pragma once
// The one model that a command works on.

#include <memory>
#include <string>

#include "runtime/config/settings.hpp"
#include "runtime/model/model.hpp"

namespace troupe::cli {

/// The model as a node of these settings would load it; no other one is read. Empty `name`: models.default,
/// else the only one, else the one that ships; empty `version`: the production version. Throws usage_error
/// with what is there instead, model::load_error.
[[nodiscard]] std::shared_ptr<const model::loaded_model> load_one_model(const config::settings& settings,
                                                                        std::string name,
                                                                        const std::string& version);

}  // namespace troupe::cli

#pragma once
// The side of a rollout that a request was given to.

#include <cstdint>

namespace troupe {

enum class rollout_arm : std::uint8_t {
  none,  ///< no rollout is active, or the request named its version
  old_version,
  new_version,
};

}  // namespace troupe

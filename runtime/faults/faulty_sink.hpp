#pragma once
// A record_sink whose delivery reports are lost or come twice (report_drop, report_duplicate).
//
// A lost report is one that its owner never sees: when the fault ends, the record is reported as not
// delivered, so that it is sent again. One that comes twice comes with its answers still alive: the second
// one holds them, and its reader lets them go (answer::delivered tells it from the first).

#include <memory>

#include "runtime/kafka/record_sink.hpp"

namespace troupe::faults {

class fault_points;

/// `points` must outlive it. The opaque of each record is the troupe::answer that it carries.
[[nodiscard]] std::shared_ptr<kafka::record_sink> make_faulty_sink(std::shared_ptr<kafka::record_sink> inner,
                                                                   fault_points& points);

}  // namespace troupe::faults

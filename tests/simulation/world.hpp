#pragma once
// A node of real actors in a simulated world: Kafka's partitions and topics, callers, Redis and engines that
// fail as a seed says, one thread, a virtual clock, and messages that are handled in whatever order the seed
// picks. A seed is a whole history: it runs the same way each time, so a failing one can be replayed.
//
// What must hold, whatever happens:
//   answered    every record is answered: its prediction, an error it deserves, or a dead letter
//   right       a prediction is that of its own record, and an innocent record is not dead-lettered
//   commit      no offset is stored past a record without a delivered answer, and none by a former owner
//   once        where nothing failed, nothing is answered twice; exactly once: nothing ever is
//   cut         a transaction has no answer at or beyond a cut, and all that lies below it
//   order       where it is promised, no record is answered before one that lies before it in its partition
//   blame       nobody is under suspicion any more when all is answered
//   credit      no more records of a partition are unanswered than its credit
//   calls       a caller gets one end, and the right one; who has gone gets at most one
//   restarts    what crashes is started again, and nothing else
//   moving      once the faults end, all work ends within a minute of the node's time
//   drain       a partition that is given back comes to rest before its deadline, with nothing left
// After FoundationDB's way of testing (Zhou et al., SIGMOD 2021).

#include <cstdint>
#include <string>

namespace troupe::test {

struct history {
  std::string violation;     ///< the first one, with its time; empty: none
  std::string story;         ///< what happened, a line each
  std::uint64_t digest = 0;  ///< of the story and of every choice that was made
  std::uint64_t records = 0;
  std::uint64_t calls = 0;
  std::uint64_t crashes = 0;
  std::uint64_t rebalances = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t dead_letters = 0;
  std::uint64_t parked = 0;
  std::uint64_t express = 0;  ///< batches beside the slots
};

[[nodiscard]] history simulate(std::uint64_t seed);

}  // namespace troupe::test

// The test program is its own child: `engine-child` is the real one, `scripted-child HOW` one that
// misbehaves.

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model/engine_process.hpp"
#include "runtime/model/engine_wire.hpp"

namespace {

using namespace troupe::model;
constexpr int parent = 3;

template <class T>
void put(const T& head, std::string_view text = {}) {
  std::string packet(reinterpret_cast<const char*>(&head), sizeof head);
  packet += text;
  (void)!send(parent, packet.data(), packet.size(), MSG_NOSIGNAL);
}

/// What this process got from its parent that it could have done without.
std::string inheritance() {
  std::string text = "descriptors";
  DIR* const open = opendir("/proc/self/fd");
  while (const dirent* e = readdir(open))
    if (e->d_name[0] != '.' && std::atoi(e->d_name) != dirfd(open)) text += std::string(" ") + e->d_name;
  closedir(open);
  int signal_of_death = 0;
  prctl(PR_GET_PDEATHSIG, &signal_of_death);
  text += " signal " + std::to_string(signal_of_death);
  text += std::getenv("TROUPE_REDIS_PASSWORD") ? " password" : " no password";
  return text;
}

int scripted(std::string_view how) {
  std::array<char, 65536> packet;
  const auto hear = [&] { return recv(parent, packet.data(), packet.size(), 0) > 0; };
  if (how == "exit") return 9;
  if (!hear()) return 0;
  if (how == "silent") return hear() ? 0 : 0;
  if (how == "refuse") return put(wire::part::failed, "this graph is not to my taste"), 1;
  if (how == "babble")
    for (;;) put(wire::part::more, std::string(40000, 'x'));
  if (how == "short") return put(std::uint8_t{1}), 1;
  if (how == "other json") return put(wire::part::last, "[1, 2"), 1;
  if (how == "too wide") {
    put(wire::part::last,
        R"({"columns": 3, "names": [], "width": 4000000000, "classification": false, "classes": [], "inputs": [], "parts": []})");
    return 1;
  }
  put(wire::part::last,
      R"({"columns": 3, "names": [], "width": 3, "classification": false, "classes": [], "inputs": [], "parts": []})");
  if (!hear()) return 0;
  put(wire::part::ready);
  while (hear()) {
    wire::request ask;
    std::memcpy(&ask, packet.data(), sizeof ask);
    wire::reply answer{ask.id, ask.rows, wire::result::scored};
    if (how == "crash") std::raise(SIGKILL);
    if (how == "leave") return 0;
    if (how == "hang") pause();
    if (how == "wrong id") answer.id += 1;
    if (how == "wrong rows") answer.rows += 1;
    if (how == "wrong kind") answer.said = static_cast<wire::result>(7);
    if (how == "empty") {
      put(std::uint8_t{0});
    } else if (how == "long") {
      put(answer, std::string(30000, 'x'));
    } else if (how == "inherited") {
      answer.said = wire::result::refused;
      put(answer, inheritance());
    } else {
      put(answer);
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (word == "engine-child") return serve_engine(parent);
  if (word == "scripted-child" && argc > 2) return scripted(argv[2]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

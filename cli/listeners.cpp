#include "cli/listeners.hpp"

#include <arpa/inet.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>

namespace troupe::cli {
namespace {

namespace fs = std::filesystem;

/// As /proc/net/tcp and tcp6 write addresses: words of 32 bits in the machine's order, in hexadecimal digits.
std::string in_kernel_words(const std::string& bind) {
  unsigned char bytes[16];
  std::size_t size = 0;
  if (::inet_pton(AF_INET, bind.c_str(), bytes) == 1)
    size = 4;
  else if (::inet_pton(AF_INET6, bind.c_str(), bytes) == 1)
    size = 16;
  std::string out;
  for (std::size_t i = 0; i < size; i += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes + i, sizeof word);
    char text[9];
    std::snprintf(text, sizeof text, "%08X", word);
    out += text;
  }
  return out;
}

bool is_any(const std::string& address) {
  return address.find_first_not_of('0') == std::string::npos;
}

/// "socket:[4711]" of each socket that listens there.
std::set<std::string> listening_sockets(const std::string& bind, int port) {
  constexpr std::string_view listens = "0A";
  constexpr std::string_view mapped =
      "0000000000000000FFFF0000";  // ::ffff:127.0.0.1, as the gRPC library binds
  const std::string wanted = in_kernel_words(bind);
  std::set<std::string> found;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream lines(table);
    std::string line;
    std::getline(lines, line);  // the headings
    while (std::getline(lines, line)) {
      std::istringstream fields(line);
      std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
      fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> inode;
      const auto colon = local.find(':');
      if (state != listens || colon == std::string::npos) continue;
      int of = 0;
      std::from_chars(local.data() + colon + 1, local.data() + local.size(), of, 16);
      std::string address = local.substr(0, colon);
      if (address.starts_with(mapped)) address.erase(0, mapped.size());
      if (of == port && (address == wanted || is_any(address) || is_any(wanted)))
        found.insert("socket:[" + inode + "]");
    }
  }
  return found;
}

}  // namespace

std::vector<listening_process> listening_on(const std::string& bind, int port) {
  std::vector<listening_process> all;
  const auto sockets = listening_sockets(bind, port);
  if (sockets.empty()) return all;
  std::error_code none;
  for (const auto& process : fs::directory_iterator("/proc", none)) {
    listening_process one;
    const std::string number = process.path().filename().string();
    const auto [end, failed] = std::from_chars(number.data(), number.data() + number.size(), one.pid);
    if (failed != std::errc() || end != number.data() + number.size()) continue;
    std::error_code hidden;
    for (fs::directory_iterator file(process.path() / "fd", hidden), last; !hidden && file != last;
         file.increment(hidden)) {
      std::error_code closed;
      if (!sockets.contains(fs::read_symlink(file->path(), closed).string())) continue;
      one.name = fs::read_symlink(process.path() / "exe", closed).filename().string();
      // The program was replaced by a newer one since.
      if (const auto gone = one.name.rfind(" (deleted)"); gone != std::string::npos) one.name.resize(gone);
      if (one.name.empty()) std::getline(std::ifstream(process.path() / "comm"), one.name);
      all.push_back(one);
      break;
    }
  }
  return all;
}

}  // namespace troupe::cli

#include "runtime/observe/process.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace troupe::observe {
namespace {

double seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
}

double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  double total = 0;
  double resident = 0;
  return file >> total >> resident ? resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) : 0;
}

double open_files() {
  std::error_code error;
  double n = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    ++n;
  return n > 0 ? n - 1 : 0;  // without the listing's own
}

double boot_seconds() {
  std::ifstream file("/proc/stat");
  for (std::string name; file >> name; std::getline(file, name)) {
    double value = 0;
    if (name == "btime" && file >> value) return value;
  }
  return 0;
}

/// Field 22 of /proc/self/stat, ticks since boot. The second one, the program's name, may hold spaces.
double start_seconds() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  const auto name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream rest(line.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i)
    if (!(rest >> field)) return 0;
  return boot_seconds() + std::stod(field) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

process_usage read_process_usage() {
  process_usage now;
  rusage used{};
  if (::getrusage(RUSAGE_SELF, &used) == 0) now.cpu_seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
  now.resident_bytes = resident_bytes();
  now.open_files = open_files();
  static const double started = start_seconds();
  now.start_seconds = started;
  return now;
}

}  // namespace troupe::observe

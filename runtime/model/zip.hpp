#pragma once
// Reads a ZIP archive held in memory (APPNOTE.TXT 6.3: entries stored or deflated; no encryption, no ZIP64,
// one disk). Every offset and length is checked, and every entry's CRC-32.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace troupe::model::zip {

class archive {
 public:
  /// `bytes` have to outlive it. All that is read may have `most_bytes` uncompressed. Throws load_error.
  archive(std::string_view bytes, std::size_t most_bytes);

  [[nodiscard]] bool contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  /// An entry's contents. Throws load_error.
  [[nodiscard]] std::string read(std::string_view name);

 private:
  struct entry {
    std::uint32_t method = 0;
    std::uint32_t crc = 0;
    std::size_t packed = 0;
    std::size_t size = 0;
    std::size_t header = 0;
  };

  std::string_view bytes_;
  std::size_t left_;  ///< bytes that may still be read
  std::map<std::string, entry, std::less<>> entries_;
};

}  // namespace troupe::model::zip

// Runs a fuzz target without a fuzzer: every file of the corpus folder, then a fixed number of seeded
// mutations of each (bit flips, byte changes, cuts, repeats, splices of two files). Same seed, same inputs: a
// crash replays.
//   fuzz_<name> CORPUS [--seed N] [--mutations N]     CORPUS may also be one file, which is run as it is
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using bytes = std::vector<std::uint8_t>;

bytes read(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return bytes(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

class mutator {
 public:
  explicit mutator(std::uint64_t seed) : random_(seed) {}

  bytes operator()(const bytes& input, const bytes& other) {
    bytes out = input;
    const std::size_t changes = 1 + below(4);
    for (std::size_t i = 0; i < changes; ++i) change(out, other);
    return out;
  }

 private:
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(random_() % bound); }

  void change(bytes& out, const bytes& other) {
    if (out.empty()) {
      out.push_back(static_cast<std::uint8_t>(below(256)));
      return;
    }
    const std::size_t at = below(out.size());
    const auto place = out.begin() + static_cast<std::ptrdiff_t>(at);
    const std::size_t left = out.size() - at;
    switch (below(7)) {
      case 0:
        out[at] = static_cast<std::uint8_t>(out[at] ^ (1U << below(8)));
        break;
      case 1:
        out[at] = static_cast<std::uint8_t>(below(256));
        break;
      case 2: {  // the values at which a length or a count is most often wrong
        static constexpr std::uint8_t edges[] = {0x00, 0x01, 0x7f, 0x80, 0xff, '0', '"', '-'};
        const std::size_t count = std::min<std::size_t>(left, 1 + below(9));
        std::fill_n(place, count, edges[below(std::size(edges))]);
        break;
      }
      case 3:
        out.resize(at);
        break;
      case 4:
        out.erase(place, place + static_cast<std::ptrdiff_t>(std::min<std::size_t>(left, 1 + below(16))));
        break;
      case 5: {
        const bytes piece(place,
                          place + static_cast<std::ptrdiff_t>(std::min<std::size_t>(left, 1 + below(64))));
        out.insert(place, piece.begin(), piece.end());
        break;
      }
      default: {
        if (other.empty()) break;
        out.resize(at);
        out.insert(out.end(), other.begin() + static_cast<std::ptrdiff_t>(below(other.size())), other.end());
      }
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) try {
  std::filesystem::path corpus;
  std::uint64_t seed = 1;
  std::size_t mutations = 200;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--seed" && i + 1 < argc) {
      seed = std::stoull(argv[++i]);
    } else if (word == "--mutations" && i + 1 < argc) {
      mutations = std::stoul(argv[++i]);
    } else {
      corpus = word;
    }
  }
  if (std::filesystem::is_regular_file(corpus)) {
    const bytes input = read(corpus);
    LLVMFuzzerTestOneInput(input.data(), input.size());
    std::printf("1 input\n");
    return 0;
  }
  if (!std::filesystem::is_directory(corpus)) {
    std::fprintf(stderr, "usage: %s CORPUS [--seed N] [--mutations N]: no such folder: %s\n", argv[0],
                 corpus.c_str());
    return 2;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "%s: the corpus is empty\n", corpus.c_str());
    return 1;
  }
  std::vector<bytes> inputs;
  for (const auto& file : files) inputs.push_back(read(file));

  // What is about to run, so that an aborted run leaves the input that did it.
  const std::filesystem::path last =
      std::filesystem::temp_directory_path() /
      ("troupe-" + std::filesystem::path(argv[0]).filename().string() + "-last-input");
  const auto run = [&](const bytes& input) { LLVMFuzzerTestOneInput(input.data(), input.size()); };
  std::size_t count = 0;
  const auto keep = [&](const bytes& input) {
    std::ofstream out(last, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
  };
  run({});
  mutator mutate(seed);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    keep(inputs[i]);
    run(inputs[i]);
    ++count;
    for (std::size_t n = 0; n < mutations; ++n) {
      const bytes input = mutate(inputs[i], inputs[static_cast<std::size_t>(n % inputs.size())]);
      keep(input);
      run(input);
      ++count;
    }
  }
  std::error_code ignored;
  std::filesystem::remove(last, ignored);
  std::printf("%zu inputs from %zu files, seed %llu\n", count, inputs.size(),
              static_cast<unsigned long long>(seed));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "the target let an exception out: %s\n", error.what());
  return 1;
}

#pragma once
// Reads NumPy's .npy files, versions 1 to 3
// (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html): booleans, integers, floats,
// Unicode texts, and records of them; little-endian, in C or Fortran order. Never pickled objects.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::model::npy {

struct field {
  std::string name;
  char kind = 0;           ///< b, i, u, f, U; V is padding
  std::size_t size = 0;    ///< bytes
  std::size_t offset = 0;  ///< in a record
};

class array {
 public:
  /// Takes a file's bytes. Throws load_error.
  explicit array(std::string bytes);

  [[nodiscard]] const std::vector<std::size_t>& shape() const { return shape_; }
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] bool has(std::string_view name) const;
  /// All numbers, in C order; of records, those of one field. Throws load_error if there is no such field, or
  /// it is not of numbers.
  [[nodiscard]] std::vector<double> numbers(std::string_view name = "") const;
  [[nodiscard]] bool holds_texts() const { return fields_.size() == 1 && fields_[0].kind == 'U'; }
  [[nodiscard]] bool holds_booleans() const { return fields_.size() == 1 && fields_[0].kind == 'b'; }
  /// All entries as Python's str() writes them.
  [[nodiscard]] std::vector<std::string> texts() const;

 private:
  [[nodiscard]] const field& find(std::string_view name) const;
  /// The byte where entry i, in C order, begins.
  [[nodiscard]] std::size_t place(std::size_t i) const;

  std::string bytes_;
  std::size_t begin_ = 0;
  std::vector<std::size_t> shape_;
  std::size_t count_ = 1;
  std::size_t item_ = 0;
  bool fortran_ = false;
  std::vector<field> fields_;
};

}  // namespace troupe::model::npy

#include "runtime/model/tensor.hpp"

#include <gtest/gtest.h>

#include "runtime/model/model.hpp"

namespace troupe::model {
namespace {

const std::vector<tensor_spec> declared = {{"a", element_type::float32, {-1, 2}, {"N", ""}, true},
                                           {"b", element_type::string, {-1}, {"N"}, true}};

tensor a(std::int64_t rows, std::size_t bytes) {
  return {"a", element_type::float32, {rows, 2}, std::vector<std::byte>(bytes), {}};
}
tensor b(std::size_t rows) {
  return {
      "b", element_type::string, {static_cast<std::int64_t>(rows)}, {}, std::vector<std::string>(rows, "x")};
}

std::string complaint(const std::vector<tensor>& given) {
  try {
    check(declared, given);
  } catch (const model_error& e) {
    return e.what();
  }
  return "";
}

TEST(Tensor, AcceptsWhatIsDeclaredInAnyOrder) {
  EXPECT_EQ(complaint({a(3, 24), b(3)}), "");
  EXPECT_EQ(complaint({b(0), a(0, 0)}), "");
}

TEST(Tensor, SaysWhatIsWrong) {
  EXPECT_EQ(complaint({a(3, 24)}), "input b is missing");
  EXPECT_EQ(complaint({a(3, 24), a(3, 24), b(3)}), "input a is given twice");
  EXPECT_EQ(complaint({a(3, 23), b(3)}), "input a: it holds 23 bytes, its shape [3, 2] of float32 has 24");
  EXPECT_EQ(complaint({a(3, 24), b(2)}), "input b: dimension N is 2, in input a it is 3");
  auto wrong = a(3, 24);
  wrong.shape = {3, 3};
  EXPECT_EQ(complaint({wrong, b(3)}), "input a: its shape is [3, 3], the model takes [N, 2]");
  wrong.shape = {6};
  EXPECT_EQ(complaint({wrong, b(3)}), "input a: its shape is [6], the model takes [N, 2]");
  wrong = a(3, 24);
  wrong.type = element_type::int32;
  EXPECT_EQ(complaint({wrong, b(3)}), "input a: its type is int32, the model takes float32");
  wrong = a(3, 24);
  wrong.name = "c";
  EXPECT_EQ(complaint({wrong, b(3)}), "there is no input c; the model has a, b");
}

TEST(Tensor, HostileShapes) {
  const std::int64_t big[] = {INT64_MAX, INT64_MAX, 2};
  const std::int64_t zero[] = {0, INT64_MAX};
  const std::int64_t negative[] = {2, -1};
  EXPECT_THROW((void)element_count(big), model_error);
  EXPECT_THROW((void)element_count(negative), model_error);
  EXPECT_THROW((void)element_count(zero), model_error);
  EXPECT_EQ(element_count({}), 1U);
}

}  // namespace
}  // namespace troupe::model

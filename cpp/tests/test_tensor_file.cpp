// Tensor files: the two good kinds and every bad one, for images of shape [1,2,3].
#include "deploybench/tensor_file.hpp"

#include <limits>
#include <numeric>
#include <string>

#include "check.hpp"
#include "deploybench/error.hpp"
#include "deploybench/npy_header.hpp"
#include "scratch_folder.hpp"

namespace {

using deploybench::make_npy_header;
using deploybench::check::ScratchFolder;

std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::vector<float> counting(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 1.0F);
  return values;
}

deploybench::TensorFile read(const std::string& path) { return deploybench::read_tensor_file(path, {1, 2, 3}); }

// A .npy file whose header is numpy's for [2,1,2,3], with `from` replaced by `to` of the same length.
std::string npy(const std::string& from, const std::string& to) {
  std::string header = make_npy_header({2, 1, 2, 3});
  header.replace(header.find(from), from.size(), to);
  return header + bytes_of(counting(12));
}

TEST(tensor_file, reads_npy) {
  const ScratchFolder folder;
  const auto tensor = read(folder.write("a.npy", make_npy_header({2, 1, 2, 3}) + bytes_of(counting(12))));
  CHECK(tensor.images == 2 && tensor.values == counting(12));
}

TEST(tensor_file, reads_dat) {
  const ScratchFolder folder;
  const auto tensor = read(folder.write("a.dat", bytes_of(counting(18))));
  CHECK(tensor.images == 3 && tensor.values == counting(18));
}

TEST(tensor_file, what_is_written_can_be_read) {
  const ScratchFolder folder;
  deploybench::write_npy(folder.file("a.npy"), counting(6), {1, 1, 2, 3});
  CHECK(read(folder.file("a.npy")).values == counting(6));
}

TEST(tensor_file, not_there_or_not_a_file) {
  const ScratchFolder folder;
  CHECK_THROWS(read(folder.file("a.npy")), "a.npy: no such file; make it with `deploybench preprocess");
  CHECK_THROWS(read(folder.path()), "not a file");
  CHECK_THROWS(read(folder.write("empty.npy", "")), "the file is empty");
  CHECK_THROWS(read(folder.write("empty.dat", "")), "the file is empty");
  CHECK_THROWS(read(folder.write("a.bin", "x")), "a tensor file ends in .npy or .dat");
  CHECK_THROWS(read("/dev/zero"), "not a file");
}

TEST(tensor_file, the_code_tells_missing_from_invalid) {
  const ScratchFolder folder;
  try {
    read(folder.file("a.npy"));
    CHECK(false);
  } catch (const deploybench::Error& error) {
    CHECK(error.code() == deploybench::Code::input_missing);
  }
  try {
    read(folder.write("a.npy", "x"));
    CHECK(false);
  } catch (const deploybench::Error& error) {
    CHECK(error.code() == deploybench::Code::input_invalid);
  }
}

TEST(tensor_file, headers_of_other_tensors) {
  const ScratchFolder folder;
  CHECK_THROWS(read(folder.write("a.npy", npy("<f4", "<f8"))), "its dtype is '<f8', not '<f4'");
  CHECK_THROWS(read(folder.write("a.npy", npy("<f4", ">f4"))), "its dtype is '>f4'");
  CHECK_THROWS(read(folder.write("a.npy", npy("<f4", "<i4"))), "its dtype is '<i4'");
  CHECK_THROWS(read(folder.write("a.npy", npy("False", "True "))), "Fortran order");
  CHECK_THROWS(read(folder.write("a.npy", npy("(2, 1, 2, 3)", "(2, 1, 3, 2)"))),
               "its shape is [2,1,3,2], not [N,1,2,3]");
  CHECK_THROWS(read(folder.write("a.npy", npy("(2, 1, 2, 3)", "(1, 2, 3)   "))), "its shape is [1,2,3], not [N,1,2,3]");
  CHECK_THROWS(read(folder.write("a.npy", npy("(2, 1, 2, 3)", "(0, 1, 2, 3)"))), "it holds no image");
  CHECK_THROWS(read(folder.write("a.npy", "not numpy at all")), "not a .npy file");
}

TEST(tensor_file, sizes_that_do_not_fit) {
  const ScratchFolder folder;
  const std::string whole = npy("<f4", "<f4");
  CHECK_THROWS(read(folder.write("a.npy", whole.substr(0, whole.size() - 1))), "truncated");
  CHECK_THROWS(read(folder.write("a.npy", whole + "x")), "1 bytes too many");
  CHECK_THROWS(read(folder.write("a.npy", make_npy_header({2, 1, 2, 3}))), "truncated");
  // 2^62 images: the product with their size overflows, and so would an allocation
  CHECK_THROWS(read(folder.write("a.npy", make_npy_header({4611686018427387904, 1, 2, 3}) + "xxxx")), "truncated");
  CHECK_THROWS(read(folder.write("a.dat", bytes_of(counting(7)))),
               "its 28 bytes are no whole number of [1,2,3] float32 images of 24 bytes");
  CHECK_THROWS(read(folder.write("a.dat", "abc")), "no whole number");
}

TEST(tensor_file, values_that_are_no_numbers) {
  const ScratchFolder folder;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    std::vector<float> values = counting(6);
    values.back() = bad;
    CHECK_THROWS(read(folder.write("a.dat", bytes_of(values))), "it holds NaN or infinity");
  }
}

}  // namespace

// numpy's header, as numpy writes it and as nobody should.
#include "deploybench/npy_header.hpp"

#include <string>

#include "check.hpp"

namespace {

using deploybench::make_npy_header;
using deploybench::parse_npy_header;

std::string with_literal(const std::string& literal, char major = 1) {
  std::string header = "\x93NUMPY";
  header += major;
  header += '\0';
  header += static_cast<char>(literal.size() & 0xFFU);
  header += static_cast<char>(literal.size() >> 8U);
  if (major > 1) header.append(2, '\0');
  return header + literal;
}

TEST(npy_header, reads_what_numpy_writes_in_each_version) {
  for (const char major : {'\1', '\2', '\3'}) {
    const auto header =
        parse_npy_header(with_literal("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 8, 6), } \n", major));
    CHECK(header.dtype == "<f4" && !header.fortran_order && header.shape == (std::vector<std::int64_t>{2, 3, 8, 6}));
    CHECK(header.data_offset == (major == 1 ? 77U : 79U));
  }
}

TEST(npy_header, keys_may_come_in_any_order) {
  CHECK(parse_npy_header(with_literal("{'shape':(5,),'fortran_order':True,'descr':'>f8'}")).fortran_order);
}

TEST(npy_header, a_structure_is_named) {
  const auto header =
      parse_npy_header(with_literal("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (), }"));
  CHECK(header.dtype == "a structure" && header.shape.empty());
}

TEST(npy_header, what_is_written_can_be_read) {
  const std::string text = make_npy_header({2, 1000});
  CHECK(text.size() == 128 && text.ends_with('\n'));
  CHECK(text.find("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1000), }") == 10);
  const auto header = parse_npy_header(text);
  CHECK(header.data_offset == 128 && header.shape == (std::vector<std::int64_t>{2, 1000}));
  CHECK(parse_npy_header(make_npy_header({7})).shape == (std::vector<std::int64_t>{7}));
}

TEST(npy_header, malformed) {
  for (const char* const literal :
       {"", "{", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}", "{'descr': '<f4", "{'descr': [('x'",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}"}) {
    CHECK_THROWS(parse_npy_header(with_literal(literal)), "malformed");
  }
}

TEST(npy_header, truncated_anywhere) {
  const std::string whole = make_npy_header({1, 3, 8, 6});
  CHECK_THROWS(parse_npy_header(""), "not a .npy file");
  CHECK_THROWS(parse_npy_header(whole.substr(0, 5)), "not a .npy file");
  for (std::size_t size = 6; size < whole.size(); ++size)
    CHECK_THROWS(parse_npy_header(whole.substr(0, size)), "truncated");
}

TEST(npy_header, lengths_that_lie) {
  CHECK_THROWS(parse_npy_header(std::string("\x93NUMPY\2\0\xff\xff\xff\xff", 12)), "longer than 10000 bytes");
  CHECK_THROWS(parse_npy_header(std::string("\x93NUMPY\4\0\x01\0\0\0", 12)), "version is not 1.0, 2.0 or 3.0");
  CHECK_THROWS(parse_npy_header(std::string("\x93NUMPY\1\1\x01\0", 10)), "version is not 1.0, 2.0 or 3.0");
  const std::string literal = "{'descr': '<f4', 'fortran_order': False, 'shape': (5,)}";
  CHECK(parse_npy_header(with_literal(literal + std::string(10'000 - literal.size(), ' '))).shape[0] == 5);
  CHECK_THROWS(parse_npy_header(with_literal(literal + std::string(10'001 - literal.size(), ' '))), "longer than");
}

}  // namespace

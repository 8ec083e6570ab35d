#include "deploybench/npy_header.hpp"

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace deploybench {
namespace {

constexpr std::string_view magic = "\x93NUMPY";

std::size_t little_endian(std::string_view bytes) {
  std::size_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = (value << 8U) | static_cast<unsigned char>(bytes[i]);
  return value;
}

// Reads the one Python literal that numpy writes: {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 224, 224), }
class Literal {
 public:
  explicit Literal(std::string_view text) : text_(text) {}

  NpyHeader read() {
    NpyHeader header;
    unsigned seen = 0;  // a bit for each key
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      seen |= read_value(key, header);
      if (!accept(',') && peek() != '}') fail();
    }
    skip_space();
    if (!text_.empty() || seen != 7U) fail();
    return header;
  }

 private:
  // Returns the bit of the key, by which the caller knows that it has seen all three.
  unsigned read_value(const std::string& key, NpyHeader& header) {
    if (key == "descr") {
      header.dtype = peek() == '[' ? structure() : quoted();
      return 1U;
    }
    if (key == "fortran_order") {
      header.fortran_order = truth();
      return 2U;
    }
    if (key != "shape") fail();
    header.shape = tuple();
    return 4U;
  }

  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> numbers;
    expect('(');
    while (!accept(')')) {
      numbers.push_back(number());
      if (!accept(',') && peek() != ')') fail();
    }
    return numbers;
  }

  std::int64_t number() {
    skip_space();
    std::int64_t value = 0;
    const auto [stop, problem] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (problem != std::errc{} || value < 0) fail();
    text_.remove_prefix(static_cast<std::size_t>(stop - text_.data()));
    return value;
  }

  bool truth() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return value;
    }
    fail();
  }

  std::string quoted() {
    expect('\'');
    const std::size_t end = text_.find('\'');
    if (end == std::string_view::npos) fail();
    std::string value(text_.substr(0, end));
    text_.remove_prefix(end + 1);
    return value;
  }

  // A record dtype is a list of tuples; it is refused anyway, so only its end matters.
  std::string structure() {
    const std::size_t end = text_.find(']');
    if (end == std::string_view::npos) fail();
    text_.remove_prefix(end + 1);
    return "a structure";
  }

  void skip_space() { text_.remove_prefix(std::min(text_.find_first_not_of(" \n"), text_.size())); }

  char peek() {
    skip_space();
    return text_.empty() ? '\0' : text_.front();
  }

  bool accept(char c) {
    const bool here = peek() == c;
    if (here) text_.remove_prefix(1);
    return here;
  }

  void expect(char c) {
    if (!accept(c)) fail();
  }

  [[noreturn]] static void fail() { throw std::invalid_argument("its .npy header is malformed"); }

  std::string_view text_;
};

}  // namespace

NpyHeader parse_npy_header(std::string_view start_of_file) {
  if (!start_of_file.starts_with(magic)) throw std::invalid_argument("not a .npy file");
  const auto require = [&](std::size_t bytes) {
    if (start_of_file.size() < bytes) throw std::invalid_argument("truncated inside its header");
  };
  require(8);
  const int major = static_cast<unsigned char>(start_of_file[6]);
  if (major < 1 || major > 3 || start_of_file[7] != 0) {
    throw std::invalid_argument("its .npy version is not 1.0, 2.0 or 3.0");
  }
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  require(8 + length_bytes);
  const std::size_t length = little_endian(start_of_file.substr(8, length_bytes));
  const std::size_t offset = 8 + length_bytes + length;
  if (length > most_npy_header) throw std::invalid_argument("its .npy header is longer than 10000 bytes");
  require(offset);
  NpyHeader header = Literal(start_of_file.substr(8 + length_bytes, length)).read();
  header.data_offset = offset;
  return header;
}

std::string make_npy_header(const std::vector<std::int64_t>& shape) {
  std::string literal = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i) literal += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  literal += shape.size() == 1 ? ",), }" : "), }";
  constexpr std::size_t before = 10;  // magic, version, length
  literal.append(63 - (before + literal.size()) % 64, ' ');
  literal += '\n';
  std::string header(magic);
  header += {'\x01', '\x00', static_cast<char>(literal.size() & 0xFFU), static_cast<char>(literal.size() >> 8U)};
  return header + literal;
}

}  // namespace deploybench

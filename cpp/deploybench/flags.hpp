// A command line as a table: one row a flag, from which both the parser and `--help` are made.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deploybench {

// Stores a value; returns what the flag expects when the text is not that, e.g. "a whole number from 1 to 1024".
using Store = std::function<std::optional<std::string>(std::string_view text)>;

struct Flag {
  std::string name;        // "--runs"
  std::string value_name;  // "N"; empty for a switch, which takes no value
  std::string help;        // one sentence
  std::string preset;      // the default as shown by --help; empty when there is none
  Store store;
};

struct Group {
  std::string heading;
  std::vector<Flag> flags;
};

struct Positional {
  std::string name;  // "ARTIFACT"
  std::string help;
  Store store;
  bool several = false;  // the last one only: takes all that follow
};

struct CommandLine {
  std::string program;
  std::string summary;
  std::vector<Positional> positionals;  // all required
  std::vector<Group> groups;
  std::string example;  // a command that works, in one line of 78 columns
};

// Ways to store a value. The target must outlive the parse; every one refuses what is not wholly a value of its kind:
// overflow, a trailing character, a sign, white space, nan and inf.
Store into_count(std::int64_t& target, std::int64_t least, std::int64_t most);
Store into_count(std::size_t& target, std::size_t least, std::size_t most);
Store into_seed(std::optional<std::uint64_t>& target);
Store into_seconds(double& target, bool zero_allowed);
Store into_number(double& target, std::int64_t most, const std::string& unit);  // above 0
Store into_text(std::string& target);
Store into_texts(std::vector<std::string>& target);
Store into_choice(std::string& target, std::vector<std::string> choices);
Store into_switch(bool& target);

// A switch that sets `target` to `value`.
template <typename Value>
Store into_switch(Value& target, Value value) {
  return [&target, value](std::string_view) -> std::optional<std::string> {
    target = value;
    return std::nullopt;
  };
}

// Reads `--flag value` and `--flag=value`; a flag given twice keeps the later value. Throws Error(usage).
// Nothing is demanded here, so that `--help` alone is a whole command line: whoever calls checks what must be there.
void parse(const CommandLine& line, std::span<const char* const> arguments);

// The text of --help, with a newline at its end; on a terminal that takes colours with its headings in bold.
std::string help_text(const CommandLine& line, bool bold);

}  // namespace deploybench

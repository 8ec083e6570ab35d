#include "deploybench/flags.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>
#include <utility>

#include "deploybench/error.hpp"

namespace deploybench {
namespace {

constexpr std::size_t help_width = 80;
constexpr std::size_t help_column = 26;

// from_chars and not strtol or stod: those skip white space, take "0x10" and "nan", and read the user's locale.
template <typename Number>
std::optional<Number> number_from(std::string_view text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, number);
  return problem == std::errc{} && stop == end ? std::optional<Number>(number) : std::nullopt;
}

[[noreturn]] void refuse(const CommandLine& line, std::string_view subject, std::string_view problem) {
  throw Error(Code::usage, subject, problem, "see " + line.program + " --help");
}

const Flag* find_flag(const CommandLine& line, std::string_view name) {
  for (const Group& group : line.groups) {
    const auto found = std::ranges::find(group.flags, name, &Flag::name);
    if (found != group.flags.end()) return &*found;
  }
  return nullptr;
}

void store_value(const CommandLine& line, const std::string& name, const Store& store, std::string_view text) {
  if (const auto expected = store(text)) refuse(line, name, "'" + std::string(text) + "' is not " + *expected);
}

// Handles arguments[at], a flag; returns how many arguments it took.
std::size_t parse_flag(const CommandLine& line, std::span<const char* const> arguments, std::size_t at) {
  const std::string_view argument = arguments[at];
  const std::size_t equals = argument.find('=');
  const std::string name(argument.substr(0, equals));
  const Flag* const flag = find_flag(line, name);
  if (flag == nullptr) refuse(line, name, "no such flag");
  const bool inlined = equals != std::string_view::npos;
  if (flag->value_name.empty()) {
    if (inlined) refuse(line, name, "takes no value");
    store_value(line, name, flag->store, "");
    return 1;
  }
  const bool follows = at + 1 < arguments.size() && !std::string_view(arguments[at + 1]).starts_with("--");
  if (!inlined && !follows) refuse(line, name, "needs a value, " + flag->value_name);
  store_value(line, name, flag->store, inlined ? argument.substr(equals + 1) : std::string_view(arguments[at + 1]));
  return inlined ? 1 : 2;
}

// `text` broken at spaces into lines of at most 80 columns; all but the first begin with `indent` spaces.
std::string wrapped(const std::string& text, std::size_t indent) {
  std::string lines;
  std::size_t column = indent;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (column > indent && column + 1 + word.size() > help_width) {
      lines += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      lines += ' ';
      ++column;
    }
    lines += word;
    column += word.size();
  }
  return lines;
}

// What is typed, and beside it what it does; below it where there is no room.
std::string entry(const std::string& typed, const std::string& does) {
  const std::size_t begin = 2 + typed.size() + 1;
  const std::string gap =
      begin > help_column ? "\n" + std::string(help_column, ' ') : std::string(help_column - begin + 1, ' ');
  return "  " + typed + gap + wrapped(does, help_column) + "\n";
}

}  // namespace

namespace {

template <typename Number>
Store into_whole(Number& target, Number least, Number most) {
  return [&target, least, most](std::string_view text) -> std::optional<std::string> {
    const auto number = number_from<Number>(text);
    if (!number || *number < least || *number > most) {
      return "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
    }
    target = *number;
    return std::nullopt;
  };
}

}  // namespace

Store into_count(std::int64_t& target, std::int64_t least, std::int64_t most) {
  return into_whole(target, least, most);
}

Store into_count(std::size_t& target, std::size_t least, std::size_t most) { return into_whole(target, least, most); }

Store into_seed(std::optional<std::uint64_t>& target) {
  return [&target](std::string_view text) -> std::optional<std::string> {
    const auto number = number_from<std::uint64_t>(text);
    if (!number) return "a whole number from 0 to 18446744073709551615";
    target = number;
    return std::nullopt;
  };
}

Store into_seconds(double& target, bool zero_allowed) {
  return [&target, zero_allowed](std::string_view text) -> std::optional<std::string> {
    const auto number = number_from<double>(text);
    if (!number || !std::isfinite(*number) || std::signbit(*number) || (*number == 0 && !zero_allowed)) {
      return zero_allowed ? "a number of seconds, 0 or more" : "a number of seconds above 0";
    }
    target = *number;
    return std::nullopt;
  };
}

Store into_number(double& target, std::int64_t most, const std::string& unit) {
  return [&target, most, unit](std::string_view text) -> std::optional<std::string> {
    const auto number = number_from<double>(text);
    if (!number || !std::isfinite(*number) || *number <= 0 || *number > static_cast<double>(most)) {
      return "a number of " + unit + " above 0, " + std::to_string(most) + " at most";
    }
    target = *number;
    return std::nullopt;
  };
}

Store into_text(std::string& target) {
  return [&target](std::string_view text) -> std::optional<std::string> {
    if (text.empty()) return "the name of a file";
    target = text;
    return std::nullopt;
  };
}

Store into_texts(std::vector<std::string>& target) {
  return [&target](std::string_view text) -> std::optional<std::string> {
    if (text.empty()) return "the name of a file";
    target.emplace_back(text);
    return std::nullopt;
  };
}

Store into_choice(std::string& target, std::vector<std::string> choices) {
  return [&target, choices = std::move(choices)](std::string_view text) -> std::optional<std::string> {
    if (std::ranges::find(choices, text) != choices.end()) {
      target = text;
      return std::nullopt;
    }
    std::string expected = "one of";
    for (const std::string& choice : choices) expected += " " + choice;
    return expected;
  };
}

Store into_switch(bool& target) { return into_switch(target, true); }

void parse(const CommandLine& line, std::span<const char* const> arguments) {
  std::size_t positional = 0;
  for (std::size_t at = 0; at < arguments.size();) {
    const std::string_view argument = arguments[at];
    if (argument.size() > 1 && argument.starts_with('-')) {
      at += parse_flag(line, arguments, at);
      continue;
    }
    if (positional == line.positionals.size()) refuse(line, argument, "one argument too many");
    const Positional& taken = line.positionals[positional];
    store_value(line, taken.name, taken.store, argument);
    if (!taken.several) ++positional;
    ++at;
  }
}

std::string help_text(const CommandLine& line, bool bold) {
  const auto heading = [bold](const std::string& words) { return bold ? "\033[1m" + words + "\033[0m" : words; };
  std::string text = heading("usage:") + " " + line.program;
  for (const Positional& positional : line.positionals) {
    text += " " + positional.name + (positional.several ? "..." : "");
  }
  text += " [flags]\n\n" + wrapped(line.summary, 0) + "\n";
  if (!line.positionals.empty()) text += "\n";
  for (const Positional& positional : line.positionals) text += entry(positional.name, positional.help);
  for (const Group& group : line.groups) {
    text += "\n" + heading(group.heading) + "\n";
    for (const Flag& flag : group.flags) {
      const std::string shown = flag.value_name.empty() ? flag.name : flag.name + " " + flag.value_name;
      text += entry(shown, flag.preset.empty() ? flag.help : flag.help + " (default: " + flag.preset + ")");
    }
  }
  if (!line.example.empty()) text += "\n" + heading("example") + "\n  " + line.example + "\n";
  return text;
}

}  // namespace deploybench

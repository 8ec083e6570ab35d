#include "deploybench/console.hpp"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <new>
#include <system_error>

#include "deploybench/file.hpp"
#include "deploybench/record.hpp"
#include "deploybench/utf8.hpp"

namespace deploybench {
namespace {

constexpr const char* red = "\033[1;31m";
constexpr const char* yellow = "\033[1;33m";

std::atomic<bool> quietly = false;

bool is_set(const char* variable) {
  const char* const value = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe): nothing here changes variables
  return value != nullptr && *value != 0;
}

bool takes_colours(int descriptor) {
  if (is_set("NO_COLOR")) return false;
  if (is_set("FORCE_COLOR")) return true;
  const char* const terminal = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe)
  return isatty(descriptor) == 1 && (terminal == nullptr || std::string_view(terminal) != "dumb");
}

// Nothing can be done about a stderr that is closed.
void say(std::string_view kind, std::string_view text, const char* colour = nullptr) {
  std::string word = std::string(kind) + ":";
  if (colour != nullptr && takes_colours(STDERR_FILENO)) word = colour + word + "\033[0m";
  (void)write_all(STDERR_FILENO, word + " " + one_line(text) + "\n");
}

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {Code::out_of_memory, "memory", "not enough for this model and batch", "use a smaller --batch-size"};
  } catch (const std::system_error& error) {
    return {Code::runtime, "threads", error.what(), "use fewer --instances or --threads"};
  } catch (const std::exception& error) {
    return {Code::runtime, "internal error", error.what(), "please report it with the command line"};
  } catch (...) {
    return {Code::runtime, "internal error", "unknown exception", "please report it with the command line"};
  }
}

}  // namespace

void ignore_closed_pipes() { (void)std::signal(SIGPIPE, SIG_IGN); }

void print(std::string_view text) {
  if (const int problem = write_all(STDOUT_FILENO, text); problem != 0) {
    throw Error(Code::output_unwritable, "standard output", std::generic_category().message(problem),
                "check where the output is sent");
  }
}

bool stdout_takes_colours() { return takes_colours(STDOUT_FILENO); }

void set_quiet(bool quiet) { quietly = quiet; }

void warn(std::string_view text) { say("warning", text, yellow); }

void notice(std::string_view text) {
  if (!quietly) say("notice", text);
}

void report(const Error& error) { say("error", error.what(), red); }

void await_turn() {
  print("ready\n");
  for (char letter = 0; letter != '\n';) {
    if (read(STDIN_FILENO, &letter, 1) != 1) {
      throw Error(Code::runtime, "standard input", "ended before the run", "with --turn it gives a line for each turn");
    }
  }
}

int exit_status(Code code) { return code == Code::usage ? 2 : 1; }

int report_exception(bool json, const std::string& artifact) noexcept {
  try {
    const Error error = current_error();
    if (json) (void)write_all(STDOUT_FILENO, failure_json(error, artifact) + "\n");
    say("error", error.what(), red);
    return exit_status(error.code());
  } catch (...) {  // only memory so short that not even the message fits
    return 1;
  }
}

}  // namespace deploybench

// What a program says: results on stdout, everything else on stderr, a line each.
#pragma once

#include <string>
#include <string_view>

#include "deploybench/error.hpp"

namespace deploybench {

// From then on a write to a closed pipe fails with EPIPE, which is reported, instead of ending the process by a signal.
void ignore_closed_pipes();

// Writes all of it to stdout or throws Error(output_unwritable): a full disk behind `> file` must not pass for success.
void print(std::string_view text);

// Whether stdout takes colours: a terminal does. NO_COLOR (no-color.org) forbids them, FORCE_COLOR (force-color.org)
// wants them in pipes too. Twin of coloured() in python/deploybench/terminal.py.
bool stdout_takes_colours();

// --quiet: from now on notices are not said. Errors and warnings are.
void set_quiet(bool quiet);

// `warning: <text>` and `notice: <text>` on stderr.
void warn(std::string_view text);
void notice(std::string_view text);

// `error: <text>` on stderr, of one that does not end the program.
void report(const Error& error);

// Says `ready` on stdout and waits for a line on stdin: the sign that this process may use the machine. Throws
// Error(runtime) when stdin ends.
void await_turn();

// 2 for a wrong command line, 1 for everything else.
int exit_status(Code code);

// For main's catch-all: says the exception in flight as `error: ...` on stderr, with `json` also as a failure record on
// stdout (`artifact` empty: unknown), and returns the exit status.
int report_exception(bool json, const std::string& artifact) noexcept;

}  // namespace deploybench

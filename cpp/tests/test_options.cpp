// Command lines: what is read, and that everything else is refused with the flag's name.
#include <array>
#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

#include "check.hpp"
#include "deploybench/console.hpp"
#include "deploybench/error.hpp"
#include "deploybench/options.hpp"

namespace {

using deploybench::BenchOptions;
using deploybench::InferOptions;

using Arguments = std::vector<const char*>;

BenchOptions bench(Arguments arguments) {
  arguments.insert(arguments.begin(), {"--artifact", "a.ts"});
  BenchOptions options;
  deploybench::parse_bench(arguments, options);
  return options;
}

InferOptions infer(const Arguments& arguments) {
  InferOptions options;
  deploybench::parse_infer(arguments, options);
  return options;
}

TEST(options, defaults_are_those_of_the_contract) {
  const BenchOptions o = bench({});
  CHECK(o.artifact == "a.ts" && o.input.empty() && o.device.empty() && o.output.empty());
  CHECK(o.batch_size == 0 && o.threads >= 1 && o.interop_threads == 1 && o.warmup == 10);
  CHECK(o.limits.runs == 100 && o.limits.min_seconds == 0 && o.limits.max_seconds == 60);
  CHECK(!o.seed && !o.strict && !o.json && !o.help);
}

TEST(options, both_spellings_of_a_value) {
  const BenchOptions o = bench({"--runs", "7", "--warmup=0", "--input=a=b.npy", "--seed", "18446744073709551615"});
  CHECK(o.limits.runs == 7 && o.warmup == 0 && o.input == "a=b.npy" && o.seed == 18446744073709551615U);
}

TEST(options, the_later_of_two_wins) { CHECK(bench({"--runs", "7", "--runs=8"}).limits.runs == 8); }

TEST(options, numbers_that_are_none) {
  for (const char* const bad : {"", "0", "-1", "+1", " 1", "1 ", "1x", "1.5", "1e3", "0x10", "nan",
                                "9223372036854775808", "99999999999999999999999"}) {
    CHECK_THROWS(bench({"--runs", bad}), std::string("--runs: '") + bad + "' is not a whole number from 1 to");
  }
  CHECK_THROWS(bench({"--threads", "0"}), "--threads: '0' is not a whole number from 1 to 1024");
  CHECK_THROWS(bench({"--threads", "1025"}), "--threads");
  CHECK_THROWS(bench({"--warmup", "-1"}), "--warmup: '-1' is not a whole number from 0");
  CHECK_THROWS(bench({"--seed", "18446744073709551616"}), "--seed");
  CHECK_THROWS(bench({"--seed", "-1"}), "--seed");
}

TEST(options, seconds_that_are_none) {
  for (const char* const bad : {"", "-1", "-0", "nan", "inf", "infinity", "1e999", "1s", " 1", "0x1p3"}) {
    CHECK_THROWS(bench({"--min-seconds", bad}), "--min-seconds: '");
  }
  CHECK_THROWS(bench({"--max-seconds", "0"}), "--max-seconds: '0' is not a number of seconds above 0");
  CHECK(bench({"--min-seconds", "0"}).limits.min_seconds == 0);
  CHECK(bench({"--max-seconds", "2.5e-1"}).limits.max_seconds == 0.25);
}

TEST(options, flags_that_contradict_each_other) {
  CHECK_THROWS(bench({"--rate", "5", "--latency-bound", "1"}), "--latency-bound: searches the rate");
  for (const char* const load : {"--rate", "--latency-bound"}) {
    CHECK_THROWS(bench({"--cuda-graph", "on", load, "1"}), "--cuda-graph on: is for calls of one size");
  }
  CHECK_THROWS(bench({"--cuda-graph", "on", "--instances", "2"}), "--cuda-graph on: records the calls of one instance");
  CHECK_THROWS(bench({"--bind", "on", "--instances", "2"}), "--bind on: would keep all instances on the same cores");
  CHECK(bench({"--bind", "on", "--cuda-graph", "on", "--instances", "1"}).knobs.bind == "on");
  CHECK(bench({"--bind", "on", "--rate", "1"}).load.rate == 1);
}

TEST(options, what_arrives_has_bounds) {
  for (const char* const bad : {"0", "-1", "nan", "100001", "1e300"}) {
    CHECK_THROWS(bench({"--rate", bad}),
                 std::string("--rate: '") + bad + "' is not a number of images a second above 0, 100000 at most");
  }
  for (const char* const bad : {"0", "601", "1e300"}) {
    CHECK_THROWS(bench({"--load-seconds", bad}),
                 std::string("--load-seconds: '") + bad + "' is not a number of seconds above 0, 600 at most");
  }
  CHECK_THROWS(bench({"--batch-delay", "10000001"}),
               "--batch-delay: '10000001' is not a whole number from 0 to 10000000");
  CHECK(bench({"--rate", "1e5", "--load-seconds", "600", "--batch-delay", "10000000"}).load.seconds == 600);
}

TEST(options, flags_that_are_none) {
  CHECK_THROWS(bench({"--rums", "1"}), "--rums: no such flag; see bench --help");
  CHECK_THROWS(bench({"-x"}), "-x: no such flag");
  CHECK_THROWS(bench({"--run", "1"}), "--run: no such flag");
  CHECK_THROWS(bench({"stray"}), "stray: one argument too many");
  CHECK_THROWS(bench({"--device", "tpu"}), "--device: 'tpu' is not one of cpu cuda");
  CHECK_THROWS(bench({"--json=1"}), "--json: takes no value");
}

TEST(options, values_that_are_missing) {
  CHECK_THROWS(bench({"--runs"}), "--runs: needs a value, N");
  CHECK_THROWS(bench({"--input", "--json"}), "--input: needs a value, FILE");
  CHECK_THROWS(bench({"--input="}), "--input: '' is not the name of a file");
}

TEST(options, what_is_required) {
  BenchOptions options;
  CHECK_THROWS(deploybench::parse_bench({}, options), "--artifact: is required; see bench --help");
  CHECK_THROWS(infer({}), "ARTIFACT: is required");
  CHECK_THROWS(infer({"a.ts"}), "INPUT: is required");
  CHECK(infer({"--help"}).help);
}

TEST(options, infer_takes_flags_anywhere) {
  const InferOptions o = infer({"--top-k", "3", "a.ts", "--json", "in.npy", "--labels=l.txt"});
  CHECK(o.artifact == "a.ts" && o.inputs == std::vector<std::string>{"in.npy"} && o.classifier.top_k == 3 &&
        o.format == deploybench::Format::json && o.classifier.labels == "l.txt");
  CHECK(infer({"a.ts", "x.jpg", "--csv"}).format == deploybench::Format::csv);
  for (const Arguments& both : {Arguments{"a.ts", "--csv", "--json"}, Arguments{"a.ts", "--json", "--csv"}}) {
    InferOptions options;
    CHECK_THROWS(deploybench::parse_infer(both, options), "--csv: goes not with --json");
    CHECK(options.format == deploybench::Format::json);  // so that the failure is a record, too
  }
}

TEST(options, infer_leaves_the_instances_to_the_number_of_photos) {
  CHECK(infer({"a.ts", "x.jpg"}).classifier.instances == 0);
  CHECK(infer({"a.ts", "x.jpg", "--instances", "3"}).classifier.instances == 3);
  CHECK_THROWS(infer({"a.ts", "x.jpg", "--instances", "0"}), "--instances: '0' is not a whole number from 1 to 1024");
}

TEST(options, a_failed_parse_leaves_what_the_failure_record_needs) {
  BenchOptions options;
  const std::array arguments = {"--artifact", "a.ts", "--runs", "x", "--json"};
  CHECK_THROWS(deploybench::parse_bench(arguments, options), "--runs");
  CHECK(options.artifact == "a.ts" && options.json);
}

TEST(options, a_wrong_command_line_exits_with_2) {
  using deploybench::Code;
  CHECK(deploybench::exit_status(Code::usage) == 2);
  CHECK(deploybench::exit_status(Code::runtime) == 1);
  CHECK(deploybench::code_name(Code::runtime) == "runtime" && deploybench::code_name(Code::usage) == "usage");
}

TEST(options, help_names_every_flag_and_its_default) {
  const std::string help = deploybench::bench_help(false);
  for (const char* const flag :
       {"--artifact FILE", "--input FILE", "--batch-size N", "--device cpu|cuda", "--threads N", "--interop-threads N",
        "--warmup N", "--runs N", "--min-seconds S", "--max-seconds S", "--seed N", "--output FILE", "--strict",
        "--json", "--quiet", "--help", "(default: 100)", "\nexample\n  bench --artifact "}) {
    CHECK(help.find(flag) != std::string::npos);
  }
  for (const std::string& text : {help, deploybench::infer_help(false), deploybench::preprocess_help(false)}) {
    std::istringstream lines(text);
    for (std::string one; std::getline(lines, one);) CHECK(one.size() <= 80);
  }
  CHECK(deploybench::bench_help(true).starts_with("\033[1musage:\033[0m bench [flags]\n"));
  CHECK(deploybench::infer_help(false).starts_with("usage: infer ARTIFACT INPUT... [flags]\n"));
}

// Found by fuzzing: an argument that is no UTF-8 came back in three bytes for each one.
TEST(options, an_error_is_short) {
  const std::string argument = "--" + std::string(100'000, '\xff');
  const std::array<const char*, 1> arguments = {argument.c_str()};
  deploybench::BenchOptions options;
  try {
    deploybench::parse_bench(arguments, options);
    CHECK(false);
  } catch (const std::exception& error) {
    CHECK(std::string(error.what()).size() < 20'000);
  }
}

}  // namespace

"""Can a program of somebody else's be built against the installed library, out of tree, and does it say what `infer` says?"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PHOTOS, ROOT, Artifact, native
from deploybench import elf, library_paths, paths
from test_bundle import PHOTO, PLACE, make_root, run_inside
from test_cpp_units import tool

HEADERS = ["classifier.hpp", "error.hpp", "export.hpp", "predictions.hpp"]


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `cmake --install`."""
    native("infer", "--help")  # or skip
    prefix = tmp_path_factory.mktemp("prefix")
    run(tool("cmake"), "--install", ROOT / "cpp" / "build", "--prefix", prefix)
    return prefix


def compiled(source: Path, installed: Path, into: Path) -> None:
    """Configured and built, as its README would say."""
    cmake, ninja = tool("cmake"), tool("ninja")
    flags = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", f"-DCMAKE_PREFIX_PATH={installed}")
    run(cmake, "-S", source, "-B", into, *flags)
    run(cmake, "--build", into)


def test_the_public_headers_show_nothing_of_libtorch(installed: Path) -> None:
    folder = installed / "include" / "deploybench"
    assert sorted(file.name for file in folder.iterdir()) == HEADERS
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8")
        for line in text.splitlines():
            if line.startswith("#include"):
                assert "torch" not in line
                assert "ATen" not in line
                if '"' in line:
                    assert line.split('"')[1].removeprefix("deploybench/") in HEADERS


def test_all_that_the_public_headers_declare_can_be_linked(installed: Path) -> None:
    """The library shows what is marked, and no other function: it would compile and not link."""
    for file in (installed / "include" / "deploybench").iterdir():
        for line in re.findall(r"^\w[^\n/]*\(.*", file.read_text(encoding="utf-8"), re.MULTILINE):
            assert line.startswith("DEPLOYBENCH_EXPORT "), f"{file.name}: {line}"


@pytest.fixture(scope="module")
def hello(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's program, copied away from the repository and built there."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(ROOT / "cpp" / "examples" / "hello", folder / "hello")
    compiled(folder / "hello", installed, folder / "build")
    return folder / "build" / "hello"


@pytest.mark.usefixtures("photo_libraries")
def test_hello(hello: Path, artifact: Artifact, tmp_path: Path) -> None:
    """Without LD_LIBRARY_PATH."""
    file, program = artifact("resnet18"), hello
    environment = library_paths.python_environment()
    environment.pop("LD_LIBRARY_PATH", None)
    done = subprocess.run([program, file, PHOTOS[0]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == native("infer", file, PHOTOS[0]).stdout
    done = subprocess.run([program, file, tmp_path / "none.jpg"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{tmp_path}/none.jpg: no such file; ")


@pytest.mark.usefixtures("photo_libraries")
def test_hello_in_a_bundle(hello: Path, artifact: Artifact, tmp_path: Path) -> None:
    """In a root where there is nothing else."""
    file = artifact("resnet18")
    root = make_root(tmp_path, file, "--program", str(hello))
    try:
        libraries = [one["path"] for one in root.manifest["files"] if one["path"].startswith("lib/libdeploybench.so.")]
        parts = {one["path"]: one["part"] for one in root.manifest["files"]}
        assert [parts[name] for name in ("bin/hello", *libraries)] == ["program", "program"]
        assert "no licence text" not in root.said
        assert "The program is bin/hello, the artifact resnet18" in (root.bundle / "README.txt").read_text()
        done = run_inside(root, elf.loader(hello), f"/{PLACE}/bin/hello", f"/{PLACE}/{file.name}", PHOTO)
        assert done.returncode == 0, done.stderr
        assert done.stdout == native("infer", file, paths.PHOTO).stdout
    finally:
        shutil.rmtree(root.folder)  # 0.4 GB, which pytest would keep for three runs


def test_the_documents_show_all_options() -> None:
    header = (ROOT / "cpp" / "deploybench" / "classifier.hpp").read_text(encoding="utf-8")
    options = header[header.index("struct ClassifierOptions") :].partition("\n};\n")[0]
    assert f"```cpp\n{options}\n}};\n```" in (ROOT / "docs/library.md").read_text(encoding="utf-8")


def test_the_documents_show_the_program_that_is_tested() -> None:
    program = (ROOT / "cpp" / "examples" / "hello" / "main.cpp").read_text(encoding="utf-8")
    for page in ("README.md", "docs/library.md"):
        assert f"```cpp\n{program}```" in (ROOT / page).read_text(encoding="utf-8"), page


CHECKS = """
#include <deploybench/classifier.hpp>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <thread>

using deploybench::Classifier;
using deploybench::Code;

// Memory runs out where as much as this is asked for at once; the library's calls come here, too.
constexpr auto endless = std::numeric_limits<std::size_t>::max();
std::atomic<std::size_t> too_much = endless;
void* operator new(std::size_t size) {
  if (size >= too_much) throw std::bad_alloc();
  if (void* const memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

int failures = 0;
void check(bool holds, const char* what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\\n", what);
}
template <typename Work>
void fails(Code code, const Work& work, const char* what) {
  try {
    work();
    check(false, what);
  } catch (const deploybench::Error& error) {
    check(error.code() == code, error.what());
  }
}

// The fuser is switched on for the process: it must be there for route fused, for nobody beside it, and gone after it.
void check_fusion(const std::string& script, const std::string& frozen, const std::string& photo) {
  const auto answer = [&](const std::string& route) {
    return Classifier(frozen, {.route = route, .threads = 1}).classify(photo)[0].probability;
  };
  const double plain = answer("frozen"), fused = answer("fused");
  check(fused != plain, "sums are added in another order where the fuser is at work");
  check(answer("frozen") == plain, "not fused any more");
  const Classifier one(frozen, {.route = "fused", .threads = 1}), other(frozen, {.route = "fused", .threads = 1});
  fails(Code::usage, [&] { Classifier{script}; }, "script beside fused");
  fails(Code::usage, [&] { Classifier{frozen}; }, "frozen beside fused");
}

int main(int, char** argv) {
  const std::string artifact = argv[1], photo = argv[2], damaged = argv[3], frozen = argv[4];
  check_fusion(artifact, frozen, photo);
  Classifier classifier(artifact, {.instances = 2, .threads = 1, .batch_size = 3});
  const auto info = classifier.info();
  check(info.labels.size() == 1000 && info.image_shape[0] == 3 && info.device == "cpu", "info");
  const auto expected = classifier.classify(photo);
  check(expected.size() == 5 && expected[0].probability >= expected[1].probability, "top 5");
  check(expected[0].label == info.labels[static_cast<std::size_t>(expected[0].index)], "label");

  std::ifstream stream(photo, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const std::vector<std::uint8_t> bytes(text.begin(), text.end());
  check(classifier.classify(bytes)[0].index == expected[0].index, "from memory");
  const std::vector<std::string> photos(5, photo);
  const auto several = classifier.classify(photos);
  check(several.size() == 5 && several[4][0].index == expected[0].index, "several photos");
  std::vector<float> images = classifier.prepare(photo);
  const std::size_t one = images.size();
  images.resize(7 * one);  // six black ones behind it
  const auto batch = classifier.classify(std::span<const float>(images));
  check(batch.size() == 7 && batch[0][0].index == expected[0].index, "a batch");
  check(std::abs(batch[1][0].probability - batch[6][0].probability) < 1e-6, "equal images, equal answers");

  fails(Code::input_invalid, [&] { (void)classifier.classify(std::span<const float>(images).first(one - 1)); }, "size");
  fails(Code::input_invalid, [&] { (void)classifier.classify(std::span<const float>()); }, "nothing");
  fails(Code::input_invalid, [&] { (void)classifier.submit({1.0F}); }, "submit");
  fails(Code::input_missing, [&] { (void)classifier.classify("none.jpg"); }, "missing");
  fails(Code::input_invalid, [&] { (void)classifier.classify(std::span<const std::uint8_t>(bytes).first(900)); }, "cut");
  fails(Code::input_invalid, [&] { (void)classifier.classify(std::span<const std::uint8_t>()); }, "no bytes");
  fails(Code::artifact_missing, [&] { Classifier("none.ts"); }, "no artifact");
  fails(Code::artifact_invalid, [&] { Classifier{damaged}; }, "damaged artifact");
  fails(Code::usage, [&] { Classifier(artifact, {.top_k = 1001}); }, "top_k");
  fails(Code::usage, [&] { Classifier(artifact, {.instances = 0}); }, "instances");
  fails(Code::usage, [&] { Classifier(artifact, {.threads = -1}); }, "threads below 0");
  fails(Code::usage, [&] { Classifier(artifact, {.threads = 1025}); }, "threads that OpenMP cannot start");
  fails(Code::usage, [&] { Classifier(artifact, {.batch_size = 0}); }, "batch_size");
  fails(Code::usage, [&] { Classifier(artifact, {.batch_delay = std::chrono::microseconds(-1)}); }, "delay below 0");
  fails(Code::usage, [&] { Classifier(artifact, {.batch_delay = std::chrono::microseconds::max()}); }, "endless delay");
  fails(Code::usage, [&] { Classifier(frozen, {.route = "fused"}); }, "fused beside script");
  fails(Code::usage, [&] { Classifier(artifact, {.route = "rocket"}); }, "route");
  fails(Code::labels_invalid, [&] { Classifier(artifact, {.labels = photo}); }, "labels");

  const std::span<const float> seven(images);
  too_much = one * sizeof(float);
  fails(Code::out_of_memory, [&] { (void)classifier.classify(photo); }, "memory for a photo");
  fails(Code::out_of_memory, [&] { (void)classifier.classify(bytes); }, "memory for a photo's bytes");
  fails(Code::out_of_memory, [&] { (void)classifier.classify(seven); }, "memory for an image");
  fails(Code::out_of_memory, [&] { Classifier{artifact}; }, "memory to warm up");
  too_much = 2 * one * sizeof(float);
  fails(Code::out_of_memory, [&] { (void)classifier.classify(seven); }, "memory for a batch, on an instance's thread");
  too_much = endless;
  check(classifier.classify(photo)[0].index == expected[0].index, "after memory ran out");

  // Many threads on one classifier, and a classifier that is moved and ends while answers are open.
  std::vector<std::thread> threads;
  std::vector<int> right(6);
  for (int& mine : right) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) mine += classifier.classify(photo)[0].index == expected[0].index;
    });
  }
  for (auto& thread : threads) thread.join();
  for (const int mine : right) check(mine == 20, "from many threads");
  std::vector<std::future<deploybench::Predictions>> open;
  {
    Classifier first(artifact, {.top_k = 2, .threads = 1});
    for (int i = 0; i < 3; ++i) open.push_back(first.submit(first.prepare(photo)));
    Classifier second(std::move(first));
    open.push_back(second.submit(second.prepare(photo)));
  }
  for (auto& answer : open) check(answer.get().size() == 2, "answered before the end");
  // Two of generated code at a time, with one of them again after the other: each has its own weights.
  {
    auto one = std::make_unique<Classifier>(argv[5]);
    Classifier other(argv[6]);
    const auto ones = one->classify(photo)[0], others = other.classify(photo)[0];
    check(ones.index != others.index || ones.probability != others.probability, "two networks in a process");
    one.reset();
    const auto again = Classifier(argv[5]).classify(photo)[0];
    check(again.index == ones.index && again.probability == ones.probability, "a network that comes again");
  }
  std::printf("%d failures\\n", failures);
  return failures;
}
"""


@pytest.mark.usefixtures("photo_libraries")
def test_the_classifier(installed: Path, artifact: Artifact, tmp_path: Path) -> None:
    """Every member function and option, each kind of error, and many threads, from a program outside."""
    shutil.copytree(ROOT / "cpp" / "examples" / "hello", tmp_path / "hello")
    (tmp_path / "hello" / "main.cpp").write_text(CHECKS)
    compiled(tmp_path / "hello", installed, tmp_path / "build")
    file = artifact("squeezenet1_1")
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(file.read_bytes()[:100_000])
    command = [tmp_path / "build" / "hello", file, paths.PHOTO, damaged, artifact("squeezenet1_1", "frozen")]
    command += [artifact(model, "direct") for model in ("squeezenet1_1", "shufflenet_v2_x0_5")]
    done = subprocess.run(command, capture_output=True, text=True, env=library_paths.cpp_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "0 failures\n"

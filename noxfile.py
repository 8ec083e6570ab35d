"""The environments: one small session a job. Two virtual environments serve them all, so that torch is installed once:
`python` has PyTorch and runs everything in Python; `cpp` has CMake, Ninja and pip, and never sees torch.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nox

ROOT = Path(__file__).parent
os.chdir(ROOT)
sys.path.insert(0, str(ROOT / "python"))  # the ground floor of the package needs nothing but the standard library

from deploybench import library_paths, paths  # noqa: E402
from deploybench.libtorch import python_choice  # noqa: E402

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"  # not uv: pip's own configuration (mirrors, find-links) must count
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["bench"]

# Everything started from here is a Python process, save for `native`: no LibTorch folder on its library path.
clean = library_paths.python_environment()
clean["PYTHONPATH"] = os.pathsep.join([str(ROOT / "python"), *filter(None, [clean.get("PYTHONPATH")])])
os.environ.clear()
os.environ.update(clean)

PYPROJECT = nox.project.load_toml("python/pyproject.toml")
bins: dict[str, Path | None] = {
    "python": None,
    "cpp": None,
}  # each environment's programs; None: --no-venv, look on PATH


def groups(*names: str) -> list[str]:
    """The requirements of these dependency groups of pyproject.toml."""
    return list(nox.project.dependency_groups(PYPROJECT, *names))


def provide(session: nox.Session, *requirements: str, torch: bool = False) -> None:
    """Installs `requirements` as the constraints pin them, unless this environment has just these already."""
    if session.venv_backend == "none":
        return
    bins[session.name] = Path(session.bin)
    choice = python_choice() if torch else None  # the build of torch that LibTorch has
    pins = hashlib.sha256(repr((requirements, paths.CONSTRAINTS.read_bytes())).encode()).hexdigest()
    wish = f"{choice.variant if choice else '-'} {pins}"
    stamp = Path(session.virtualenv.location, "deploybench-installed")
    has = stamp.read_text(encoding="utf-8") if stamp.exists() else ""
    if has == wish:
        return
    stamp.unlink(missing_ok=True)
    if choice:
        session.log(f"torch: the {choice.variant} build, because {choice.reason}")
        if has and has.split()[0] != choice.variant:  # to pip, 2.13.0+cpu is as good as any 2.13.0
            session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "torch", "torchvision")
    session.install(*requirements, "-c", str(paths.CONSTRAINTS), *(choice.pip_arguments if choice else ()))
    if torch:
        session.install("--no-build-isolation", "--no-deps", "-e", "python")
    stamp.write_text(wish, encoding="utf-8")


def program(environment: str, name: str) -> str:
    """The path of `name` in an environment; with --no-venv what PATH has, and the Python that has torch."""
    folder = bins[environment]
    if folder:
        return str(folder / name)
    if name == "python":
        return sys.executable if importlib.util.find_spec("torch") else shutil.which("python") or sys.executable
    return shutil.which(name) or name


def deploybench(session: nox.Session, *arguments: str, environment: str = "python") -> None:
    """Runs a verb."""
    session.run(program(environment, "python"), "-m", "deploybench", *arguments, external=True)


def ask(environment: str, code: str) -> str:
    """What `code` prints in an environment's Python; empty if it fails."""
    return subprocess.run([program(environment, "python"), "-c", code], capture_output=True, text=True).stdout.strip()


def native(session: nox.Session, name: str, *arguments: str) -> None:
    """Runs a C++ program, LibTorch's libraries first."""
    session.run(str(paths.CPP_BIN / name), *arguments, env=library_paths.cpp_environment(), external=True)


def build(session: nox.Session) -> None:
    """The C++ programs, with all that they need; quick when they are up to date."""
    if not (paths.LIBTORCH / "libtorch.json").exists():
        torch = ask("python", "import importlib.util as u; print(*u.find_spec('torch').submodule_search_locations)")
        own = ["--path", torch] if bins["cpp"] is None and torch else []  # --no-venv: the torch that is there
        deploybench(session, "libtorch", *own, environment="cpp")
    version = ask("python", "import importlib.metadata as m; print(m.version('torch'))") or paths.pinned("torch")
    json = ask("cpp", "import importlib.util as u; print(*u.find_spec('nlohmann_json').submodule_search_locations)")
    options = [
        f"-DDEPLOYBENCH_EXPECT_TORCH={version}",
        f"-DDEPLOYBENCH_STRICT={'ON' if '--strict' in session.posargs else 'OFF'}",
        f"-DDEPLOYBENCH_WERROR={'ON' if os.environ.get('CI') else 'OFF'}",
        *([f"-DDEPLOYBENCH_JSON_INCLUDE={json}/include"] if json else []),
    ]
    env = {"PATH": f"{bins['cpp']}:{os.environ['PATH']}"} if bins["cpp"] else {}
    cmake = program("cpp", "cmake")
    with session.chdir("cpp"):
        session.run(cmake, "--preset", "release", *options, env=env, external=True)
        session.run(cmake, "--build", "--preset", "release", env=env, external=True)


def job(*needs: str, name: str | None = None) -> Callable[..., object]:
    """A session that runs in the environments it names instead of one of its own."""
    return nox.session(venv_backend="none", requires=list(needs), name=name)


@nox.session
def python(session: nox.Session) -> None:
    """The environment with PyTorch."""
    provide(
        session,
        "setuptools",
        *PYPROJECT["project"]["dependencies"],
        *groups("nox", "tests", "types", "peers", "bundle", "report", "notebook", "docs"),
        torch=True,
    )


@nox.session
def cpp(session: nox.Session) -> None:
    """The environment with CMake, Ninja and the JSON header."""
    provide(session, *groups("cpp"))


@job("cpp")
def libtorch(session: nox.Session) -> None:
    """Get LibTorch into vendor/libtorch (-- --source wheel|zip|path --variant auto|cpu|cu130)."""
    deploybench(session, "libtorch", *session.posargs, environment="cpp")


@job("python")
def download(session: nox.Session) -> None:
    """Fetch torchvision's weights into torch.hub's cache."""
    deploybench(session, "download", *session.posargs)


@job("python")
def generate(session: nox.Session) -> None:
    """Write the artifacts of each model."""
    deploybench(session, "generate", *session.posargs)


@job("python")
def preprocess(session: nox.Session) -> None:
    """Turn photos into a tensor file."""
    deploybench(session, "preprocess", *session.posargs)


@job("python")
def py_infer(session: nox.Session) -> None:
    """The top classes of a photo, in Python."""
    deploybench(session, "infer", *session.posargs)


@job("python")
def py_bench(session: nox.Session) -> None:
    """Measure the routes in Python."""
    deploybench(session, "bench", "--runtimes", "python", *session.posargs)


@job("python", "cpp")
def cpp_build(session: nox.Session) -> None:
    """Build the C++ programs into cpp/build/bin, LibTorch fetched first."""
    build(session)


@job("python", "cpp")
def cpp_infer(session: nox.Session) -> None:
    """The top classes of photos or a tensor file, in C++ (-- ARTIFACT INPUT...; without them ResNet-50 and a photo)."""
    build(session)
    arguments = session.posargs
    if not arguments:
        deploybench(session, "generate")
        deploybench(session, "preprocess")
        arguments = ["artifacts/resnet50.script-fp32-cpu.ts", f"artifacts/resnet50.{paths.PHOTO.stem}.npy"]
    native(session, "infer", *arguments)


@job("python", "cpp")
def cpp_bench(session: nox.Session) -> None:
    """Measure the routes in C++, against Python's eager."""
    build(session)
    deploybench(session, "bench", "--runtimes", "cpp", *session.posargs)


@job("python", "cpp")
def bench(session: nox.Session) -> None:
    """Measure both languages, interleaved, on one table."""
    build(session)
    deploybench(session, "bench", *session.posargs)


# The best ways of LibTorch in C++ and the peers, at both precisions that CPUs have.
PANEL = "cpp/fused,cpp/aoti,cpp/direct,python/onnxruntime,python/openvino,cpp/fused/bf16,cpp/aoti/bf16,cpp/direct/bf16,python/openvino/bf16"


@job("python", "cpp")
def panel(session: nox.Session) -> None:
    """Compare the best of C++ with ONNX Runtime and OpenVINO on 15 models (15 minutes on 2 cores)."""
    build(session)
    deploybench(session, "bench", "--models", "panel", "--runners", PANEL, *session.posargs)


@job("python", "cpp")
def bundle(session: nox.Session) -> None:
    """Make a folder to ship (-- --artifact FILE --out FOLDER --tar; or of --models MODEL, else ResNet-50, scripted)."""
    build(session)
    arguments = session.posargs or ["--models", "resnet50"]
    if arguments[0] == "--models":
        model = "".join(arguments[1:2])
        deploybench(session, "generate", "--models", model)
        arguments = [
            "--artifact",
            f"artifacts/{model.rpartition(':')[2]}.script-fp32-cpu.ts",
            "--force",
            *arguments[2:],
        ]
    deploybench(session, "bundle", *arguments)


@job("python")
def report(session: nox.Session) -> None:
    """Show the last results again."""
    deploybench(session, "report", *session.posargs)


@job("python")
def results(session: nox.Session) -> None:
    """Make the pages of docs/results from the records there."""
    for file in sorted((ROOT / "docs/results").glob("*.json")):
        deploybench(session, "report", str(file), "--out", str(file.with_suffix(".md")))


@job("python", "cpp")
def docs(session: nox.Session) -> None:
    """Build the site into dist/docs (open dist/docs/index.html); a broken link fails."""
    build(session)
    session.run(program("python", "python"), "docs/site/build.py", str(paths.DIST / "docs"), external=True)


@job("python")
def compare(session: nox.Session) -> None:
    """What became slower or faster (-- OLD.json NEW.json)."""
    deploybench(session, "compare", *session.posargs)


@job("python", "cpp")
def matrix(session: nox.Session) -> None:
    """Every model by every route in both languages, against docs/matrix.csv (-- --update writes it)."""
    build(session)
    deploybench(session, "matrix", *session.posargs)


@job("python", "cpp")
def tests(session: nox.Session) -> None:
    """Test both languages with pytest."""
    build(session)
    pytest = [program("python", "python"), "-m", "pytest", "-c", "python/pyproject.toml", "--rootdir", "."]
    # Two files at a time: most tests start programs that keep one core busy. More would not fit into a laptop's memory.
    usual = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "tests"]  # in the order of tests/conftest.py
    session.run(*pytest, *(session.posargs or usual), external=True)


@nox.session(requires=["python", "cpp"])
def lint(session: nox.Session) -> None:
    """Check style, types and C++ with ruff, mypy, clang-format and clang-tidy."""
    provide(session, *groups("lint"))
    build(session)
    sources = [
        str(file)
        for folder in (
            *(paths.CPP / name for name in ("deploybench", "apps", "tests", "fuzz")),
            ROOT / "python/deploybench/routes",
        )
        for file in sorted(folder.rglob("*.[ch]pp"))
    ]
    session.run("ruff", "check", "--config", "python/pyproject.toml", ".")
    session.run("ruff", "format", "--config", "python/pyproject.toml", "--check", ".")
    mypy = [program("python", "python"), "-m", "mypy", "--config-file", "python/pyproject.toml"]
    session.run(*mypy, "python", "tests", "docs/site", external=True)
    session.run("clang-format", "--dry-run", "-Werror", *sources)
    session.run("run-clang-tidy.py", "-p", "cpp/build", "-quiet", "-j", str(os.cpu_count()), silent=True)


@nox.session
def lock(session: nox.Session) -> None:
    """Renew python/constraints.txt: the newest packages that go with the torch and torchvision it names."""
    session.run(
        "python",
        "python/lock.py",
        *groups("nox", "cpp", "tests", "types", "lint", "peers", "bundle", "report", "notebook", "docs"),
        *PYPROJECT["project"]["dependencies"],
    )

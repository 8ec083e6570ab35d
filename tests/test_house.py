"""Is the house as it says it is? Floors, doors and facts that stand in one place."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, python
from deploybench import cli, paths

PACKAGE = paths.ROOT / "python" / "deploybench"
GROUND = {
    "__init__", "archive", "child", "download", "errors", "library_paths", "libtorch", "libtorch_folder", "machine", "parser", "paths",
    "proportions", "ranks", "record", "results_file", "soundness", "stats", "target", "terminal", "variants", "wheel",
}  # fmt: skip
VERBS = {"__main__", "api", "cli", "search", *(module for module, _, _ in cli.VERBS.values())} - {
    "libtorch"
}  # noxfile.py needs libtorch
MIDDLE = {file.stem for file in PACKAGE.glob("*.py")} - GROUND - VERBS


def file_of(module: str) -> Path:
    return PACKAGE / f"{module.replace('.', '/')}.py"


HEAVY = {"torch", "torchvision"}


def imports(file: Path, top_only: bool) -> set[str]:
    """What `file` imports: its own package's modules by their name, others by their top-level package."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    nodes = tree.body if top_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "deploybench":
            found |= {f"deploybench.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "deploybench.verbs":
            found |= {f"deploybench.verbs.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            ours = parts[: 3 if parts[1:2] == ["verbs"] else 2]
            found.add(".".join(ours) if parts[0] == "deploybench" else parts[0])
    return found


@pytest.mark.parametrize("name", sorted(GROUND))
def test_the_ground_floor_needs_only_the_standard_library(name: str) -> None:
    for module in imports(file_of(name), top_only=False):
        own = module.removeprefix("deploybench.")
        if module.startswith("deploybench"):
            assert own in GROUND, f"{name} imports {own}, which lies above it"
        else:
            assert module in sys.stdlib_module_names, f"{name} imports {module}"


MIDDLE_FILES = {
    *(PACKAGE / f"{name}.py" for name in MIDDLE),
    *PACKAGE.glob("routes/*.py"),
    *PACKAGE.glob("checks/*.py"),
}


@pytest.mark.parametrize("file", sorted(MIDDLE_FILES))
def test_the_middle_floor_imports_no_verb(file: Path) -> None:
    for module in imports(file, top_only=False):
        assert module.removeprefix("deploybench.") not in VERBS, f"{file.stem} imports {module}, a verb"


@pytest.mark.parametrize("file", sorted((PACKAGE / "verbs").glob("*.py")), ids=lambda file: file.stem)
def test_a_verb_imports_no_other(file: Path) -> None:
    for module in imports(file, top_only=False):
        assert not module.startswith("deploybench.verbs."), f"{file.stem} imports {module}"


@pytest.mark.parametrize("name", sorted(VERBS | MIDDLE))
def test_torch_is_imported_only_inside_functions(name: str) -> None:
    assert not imports(file_of(name), top_only=True) & HEAVY


def test_the_verbs_folder_holds_the_verbs() -> None:
    """A module beside it would take the name of a function of the Python API: `db.bench` would be the module."""
    files = {f"verbs.{file.stem}" for file in PACKAGE.glob("verbs/*.py")} - {"verbs.__init__"}
    assert files == VERBS - {"__main__", "api", "cli", "search"}


@pytest.mark.parametrize("arguments", [["--help"], ["list"], *([verb, "--help"] for verb in cli.VERBS)])
def test_help_and_list_load_no_torch(arguments: list[str]) -> None:
    watch = "import sys; from deploybench.cli import main\ntry: code = main()\nexcept SystemExit as end: code = end.code or 0\n"
    check = "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules\nsys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", watch + check, *arguments],
        cwd=ROOT / "python",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_verb_describes_itself() -> None:
    done = python("--help")
    for verb, (_, _, does) in cli.VERBS.items():
        assert re.search(rf"^ +{verb}\s+{re.escape(does.split()[0])}", done.stdout, re.MULTILINE), done.stdout


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert re.findall(r"^  make (\w+)", done.stdout, re.MULTILINE) == phony[1].split()


def test_the_documents_name_only_what_there_is() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"
        for sessions in re.findall(r"nox -s ((?:[a-z_]+ ?)+)", text):
            for session in sessions.split():
                assert f"def {session}(" in noxfile, f"{page.name}: nox -s {session}"
        for verb in re.findall(r"(?:^|`)deploybench ([a-z]+)", text, re.MULTILINE):
            assert verb in cli.VERBS, f"{page.name}: deploybench {verb}"
        for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", text):
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page.name}: links to {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name}: links to {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of `page`."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_documents_name_only_flags_that_there_are() -> None:
    flags = {verb: set(parser._option_string_actions) for verb, parser in cli.parser().verbs.items()}
    typed = re.compile(rf"(?:deploybench|nox -s) (?:py_)?({'|'.join(flags)}) ([^`\n]*)")
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for verb, line in typed.findall(page.read_text(encoding="utf-8")):
            for flag in re.findall(r"--[a-z][a-z0-9-]*", line.partition("#")[0]):
                assert flag in flags[verb], f"{page.name}: {verb} {flag}"


def test_a_version_stands_in_one_place() -> None:
    version = paths.pinned("torch")
    for file in [ROOT / "noxfile.py", *PACKAGE.rglob("*.py")]:
        constants = {
            node.value
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
        }
        assert version not in constants, file
    for file in [ROOT / "Makefile", *ROOT.glob("cpp/CMake*"), *ROOT.glob("cpp/cmake/*")]:
        code = [line.partition("#")[0] for line in file.read_text(encoding="utf-8").splitlines()]
        assert version not in "\n".join(code), file

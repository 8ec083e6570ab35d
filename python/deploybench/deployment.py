"""What it takes to ship a runner: how large it is beside its artifact, and the commands that deploy it. Imports no torch."""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
from importlib import metadata
from pathlib import Path

from deploybench import elf, panel, paths, routes
from deploybench.paths import typed


@functools.cache
def library_bytes(name: str) -> int | None:
    """What must be shipped beside the artifact: of C++, the program and the libraries it maps, unstripped; of a peer, its
    package and those it needs, Python itself not counted. None where it cannot be told."""
    runtime, route, _ = panel.parts(name)
    if runtime == "cpp":
        program = paths.CPP_BIN / "infer"
        with contextlib.suppress(ImportError):  # of pyelftools, in the group `bundle`
            return sum(file.stat().st_size for file in (program, *elf.mapped(program).values()))
        return None
    files: set[Path] = set()
    todo, seen = [route], set()
    while todo:
        package = todo.pop()
        seen.add(package)
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed = metadata.distribution(package)
            files |= {Path(str(installed.locate_file(file))) for file in installed.files or []}
            needs = [re.split(r"[^\w.-]", one)[0] for one in installed.requires or [] if "extra ==" not in one]
            todo += [one for one in needs if one not in seen]
    return sum(file.stat().st_size for file in files if file.is_file()) or None


def commands(runner: str, file: str, generate: list[str]) -> list[str]:
    """What to type to make the artifact `file`, run it and ship it. `generate`: the flags that say what to make and where."""
    one = routes.runner(runner)
    precision = [] if one.precision == "fp32" else ["--precisions", one.precision]
    make = shlex.join(["deploybench", "generate", *generate, "--routes", one.route.name, *precision])
    quoted = shlex.quote(file)
    if one.runtime == "python":
        return [make, f"deploybench infer --artifact {quoted} --route {one.route.name} PHOTO"]
    named = "" if routes.of_kind(one.route.kind.name) is one.route else f" --route {one.route.name}"
    bundle = f"deploybench bundle --artifact {quoted}{named}"
    return [
        make,
        f"{typed(paths.CPP_BIN / 'infer')} {quoted} PHOTO{named}",
        *([bundle] if "cuda" not in generate else []),  # CUDA's libraries are not bundled
        "in CMake: find_package(deploybench REQUIRED), see docs/library.md",
    ]

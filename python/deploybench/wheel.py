"""The torch wheel as a LibTorch: fetched by pip, unpacked without its Python, laid out so that its RPATHs resolve.

A CUDA build's libraries look for NVIDIA's by `$ORIGIN/../../nvidia/...`: seen from site/torch/lib, that is site/nvidia.
So the wheels are unpacked side by side as in site-packages, and include, lib and share are links to site/torch/*; the
kernel walks `..` from where a link leads, so this also holds when a library was opened through the link.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

from deploybench import terminal
from deploybench.archive import Archive
from deploybench.errors import DeploybenchError
from deploybench.library_paths import python_environment
from deploybench.libtorch_folder import PARTS, variant_in
from deploybench.variants import Choice

SITE = "site"
MEND = "type `python -m pip cache purge`, then run it again"

NVIDIA_REQUIREMENT = re.compile(r"(nvidia-|cuda-toolkit)")
"""What a CUDA torch requires for its C++ libraries; triton and cuda-bindings are for Python alone."""

NETWORK_WORDS = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|"
    r"name resolution|Network is unreachable|timed out"
)


def download(version: str, choice: Choice, folder: Path) -> list[Archive]:
    """Let pip fetch the torch wheel, and for a CUDA build NVIDIA's, into `folder`; torch's comes first."""
    _pip_download([f"torch=={version}"], ["--no-deps", *choice.pip_arguments], folder)
    (torch,) = (_wheel(path) for path in folder.glob("torch-*.whl"))
    if needed := _nvidia_requirements(torch):
        _pip_download(needed, list(choice.pip_arguments), folder)
    return [torch, *(_wheel(path) for path in sorted(folder.glob("*.whl")) if path != torch.path)]


def variant(torch: Archive) -> str:
    """The build that is in the wheel, whatever was asked for."""
    return variant_in(torch.read_text("torch/version.py")) or ("cuda" if _nvidia_requirements(torch) else "cpu")


def lay_out(wheels: list[Archive], folder: Path) -> None:
    """Unpack `wheels` in `folder`/site and link include, lib and share."""
    (folder / SITE).mkdir()
    for wheel in wheels:
        wheel.unpack(folder / SITE, place)
    for part in PARTS:
        (folder / part).symlink_to(Path(SITE) / "torch" / part)


def place(entry: str) -> str | None:
    """Where an entry of a wheel goes below site/: libraries, headers, CMake files, licences; no Python, no programs."""
    parts = PurePosixPath(entry).parts
    if parts[0].endswith(".dist-info"):
        return entry if re.search(r"/(licenses/|LICENSE|License|NOTICE)", entry) else None
    # libtorch_python.so needs Python's symbols, and no CMake file of torch's names it.
    if parts[-1].endswith((".py", ".pyi", ".pyc")) or parts[-1].startswith("libtorch_python."):
        return None
    if parts[0] == "torch":
        return entry if len(parts) > 2 and parts[1] in PARTS else None
    if parts[0] == "nvidia":
        return None if {"bin", "test"} & set(parts) else entry
    return entry if parts[0].endswith(".libs") else None


def _wheel(path: Path) -> Archive:
    return Archive(path, path.name, MEND)


def _nvidia_requirements(torch: Archive) -> list[str]:
    """With their markers (`; platform_system == "Linux"`), which pip evaluates."""
    metadata = torch.read_text(".dist-info/METADATA")
    required = re.findall(r"^Requires-Dist: *(.+)$", metadata, re.MULTILINE)
    needed = [one.strip() for one in required if NVIDIA_REQUIREMENT.match(one) and "extra ==" not in one]
    # CUDA's headers include some of the compiler's, of which torch itself, being built, has no need.
    return [*needed, *(re.sub(r"\[.*?\]", "[crt]", one) for one in needed if one.startswith("cuda-toolkit["))]


def _pip_download(requirements: list[str], arguments: list[str], folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise DeploybenchError(
            "runtime",
            f"{sys.executable}: has no pip to fetch the torch wheel with; type `{sys.executable} -m ensurepip`",
        )
    # Wheels only: building a source package would run somebody's code.
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--no-input",
        "--only-binary=:all:",
        *(["--quiet"] if terminal.quiet() else []),
    ]
    command += ["--dest", str(folder), *arguments, *requirements]
    # pip's progress goes to our stderr as it is; its complaints too, and the last of them into our error.
    with subprocess.Popen(
        command,
        stdout=sys.stderr.fileno(),
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=python_environment(),
    ) as pip:
        assert pip.stderr is not None
        lines = []
        for line in pip.stderr:
            sys.stderr.write(line)
            lines.append(line.strip())
    if pip.returncode != 0:
        raise _pip_error(requirements, lines)


def _pip_error(requirements: list[str], lines: list[str]) -> DeploybenchError:
    said = next(
        (line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1] if lines else "no word"
    ).removeprefix("ERROR: ")
    what = ", ".join(requirements[:2]) + (", ..." if len(requirements) > 2 else "")
    if any(NETWORK_WORDS.search(line) for line in lines):
        problem, mend = (
            "no network to pip's index",
            "check the network, or take one that is there: `deploybench libtorch --path FOLDER`",
        )
    elif "No matching distribution" in said:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        problem = f"pip finds no such version for this Python ({python})"
        mend = "check --version, or type `deploybench libtorch --source zip`"
    else:
        problem, mend = "pip failed", "see its lines above, then run it again"
    return DeploybenchError("runtime", f"{what}: {problem} ({said}); {mend}")

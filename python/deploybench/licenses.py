"""The licence texts that must go along with the libraries of a bundle, copied from where their makers put them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from deploybench import paths

DOCUMENTS = Path("/usr/share/doc")  # of Debian's packages: PACKAGE/copyright
COMMON = Path("/usr/share/common-licenses")  # the long texts that the former only name
CACHE = paths.CPP / "build" / "CMakeCache.txt"


def collect(
    libraries: dict[str, Path], libtorch: list[str], ours: list[str], folder: Path
) -> tuple[dict[str, str], list[str]]:
    """Copies all texts into `folder`. The package and version of each library that the system's package manager knows
    (where its source is to be had), and what no text was found for.

    `libraries`: name and file; `libtorch`, `ours`: the names of those that are LibTorch's, and deploybench's.
    """
    folder.mkdir()
    shutil.copyfile(paths.ROOT / "LICENSE", folder / "deploybench")
    missing = [] if _copy_wheel(libraries[libtorch[0]], "torch", folder / "libtorch") else ["LibTorch"]
    json = re.search(r"^DEPLOYBENCH_JSON_INCLUDE:PATH=(.+)$", _text(CACHE), re.MULTILINE)
    if not json or not _copy_wheel(Path(json[1], "nlohmann"), "nlohmann_json", folder / "nlohmann_json"):
        missing.append("nlohmann_json")  # compiled into the program
    packages = {}
    for name in sorted(set(libraries) - {*libtorch, *ours}):
        package = _debian_package(libraries[name])
        if package is None or not (DOCUMENTS / package / "copyright").is_file():
            missing.append(name)
            continue
        packages[name] = f"{package} {_debian_version(package)}"
        _copy_debian(package, folder)
    return packages, missing


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _copy_wheel(file: Path, package: str, into: Path) -> bool:
    """Of a package from PyPI: PACKAGE-VERSION.dist-info beside the folder PACKAGE, in which `file` lies two floors down."""
    for metadata in file.resolve().parents[2].glob(f"{package}-*.dist-info"):
        # Newer wheels have a folder licenses/, older ones LICENSE and NOTICE as they are.
        texts = [text for text in metadata.rglob("*") if re.search(r"/(licenses/|LICENSE|NOTICE)", str(text))]
        for text in filter(Path.is_file, texts):
            place = into / str(text.relative_to(metadata)).removeprefix("licenses/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(text, place)
    return into.is_dir()


def _copy_debian(package: str, folder: Path) -> None:
    text = DOCUMENTS / package / "copyright"
    shutil.copyfile(text, folder / package)
    for name in set(re.findall(rf"{COMMON}/([A-Za-z0-9.+-]*[A-Za-z0-9+])", _text(text))):
        if (COMMON / name).is_file():
            (folder / "common").mkdir(exist_ok=True)
            shutil.copyfile(COMMON / name, folder / "common" / name)


def _debian_package(library: Path) -> str | None:
    """`libjpeg62-turbo` for /lib/x86_64-linux-gnu/libjpeg.so.62; None on other systems and for files of no package."""
    # By its last two names: a merged /usr has the file at two paths, of which dpkg knows one.
    real = library.resolve()
    found = _said("dpkg", "--search", f"*/{real.parent.name}/{real.name}")
    return found.partition(":")[0] if found else None


def _debian_version(package: str) -> str:
    return _said("dpkg-query", "--show", "--showformat=${Version}\\n", package).partition("\n")[0]


def _said(*command: str) -> str:
    """What a program prints; nothing where it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return ""

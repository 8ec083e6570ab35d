"""Does `deploybench libtorch` give a whole LibTorch, or one line that says why not, and harm none that is there?

All through the real program: a small archive on a local HTTP server with faults, and small wheels through the real pip.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from deploybench import cli, download, libtorch, libtorch_folder, paths, variants
from deploybench.errors import DeploybenchError

VERSION = "9.8.7"
LIBRARIES = ("libc10.so", "libtorch_cpu.so", "libtorch.so")
FILLER_BYTES = 600_000  # incompressible, so that a download can be cut in its middle
PORT_OF_NOBODY = 9  # "discard": refused at once
SECONDS = 120


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Real, tiny ELF libraries by LibTorch's names. libtorch_cpu.so needs libfakeblas.so, as a CUDA build NVIDIA's."""
    folder = tmp_path_factory.mktemp("libraries")
    source = folder / "empty.c"
    source.write_text("int nothing(void) { return 0; }\n")
    compiler = next((found for name in ("cc", "gcc", "g++", "clang", "clang++") if (found := shutil.which(name))), None)
    assert compiler, "a C compiler is needed"
    for name in ("libfakeblas.so", *LIBRARIES):
        flags = ["-Wl,--no-as-needed", "-L.", "-lfakeblas"] if name == "libtorch_cpu.so" else []
        rpath = "-Wl,-rpath,$ORIGIN/../../nvidia/fakeblas/lib:$ORIGIN"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-o", name, "empty.c", f"-Wl,-soname,{name}", rpath, *flags],
            cwd=folder,
            check=True,
        )
    return {path.name: path.read_bytes() for path in folder.glob("*.so")}


@pytest.fixture
def files(libraries: dict[str, bytes]) -> dict[str, bytes]:
    """What a LibTorch consists of, by the path in it."""
    numbers = zip(("MAJOR", "MINOR", "PATCH"), VERSION.split("."), strict=True)
    return {
        "include/torch/script.h": b"",
        "include/torch/headeronly/version.h": "".join(f"#define TORCH_VERSION_{k} {v}\n" for k, v in numbers).encode(),
        "share/cmake/Torch/TorchConfig.cmake": b"",
        **{f"lib/{name}": libraries[name] for name in LIBRARIES},
        "lib/filler.bin": hashlib.shake_128(b"filler").digest(FILLER_BYTES),
        "build-version": f"{VERSION}+cpu\n".encode(),
        "bin/a_test_program": b"",
    }


def archive(
    path: Path, files: dict[str, bytes], top: str = "libtorch/", extra: list[zipfile.ZipInfo] | None = None
) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(top + name, content)
        for entry in extra or []:
            made.writestr(entry, "/etc/passwd")
    return path.read_bytes()


class Server(ThreadingHTTPServer):
    """Serves `content` under every path, with Range and If-Range, and with the fault that is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.status = b"", '"one"', 200
        self.cut_first_after: int | None = None
        self.go_on = threading.Event()  # after the first of what it sends
        self.go_on.set()
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/libtorch.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        content, start = self.server.content, 0
        if self.headers.get("Range") and self.headers.get("If-Range") in (None, self.server.etag):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()
        end = self.server.cut_first_after if len(self.server.ranges) == 1 else None
        try:
            for at in range(start, len(content) if end is None else end, 1 << 15):
                self.wfile.write(content[at : min(at + (1 << 15), end or len(content))])
                if at - start >= download.CHUNK_BYTES:
                    self.server.go_on.wait(SECONDS)
        except OSError:  # the client was killed
            pass
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(files: dict[str, bytes], tmp_path: Path) -> Iterator[Server]:
    with Server() as server:
        server.content = archive(tmp_path / "served.zip", files)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "vendor" / "libtorch"


def command(out: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "deploybench", "libtorch", "--out", str(out), *flags]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(paths.ROOT / "python"), **more}


def program(out: Path, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(out, *flags), env=environment(**more), capture_output=True, text=True, timeout=SECONDS
    )


def from_zip(out: Path, server: Server, *flags: str) -> subprocess.CompletedProcess[str]:
    return program(out, "--source", "zip", "--variant", "cpu", "--version", VERSION, "--url", server.url, *flags)


def marker(out: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((out / "libtorch.json").read_text())
    return values


def left_beside(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir() if path.name not in (out.name, f".{out.name}.lock"))


def an_old_one(out: Path, files: dict[str, bytes]) -> None:
    """A LibTorch as this verb leaves it, of another version, with one file to know it by."""
    for name, content in {**files, "old": b"", "libtorch.json": b""}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    libtorch_folder.write_marker(out, libtorch_folder.Marker("9.0.0", "cpu", "zip", None, "before", "cpu"))


def wait_for_part(out: Path, size: int) -> None:
    part = out.parent / f".{out.name}.part"
    until = time.monotonic() + SECONDS
    while not part.exists() or part.stat().st_size < size:
        assert time.monotonic() < until
        time.sleep(0.02)


def one_line(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in errors[0]
    assert ";" in errors[0], "no next command"


# --- zip


def test_zip_gives_include_lib_share_and_a_marker(out: Path, server: Server) -> None:
    digest = hashlib.sha256(server.content).hexdigest()
    result = from_zip(out, server, "--sha256", digest.upper())
    assert result.returncode == 0, result.stderr
    assert (out / "lib" / "libc10.so").is_file()
    assert not (out / "bin").exists()
    expected = {
        "schema": 1,
        "version": VERSION,
        "variant": "cpu",
        "source": "zip",
        "sha256": digest,
        "origin": server.url,
    }
    assert marker(out) == {**expected, "asked": "cpu"}
    assert left_beside(out) == []


def test_second_call_does_nothing(out: Path, server: Server) -> None:
    from_zip(out, server)
    before = out.stat().st_ino
    again = from_zip(out, server)
    assert (again.returncode, again.stdout.count("\n"), again.stderr) == (0, 1, "")
    assert "is up to date" in again.stdout
    assert (out.stat().st_ino, len(server.ranges)) == (before, 1)
    assert from_zip(out, server, "--force").returncode == 0
    assert len(server.ranges) == 2


def test_another_wish_is_no_noop(out: Path, server: Server) -> None:
    from_zip(out, server)
    one_line(from_zip(out, server, "--sha256", "0" * 64), 1, "checksum mismatch")
    assert len(server.ranges) == 2


def test_cut_connection_is_resumed(out: Path, server: Server) -> None:
    server.cut_first_after = 200_000
    result = from_zip(out, server)
    assert result.returncode == 0, result.stderr
    assert server.ranges == [None, "bytes=200000-"]
    assert marker(out)["sha256"] == hashlib.sha256(server.content).hexdigest()


def test_killed_download_harms_nothing_and_is_resumed(out: Path, server: Server, files: dict[str, bytes]) -> None:
    an_old_one(out, files)
    server.go_on.clear()
    flags = ("--source", "zip", "--variant", "cpu", "--version", VERSION, "--url", server.url)
    with subprocess.Popen(command(out, *flags), env=environment(), stderr=subprocess.DEVNULL) as running:
        wait_for_part(out, 1)
        running.send_signal(signal.SIGKILL)
    assert (out / "old").exists()
    server.go_on.set()
    assert from_zip(out, server).returncode == 0
    assert server.ranges[1] is not None
    assert not (out / "old").exists()
    assert left_beside(out) == []


@pytest.mark.parametrize("etag", ['"one"', ""], ids=["etag", "size-only"])
def test_changed_file_is_not_spliced(
    out: Path, server: Server, files: dict[str, bytes], tmp_path: Path, etag: str
) -> None:
    server.etag = etag
    server.go_on.clear()
    flags = ("--source", "zip", "--variant", "cpu", "--version", VERSION, "--url", server.url)
    with subprocess.Popen(command(out, *flags), env=environment(), stderr=subprocess.DEVNULL) as running:
        wait_for_part(out, 1)
        running.send_signal(signal.SIGKILL)
    # With an ETag the size may even be the same; without one only the size tells.
    other = hashlib.shake_128(b"other").digest(FILLER_BYTES + (0 if etag else 50_000))
    size = len(server.content)
    server.content = archive(tmp_path / "other.zip", {**files, "lib/filler.bin": other})
    assert (len(server.content) == size) == bool(etag)
    server.etag = '"two"' if etag else ""
    server.go_on.set()
    result = from_zip(out, server)
    assert result.returncode == 0, result.stderr
    assert marker(out)["sha256"] == hashlib.sha256(server.content).hexdigest()
    assert (out / "lib" / "filler.bin").read_bytes() == other


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def for_another_machine(library: bytes) -> bytes:
    return library[:18] + (8).to_bytes(2, "little") + library[20:]  # 8 is MIPS, which no torch wheel is made for


def flipped(content: bytes) -> bytes:
    at = content.index(b"lib/filler.bin") + FILLER_BYTES // 2
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


FAULTS = {
    "corrupt": "truncated or corrupt archive",
    "truncated": "truncated or corrupt archive",
    "no-zip": "truncated or corrupt archive",
    "dots": "would land outside",
    "absolute": "would land outside",
    "symlink": "symbolic link",
    "architecture": "wrong architecture",
    "no-elf": "no ELF library",
    "no-libtorch": "is no LibTorch",
    "incomplete": "lacks lib/libc10.so",
    "version": "is LibTorch 9.8.7",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_archive_is_one_line_and_harms_nothing(
    out: Path, server: Server, files: dict[str, bytes], tmp_path: Path, fault: str
) -> None:
    an_old_one(out, files)
    flags: tuple[str, ...] = ()
    path, good = tmp_path / "bad.zip", server.content
    match fault:
        case "corrupt":
            server.content = flipped(good)
        case "truncated":
            server.content = good[: len(good) // 2]
        case "no-zip":
            server.content = b"<html>sign in to the hotel's network</html>"
        case "dots":
            server.content = archive(path, {**files, "../../outside": b""})
        case "absolute":
            server.content = archive(path, files, extra=[zipfile.ZipInfo(f"{tmp_path}/outside")])
        case "symlink":
            server.content = archive(path, files, extra=[link("libtorch/lib/link")])
        case "architecture":
            server.content = archive(path, {**files, "lib/libc10.so": for_another_machine(files["lib/libc10.so"])})
        case "no-elf":
            server.content = archive(path, {**files, "lib/libc10.so": b"a text longer than an ELF header"})
        case "no-libtorch":
            server.content = archive(path, files, top="something/")
        case "incomplete":
            server.content = archive(path, {name: c for name, c in files.items() if name != "lib/libc10.so"})
        case "version":
            flags = ("--version", "9.8.6")
    one_line(from_zip(out, server, *flags), 1, FAULTS[fault])
    assert (out / "old").exists()
    assert left_beside(out) == []
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize(
    ("status", "words"), [(404, "no such file (HTTP 404)"), (403, "no such file"), (401, "refuses")]
)
def test_refused_by_the_server(out: Path, server: Server, status: int, words: str) -> None:
    server.status = status
    one_line(from_zip(out, server), 1, words, "--version", "--variant")
    assert len(server.ranges) == 1  # asking again would not help
    assert not out.exists()


def test_no_network(out: Path, server: Server) -> None:
    server.url = f"http://127.0.0.1:{PORT_OF_NOBODY}/libtorch.zip"
    one_line(from_zip(out, server), 1, "no answer", "refused", "check the network")


def test_full_disk_is_noticed_before_unpacking(
    out: Path, server: Server, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    an_old_one(out, files)
    flags = [
        "libtorch",
        "--source",
        "zip",
        "--variant",
        "cpu",
        "--version",
        VERSION,
        "--url",
        server.url,
        "--out",
        str(out),
    ]
    usage = shutil.disk_usage(out)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DeploybenchError, match="not enough disk: unpacking needs 68 MB, 1 MB are free; free some"):
        libtorch.run(cli.parser().parse_args(flags))
    assert (out / "old").exists()
    assert left_beside(out) == [".libtorch.part", ".libtorch.part.json"]  # a full disk is no reason to download again
    monkeypatch.undo()
    assert libtorch.run(cli.parser().parse_args(flags)) == 0
    assert len(server.ranges) == 1


@pytest.mark.parametrize("survives", [0, 1, 2], ids=["before", "between", "after"])
def test_killed_around_the_renames(out: Path, server: Server, files: dict[str, bytes], survives: int) -> None:
    """The process dies before the first, between the two, and after the second rename."""
    an_old_one(out, files)
    code = f"""
        import os, sys
        from deploybench import cli
        rename, left = os.rename, {survives}
        def dying(*names):
            global left
            if left == 0: os._exit(9)
            left -= 1
            rename(*names)
            if left == 0 and {survives} == 2: os._exit(9)
        os.rename = dying
        sys.exit(cli.main())
    """
    flags = command(out, "--source", "zip", "--variant", "cpu", "--version", VERSION, "--url", server.url)[3:]
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *flags], env=environment(), timeout=SECONDS)
    assert killed.returncode == 9
    server.status = 404
    after = from_zip(out, server, *([] if survives == 2 else ["--force"]))
    assert (out / "old").exists() == (survives < 2)
    assert libtorch_folder.missing(out) == []
    assert after.returncode == (0 if survives == 2 else 1)
    # The whole archive stays where the process died before it was forgotten: the next run need not fetch it again.
    assert [name for name in left_beside(out) if ".part" not in name] == []


def test_two_at_once(out: Path, server: Server) -> None:
    """The server waits until the second has said that it waits for the first."""
    server.go_on.clear()
    flags = ("--source", "zip", "--variant", "cpu", "--version", VERSION, "--url", server.url)
    pipe = subprocess.PIPE

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command(out, *flags), env=environment(), stdout=pipe, stderr=pipe, text=True)

    with start() as first:
        wait_for_part(out, 1)
        with start() as second:
            assert second.stderr is not None
            assert "waiting for another" in second.stderr.readline()
            server.go_on.set()
            assert "is up to date" in "".join(second.communicate(timeout=SECONDS))
        said = "".join(first.communicate(timeout=SECONDS))
        assert "waiting for another" not in said
        assert "is up to date" not in said
    assert [first.returncode, second.returncode] == [0, 0]
    assert server.ranges == [None]


# --- flags and folders


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--variant", "gpu"], "--variant gpu"),
        (["--source", "floppy"], "--source"),
        (["--source", "path"], "no folder given"),
        (["--source", "wheel", "--path", "/"], "--path: goes with"),
        (["--url", "http://127.0.0.1/"], "--url: goes with"),
        (["--source", "zip", "--url", "file:///etc/passwd"], "only http"),
        (["--sha256", "abc"], "no SHA-256"),
        (["--version", "newest"], "no torch version"),
    ],
)
def test_bad_flags(out: Path, flags: list[str], words: str) -> None:
    version = [] if "--version" in flags else ["--version", VERSION]
    one_line(program(out, *version, *flags), 2, words)
    assert not out.parent.exists()


def test_a_folder_of_somebody_else_is_not_replaced(out: Path, server: Server) -> None:
    out.mkdir(parents=True)
    (out / "diary.txt").write_text("dear diary")
    one_line(from_zip(out, server, "--force"), 1, "was not made by")
    assert (out / "diary.txt").exists()


def test_unwritable_target(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").write_text("")
    one_line(from_zip(tmp_path / "file" / "libtorch", server), 1, str(tmp_path / "file"), "--out FOLDER")


# --- path


def test_path_links_to_the_torch_of_this_python(out: Path) -> None:
    found = importlib.util.find_spec("torch")  # looks it up without importing it
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent
    flags = ("--path", str(folder), "--version", importlib.metadata.version("torch"))
    result = program(out, *flags)
    assert (result.returncode, result.stderr) == (0, "")
    assert (out / "lib" / "libc10.so").resolve() == (folder / "lib" / "libc10.so").resolve()
    assert (marker(out)["source"], marker(out)["origin"]) == ("path", str(folder.resolve()))
    assert "is up to date" in program(out, *flags).stdout


def test_path_of_another_version_is_a_warning(out: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    an_old_one(tmp_path / "mine", files)
    result = program(out, "--path", str(tmp_path / "mine"), "--version", "9.0.0")
    assert result.returncode == 0
    assert "warning: " in result.stderr
    assert marker(out)["version"] == VERSION


def test_path_that_is_none(out: Path, tmp_path: Path, files: dict[str, bytes]) -> None:
    one_line(
        program(out, "--version", VERSION, "--path", str(tmp_path)), 1, f"{tmp_path}: is no LibTorch", "--path FOLDER"
    )
    an_old_one(out, files)
    one_line(program(out, "--version", VERSION, "--path", str(out)), 2, "is the target itself")
    assert (out / "old").exists()


# --- wheel, through the real pip


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes], requires: tuple[str, ...] = ()) -> None:
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    lines = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        *(f"Requires-Dist: {one}\n" for one in requires),
        *(f"Provides-Extra: {one.partition('extra == ')[2].strip(chr(39))}\n" for one in requires if "extra ==" in one),
    ]
    files = {
        **files,
        f"{info}/METADATA": "".join(lines).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
        f"{info}/licenses/LICENSE": b"",
        f"{info}/RECORD": b"",
    }
    folder.mkdir(exist_ok=True)
    archive(folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl", files, top="")


def torch_wheel(folder: Path, files: dict[str, bytes], version: str, requires: tuple[str, ...] = ()) -> None:
    content = {f"torch/{name}": content for name, content in files.items() if name != "build-version"}
    python = {"torch/version.py": f"__version__ = '{version}'\n".encode(), "torch/lib/libtorch_python.so": b""}
    wheel(
        folder,
        "torch",
        version,
        {**content, **python, "torch/include/torch/generated.py": b"", "torchgen/a.h": b""},
        requires,
    )


def from_wheel(out: Path, links: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return program(
        out, "--version", VERSION, *flags, PIP_FIND_LINKS=str(links), PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull
    )


def test_wheel_without_its_python(out: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    links = tmp_path / "links"
    torch_wheel(links, files, f"{VERSION}+cpu", requires=("a-package-that-is-nowhere",))
    result = from_wheel(out, links, "--variant", "cpu")
    assert result.returncode == 0, result.stderr
    assert "variant cpu: asked for" in result.stderr
    assert libtorch_folder.missing(out) == []
    kept = {str(path.relative_to(out / "site")) for path in (out / "site").rglob("*") if path.is_file()}
    left_out = {"build-version", "bin/a_test_program"}
    licence = f"torch-{VERSION}+cpu.dist-info/licenses/LICENSE"
    assert kept == {*(f"torch/{name}" for name in files if name not in left_out), licence}
    (file,) = links.iterdir()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (marker(out)["variant"], marker(out)["origin"], marker(out)["sha256"]) == ("cpu", file.name, digest)
    assert left_beside(out) == []
    again = from_wheel(out, links, "--variant", "cpu")
    assert (again.stdout.count("\n"), again.stderr) == (1, "")


def test_cuda_wheel_brings_nvidias_libraries_where_its_rpath_looks(
    out: Path, files: dict[str, bytes], libraries: dict[str, bytes], tmp_path: Path
) -> None:
    links = tmp_path / "links"
    linux = "; platform_system == 'Linux'"
    requires = (f"nvidia-fakeblas==1.0{linux}", f"cuda-toolkit[nvrtc]==1.0{linux}", f"triton==3.0{linux}", "sympy")
    torch_wheel(links, files, f"{VERSION}+cu130", requires)
    blas = {"nvidia/fakeblas/lib/libfakeblas.so": libraries["libfakeblas.so"], "nvidia/__init__.py": b""}
    wheel(links, "nvidia-fakeblas", "1.0", blas, ("nvidia-fakejit",))
    wheel(links, "nvidia-fakejit", "1.0", {"nvidia/fakejit/lib/libfakejit.so": b""})
    extras = ("fakertc==1.0; extra == 'nvrtc'", "fakecrt==1.0; extra == 'crt'")
    wheel(links, "cuda-toolkit", "1.0", {"cuda_toolkit/__init__.py": b""}, extras)
    wheel(links, "fakertc", "1.0", {"nvidia/fakertc/lib/libfakertc.so": b""})
    wheel(links, "fakecrt", "1.0", {"nvidia/fakecrt/include/crt/host_config.h": b"// a header"})
    result = from_wheel(out, links, "--variant", "cu130")
    assert result.returncode == 0, result.stderr
    assert marker(out)["variant"] == "cu130"
    assert (out / "site" / "nvidia" / "fakejit" / "lib" / "libfakejit.so").exists()  # what NVIDIA's wheels need in turn
    assert (out / "site" / "nvidia" / "fakertc" / "lib" / "libfakertc.so").exists()
    header = out / "site" / "nvidia" / "fakecrt" / "include" / "crt" / "host_config.h"
    assert header.exists(), "CUDA's headers include the compiler's"
    assert not list(out.rglob("*.py"))
    # Opened through the link lib, in a process that knows of no other place; the kernel says which file was mapped.
    code = (
        f"import ctypes; ctypes.CDLL({str(out / 'lib' / 'libtorch_cpu.so')!r}); print(open('/proc/self/maps').read())"
    )
    clean = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    maps = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True).stdout
    assert str(out.resolve() / "site" / "nvidia" / "fakeblas" / "lib" / "libfakeblas.so") in maps


def test_pip_has_another_build_only(out: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    links = tmp_path / "links"
    torch_wheel(links, files, f"{VERSION}+cpu")
    one_line(from_wheel(out, links, "--variant", "cu126"), 1, "pip has only the cpu build", "--variant auto")
    assert not out.exists()
    assert from_wheel(out, links, "--variant", "auto").returncode == 0


def test_pip_has_no_such_version(out: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    torch_wheel(tmp_path / "links", files, "1.2.3+cpu")
    one_line(
        from_wheel(out, tmp_path / "links", "--variant", "cpu"),
        1,
        f"torch=={VERSION}: pip finds no such version",
        "--version",
    )
    assert left_beside(out) == []


def test_pip_without_network(out: Path) -> None:
    index = f"http://127.0.0.1:{PORT_OF_NOBODY}/simple"
    more = {"PIP_INDEX_URL": index, "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        more[name] = ""
    one_line(program(out, "--version", VERSION, "--variant", "cpu", **more), 1, "no network", "--path FOLDER")


def test_corrupt_wheel(out: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    links = tmp_path / "links"
    torch_wheel(links, files, f"{VERSION}+cpu")
    (file,) = links.iterdir()
    file.write_bytes(flipped(file.read_bytes()))
    one_line(from_wheel(out, links, "--variant", "cpu"), 1, "truncated or corrupt archive", "pip cache purge")
    assert not out.exists()


# --- the choice of the build


@pytest.mark.parametrize(
    ("driver", "variant", "reason"),
    [
        (None, "cpu", "no NVIDIA driver found"),
        ((0, 0), "cpu", "cannot be used"),
        ((13, 1), "cu130", "supports CUDA 13.1"),
        ((13, 0), "cu130", "supports CUDA 13.0"),
        ((12, 9), "cu126", "supports CUDA 12.9"),
        ((12, 6), "cu126", "supports CUDA 12.6"),
        ((12, 5), "cpu", "cu126, needs 12.6"),
    ],
)
def test_auto_follows_the_driver(driver: tuple[int, int] | None, variant: str, reason: str) -> None:
    choice = variants.choose_variant("auto", driver_cuda=lambda: driver, answers=lambda _: True)
    assert choice.variant == variant
    assert reason in choice.reason
    assert choice.pip_arguments == ("--extra-index-url", f"https://download.pytorch.org/whl/{variant}")


def test_without_pytorchs_index_pip_decides() -> None:
    choice = variants.choose_variant("cpu", answers=lambda _: False)
    assert choice.pip_arguments == ()
    assert "does not answer" in choice.reason


def test_index_that_does_not_answer() -> None:
    assert not variants.index_answers(f"http://127.0.0.1:{PORT_OF_NOBODY}/whl/cpu")


@pytest.mark.parametrize(
    ("source", "variant", "expected"),
    [
        ("wheel", "cu126", "cu126"),
        ("zip", "cpu", "cpu"),
        ("path", "cu126", "auto"),
        (None, "", "auto"),
        ("wheel", "cuda", "auto"),
    ],
)
def test_the_venvs_follow_libtorch(
    monkeypatch: pytest.MonkeyPatch, source: str | None, variant: str, expected: str
) -> None:
    there = libtorch_folder.Marker(VERSION, variant, source, None, "", "") if source else None
    monkeypatch.setattr(libtorch_folder, "installed", lambda: there)
    monkeypatch.setattr(libtorch, "choose_variant", lambda asked: variants.Choice(asked, (), ""))
    assert libtorch.python_choice().variant == expected

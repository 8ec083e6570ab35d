"""Downloading one large file over HTTP: resumed where it broke, also by a later run, and never spliced of two files."""

from __future__ import annotations

import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploybench import terminal
from deploybench.errors import DeploybenchError

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
ATTEMPTS_WITHOUT_PROGRESS = 4
FIRST_PAUSE_SECONDS = 0.5
PROGRESS_SECONDS = 0.2


class _Broken(Exception):
    """The network failed; what has arrived is kept."""


def fetch(url: str, part: Path) -> None:
    """Download `url` to `part`, from where an earlier call stopped; `<part>.json` says what it is a part of.

    Errors: no network after ATTEMPTS_WITHOUT_PROGRESS tries, HTTP 4xx at once.
    """
    failures = 0
    while True:
        had = _size(part)
        try:
            _fetch_rest(url, part)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise _refused(url, error.code) from error
            reason = f"HTTP {error.code}"
        except _Broken as error:
            reason = str(error)
        failures = 1 if _size(part) > had else failures + 1
        if failures >= ATTEMPTS_WITHOUT_PROGRESS:
            raise DeploybenchError(
                "runtime",
                f"{url}: no answer after {failures} tries ({reason}); check the network and run it again: "
                f"{_size(part) / 1e6:.0f} MB are kept and the download goes on from there",
            )
        time.sleep(FIRST_PAUSE_SECONDS * 2 ** (failures - 1))


def forget(part: Path) -> None:
    """Remove a downloaded part and its note."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _fetch_rest(url: str, part: Path) -> None:
    note = _read_note(part)
    if note.get("url") != url or "total" not in note:
        forget(part)
        note = {}
    have = _size(part)
    if note and have == note["total"]:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "deploybench", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        # With If-Range a server sends the rest only of the very file that the part is of, else the whole new one.
        if note.get("validator"):
            request.add_header("If-Range", str(note["validator"]))
    try:
        with _network_errors():
            response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file there is shorter now than the part here
            forget(part)
            raise _Broken("the file on the server has changed") from error
        raise
    with response:
        _save(response, url, part, have, note)


@contextmanager
def _network_errors() -> Iterator[None]:
    """Only around the network, so that an OSError of the disk (full, read-only) is never taken for it and retried."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(getattr(error, "reason", error)) or type(error).__name__) from error


def _save(response: http.client.HTTPResponse, url: str, part: Path, have: int, note: dict[str, object]) -> None:
    if response.status == 206:
        start, total = _content_range(response.headers.get("Content-Range", ""))
        if start != have or total != note["total"]:
            forget(part)
            raise _Broken("the file on the server has changed")
    else:
        have, total = 0, int(response.headers.get("Content-Length") or 0)
        etag = response.headers.get("ETag") or ""
        validator = (
            etag if etag.startswith('"') else response.headers.get("Last-Modified")
        )  # a weak ETag is not allowed there
        part.unlink(missing_ok=True)
        _note_of(part).write_text(json.dumps({"url": url, "total": total, "validator": validator}), encoding="utf-8")
    with part.open("ab") as sink, _Progress(url.rpartition("/")[2], have, total) as progress:
        while chunk := _read(response):
            sink.write(chunk)
            progress.add(len(chunk))
    if total and progress.done != total:
        raise _Broken(f"the connection ended after {progress.done} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network_errors():
        return response.read(CHUNK_BYTES)


def _content_range(text: str) -> tuple[int, int]:
    """(start, total) of `bytes 100-999/1000`; (-1, -1) where it is anything else."""
    span, _, total = text.removeprefix("bytes ").partition("/")
    start = span.partition("-")[0]
    return (int(start), int(total)) if start.isdigit() and total.isdigit() else (-1, -1)


def _refused(url: str, code: int) -> DeploybenchError:
    # The store behind download.pytorch.org answers 403, not 404, for a file that it does not have.
    what = "there is no such file" if code in (403, 404, 410) else "the server refuses"
    return DeploybenchError(
        "runtime",
        f"{url}: {what} (HTTP {code}); check --version and --variant against https://pytorch.org/get-started/locally, "
        "or type `deploybench libtorch --source wheel`",
    )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> dict[str, object]:
    try:
        note = json.loads(_note_of(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


class _Progress:
    """A line on stderr: redrawn on a terminal, elsewhere only a first and a last one."""

    def __init__(self, name: str, done: int, total: int) -> None:
        self.name, self.done, self.total = name, done, total
        self.drawn = self.started = time.monotonic()
        self.first = done

    def __enter__(self) -> _Progress:
        terminal.notice(f"downloading {self.name}{f' from {self.first / 1e6:.1f} MB on' if self.first else ''}")
        return self

    def add(self, count: int) -> None:
        self.done += count
        if not terminal.quiet() and sys.stderr.isatty() and time.monotonic() - self.drawn >= PROGRESS_SECONDS:
            self.drawn = time.monotonic()
            print(f"\r{self._line()}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        terminal.notice(f"{chr(13) if sys.stderr.isatty() else ''}{self._line()}")

    def _line(self) -> str:
        rate = (self.done - self.first) / 1e6 / max(time.monotonic() - self.started, 1e-3)
        whole = f" of {self.total / 1e6:.1f}" if self.total else ""
        return f"  {self.done / 1e6:.1f}{whole} MB, {rate:.1f} MB/s"

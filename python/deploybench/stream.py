"""Many images through a classifier: some are read while others are classified. The answers come in order. Twin of
cpp/deploybench/stream; knows nothing of torch."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from deploybench.errors import DeploybenchError

Task = TypeVar("Task")
Result = TypeVar("Result")

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
AHEAD = 4  # tasks a worker that are begun before an earlier one is shown
LIST_REMEDY = "give --list a file with the path of a photo a line"


def photo_files(inputs: list[Path]) -> list[Path]:
    """What is given, in its order; in the place of a folder its photos, those of its folders too, sorted by name, and the
    folders in it that cannot be read: who reads them says why. Raises input_missing for a folder that has neither."""
    photos: list[Path] = []
    for given in inputs:
        if not given.is_dir():
            photos.append(given)
            continue
        problems: list[OSError] = []
        found = [
            Path(folder, name)
            for folder, _, names in os.walk(given, onerror=problems.append)
            for name in names
            if Path(name).suffix.lower() in PHOTO_SUFFIXES and os.path.isfile(os.path.join(folder, name))
        ]
        found += [Path(problem.filename) for problem in problems]
        if not found:
            raise DeploybenchError("input_missing", f"{given}: no photo in it; give a folder with .jpg or .png files")
        photos += sorted(found, key=os.fsencode)
    return photos


def listed_files(file: str) -> list[Path]:
    """The lines of a file that names photos, `-` for standard input: more of them than a command line holds. Raises
    input_missing or input_invalid where there is no such file, an empty line or none at all."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except FileNotFoundError:
        raise DeploybenchError("input_missing", f"{file}: no such file; {LIST_REMEDY}") from None
    except OSError as error:
        raise DeploybenchError("input_invalid", f"{file}: cannot be read ({error.strerror}); {LIST_REMEDY}") from error
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    if not lines:
        raise DeploybenchError("input_invalid", f"{file}: the file is empty; {LIST_REMEDY}")
    if b"" in lines:
        raise DeploybenchError("input_invalid", f"{file}: line {lines.index(b'') + 1} is empty; {LIST_REMEDY}")
    return [Path(os.fsdecode(line)) for line in lines]


def in_order(
    tasks: Iterable[Task], work: Callable[[Task], Result], workers: int, begin: Callable[[], None]
) -> Iterator[Result]:
    """`work` of each task, in order, on so many threads, each of which calls `begin` first; one is this thread itself. Raises
    what `work` raised."""
    if workers == 1:
        yield from map(work, tasks)
        return
    pool = ThreadPoolExecutor(workers, initializer=begin)
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            while waiting and (waiting[0].done() or len(waiting) >= AHEAD * workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

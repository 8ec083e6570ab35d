"""Is every tensor file, photo and labels file that is wrong refused in one line?"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_input import (
    BENCH,
    CPP_INFER,
    INFER,
    SIDE,
    WORKER,
    Place,
    Run,
    patched,
    photo,
    refused,
    tree,
)
from conftest import one_line_error
from deploybench import cases
from deploybench.errors import DeploybenchError


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


ONES = np.ones((1, 3, SIDE, SIDE), np.float32)
HOLED = ONES.copy()
HOLED[0, 2, 5, 5] = np.nan
ENDLESS = ONES.copy()
ENDLESS[0, 0, 0, 0] = -np.inf
HEADER = b"\x93NUMPY\x01\x00"


def headed(shape: str) -> bytes:
    """A npy file of four bytes that says it has this shape."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n"
    return HEADER + len(text).to_bytes(2, "little") + text.encode() + b"1234"


# file name, content (None: no file), words; all exit with 1 and name the file
TENSORS: list[tuple[str, bytes | None, tuple[str, ...]]] = [
    ("missing.npy", None, ("no such file",)),
    ("empty.npy", b"", ("empty",)),
    ("empty.dat", b"", ("empty",)),
    ("float64.npy", npy(ONES.astype(np.float64)), ("<f8", "float32")),
    ("uint8.npy", npy(ONES.astype(np.uint8)), ("|u1", "float32")),
    ("float16.npy", npy(ONES.astype(np.float16)), ("<f2", "float32")),
    ("big-endian.npy", npy(ONES.astype(">f4")), (">f4", "little-endian")),
    ("pickle.npy", npy(np.array([os.getcwd], dtype=object)), ("|O",)),
    ("record.npy", npy(np.zeros(3, [("a", "<f4")])), ()),
    ("fortran.npy", npy(np.asfortranarray(np.ones((2, 3, SIDE, SIDE), np.float32))), ("Fortran order",)),
    ("other-size.npy", npy(np.ones((1, 3, SIDE, SIDE + 1), np.float32)), (f"[N,3,{SIDE},{SIDE}]", str(SIDE + 1))),
    ("three-dimensions.npy", npy(ONES[0]), (f"[N,3,{SIDE},{SIDE}]",)),
    ("channels-last.npy", npy(np.ascontiguousarray(ONES.transpose(0, 2, 3, 1))), (f"[N,3,{SIDE},{SIDE}]",)),
    ("no-images.npy", npy(ONES[:0]), ()),
    ("nan.npy", npy(HOLED), ("NaN",)),
    ("inf.npy", npy(ENDLESS), ("NaN or infinit",)),
    ("nan.dat", HOLED.tobytes(), ("NaN",)),
    ("cut.npy", npy(ONES)[:-4], ("truncated",)),
    ("trailing.npy", npy(ONES) + b"\0", ("too many",)),
    ("cut.dat", ONES.tobytes()[:-1], (str(ONES.nbytes),)),
    ("trailing.dat", ONES.tobytes() + b"\0" * 4, (str(ONES.nbytes),)),
    ("cut-in-magic.npy", HEADER[:4], ()),
    ("cut-in-header.npy", npy(ONES)[:60], ("truncated",)),
    ("huge.npy", headed(f"({10**17}, 3, {SIDE}, {SIDE})"), ("truncated",)),
    ("overflow.npy", headed(f"({2**64}, 3, {SIDE}, {SIDE})"), ()),
    ("code.npy", headed("(exit(),)"), ()),
    ("photo.npy", b"\x89PNG\r\n\x1a\n" + b"x" * 100, ()),
    ("tensor.pt", npy(ONES), ()),
    ("tensor.NPY", npy(ONES), ()),
    ("tensor", npy(ONES), ()),
]  # fmt: skip


@pytest.mark.parametrize("program", [WORKER, BENCH])
@pytest.mark.parametrize(("name", "content", "words"), TENSORS, ids=[row[0] for row in TENSORS])
def test_bad_tensor_files(
    name: str,
    content: bytes | None,
    words: tuple[str, ...],
    program: str,
    place: Place,
    programs: dict[str, Run],
    tmp_path: Path,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    flags = ("--artifact", place.script, "--input", tmp_path / name, "--output", tmp_path / "y.npy")
    refused(programs[program], (tmp_path,), 1, (str(tmp_path / name), "deploybench preprocess", *words), *flags)


@pytest.mark.parametrize("program", [INFER, CPP_INFER])
def test_the_same_file_is_refused_by_infer(
    program: str, place: Place, programs: dict[str, Run], tmp_path: Path
) -> None:
    for name, content, words in TENSORS[:2] + TENSORS[3:4]:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        flags = ("--artifact", place.script, "--input", tmp_path / name)
        refused(programs[program], (tmp_path,), 1, (str(tmp_path / name), *words), *flags)
    (tmp_path / "folder.npy").mkdir()
    flags = ("--artifact", place.script, "--input", tmp_path / "folder.npy")
    refused(programs[program], (tmp_path,), 1, (str(tmp_path / "folder.npy"),), *flags)


# --- photos, which only Python reads


def bomb() -> bytes:
    """A PNG of 70 bytes that says it has 60000x60000 pixels."""
    content = bytearray(photo("PNG", (1, 1)))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


PHOTOS: list[tuple[str, bytes | None, tuple[str, ...]]] = [
    ("missing.jpg", None, ("no such file",)),
    ("empty.jpg", b"", ("empty",)),
    ("cut.jpg", photo("JPEG")[:-300], ("truncated",)),
    ("cut.png", photo("PNG")[:-300], ("truncated",)),
    ("cut-early.png", photo("PNG")[:20], ()),
    ("text.jpg", b"<html>404 Not Found</html>", ("not an image",)),
    ("noise.jpg", b"\xff\xd8\xff\xe0" + np.random.default_rng(2).bytes(400), ()),
    ("bomb.png", bomb(), ("bomb",)),
    ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", ("not an image",)),
    ("escape\x1b[2J.jpg", None, ("no such file",)),
    ("two\nlines.jpg", None, ("no such file",)),
    ("folder", None, ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), PHOTOS, ids=[repr(row[0]) for row in PHOTOS])
def test_bad_photos(
    name: str, content: bytes | None, words: tuple[str, ...], place: Place, here: Run, tmp_path: Path
) -> None:
    bad = tmp_path / name
    if content is not None:
        bad.write_bytes(content)
    elif name == "folder":
        bad.mkdir()
    words = (name if name.isprintable() else str(tmp_path), *words)
    folders = (tmp_path, place.folder)
    refused(here, folders, 1, words, "infer", "--artifact", place.script, place.photo, bad)
    flags = ("--artifact", place.script, "--out", tmp_path / "new" / "x.npy")
    refused(here, folders, 1, words, "preprocess", place.photo, bad, *flags)


BAD_PREPROCESSING = [
    ("null", None),
    ("crop of a million", {"crop": 1_000_000}),
    ("crop of another size", {"crop": SIDE * 2}),
    ("std of zero", {"std": [0, 0, 0]}),
    ("two means", {"mean": [0, 0]}),
    ("an unknown interpolation", {"interpolation": "psychic"}),
]


@pytest.mark.parametrize(("name", "fields"), BAD_PREPROCESSING, ids=[row[0] for row in BAD_PREPROCESSING])
def test_bad_preprocessing_in_an_artifact(
    name: str, fields: dict[str, Any] | None, place: Place, here: Run, tmp_path: Path
) -> None:
    with zipfile.ZipFile(place.script) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("/extra/deploybench.json"))
        sound = json.loads(archive.read(entry))["preprocessing"]
    bad = tmp_path / "bad.ts"
    bad.write_bytes(patched(place.script, preprocessing=fields and {**sound, **fields}))
    refused(here, (tmp_path,), 1, (str(bad), "generate"), "infer", "--artifact", bad, place.photo)


BAD_LABELS: list[tuple[str, bytes | None, tuple[str, ...]]] = [
    ("missing", None, ("labels.txt",)),
    ("empty", b"", ("labels.txt",)),
    ("too few", b"a\nb\nc\n", ("3 labels", "6")),
    ("too many", b"a\nb\nc\nd\ne\nf\ng\n", ("7 labels", "6")),
    ("an empty line", b"a\n\nc\nd\ne\nf\n", ("line 2",)),
    ("not UTF-8", b"a\nb\n\xff\xfe\nd\ne\nf\n", ("UTF-8",)),
    ("UTF-16", "a\nb\nc\nd\ne\nf\n".encode("utf-16"), ("labels.txt",)),
]


@pytest.mark.parametrize("program", [INFER, CPP_INFER])
@pytest.mark.parametrize(("name", "content", "words"), BAD_LABELS, ids=[row[0] for row in BAD_LABELS])
def test_bad_labels(
    name: str,
    content: bytes | None,
    words: tuple[str, ...],
    program: str,
    place: Place,
    programs: dict[str, Run],
    tmp_path: Path,
) -> None:
    labels = tmp_path / "labels.txt"
    if content is not None:
        labels.write_bytes(content)
    flags = ("--artifact", place.script, "--input", place.tensor, "--labels", labels)
    refused(programs[program], (tmp_path,), 1, (str(labels), *words), *flags)


def test_a_photo_that_bench_cannot_read(place: Place, here: Run, tmp_path: Path) -> None:
    """Before anything is made; and one that was damaged since, when it goes on with `--resume`."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    flags = ("bench", "--model", "sound_module:net", *place.make, "--runtimes", "python", "--input", broken, "--json")
    before = tree(tmp_path)
    done = here(*flags, "--artifacts", tmp_path, "--results", tmp_path)
    one_line_error(done, 1, str(broken), "not an image")
    assert json.loads(done.stdout)["error"]["code"] == "input_invalid"
    assert tree(tmp_path) == before
    with pytest.raises(DeploybenchError, match=r"broken.jpg: is not an image") as found:
        cases._tensor(broken, place.script)
    assert found.value.code == "input_invalid"

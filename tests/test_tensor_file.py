"""Do tensor files keep every bit, and is every file that is not one refused in one line, with nothing half-written?"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deploybench import tensor_file
from deploybench.errors import DeploybenchError

# [2, 3, 2, 1]: 12 numbers, all different and all exact in float32.
IMAGES: tensor_file.Tensor = np.arange(12, dtype=np.float32).reshape(2, 3, 2, 1) / np.float32(4)


def npy(header: str, data: bytes, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """A npy file put together by hand, so that the reader is not tested by its own writer."""
    count = struct.pack("<H" if version == (1, 0) else "<I", len(header) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + count + header.encode() + data


def header(descr: str = "'<f4'", fortran: str = "False", shape: str = "(2, 3, 2, 1)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def refusal(path: Path, height: int = 2, width: int = 1) -> DeploybenchError:
    with pytest.raises(DeploybenchError) as caught:
        tensor_file.read(path, height, width)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "; " in message
    assert "\n" not in message
    return caught.value


@pytest.mark.parametrize("format", ["npy", "dat"])
def test_written_and_read_back(tmp_path: Path, format: tensor_file.Format) -> None:
    path = tmp_path / f"x.{format}"
    tensor_file.write(path, IMAGES, format)
    got = tensor_file.read(path, 2, 1)
    assert got.dtype == np.float32
    assert got.shape == (2, 3, 2, 1)
    assert got.tobytes() == IMAGES.tobytes()
    assert got.flags.writeable  # torch.from_numpy warns about arrays that are not
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_dat_is_nothing_but_little_endian_floats(tmp_path: Path) -> None:
    tensor_file.write(tmp_path / "x.dat", IMAGES, "dat")
    assert (tmp_path / "x.dat").read_bytes() == struct.pack("<12f", *(number / 4 for number in range(12)))


def test_npy_is_what_numpy_writes(tmp_path: Path) -> None:
    tensor_file.write(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "numpy.npy", IMAGES)
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_a_strided_view_is_written_in_c_order(tmp_path: Path) -> None:
    view = np.asfortranarray(IMAGES)[:, ::-1]
    tensor_file.write(tmp_path / "x.npy", view)
    assert np.array_equal(tensor_file.read(tmp_path / "x.npy", 2, 1), view)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "text",
    [
        header(),
        "{'shape':(2,3,2,1),'fortran_order':False,'descr':'<f4'}",
        header() + " " * 60,
    ],
)
def test_every_plain_npy_header_is_read(tmp_path: Path, version: tuple[int, int], text: str) -> None:
    (tmp_path / "x.npy").write_bytes(npy(text, IMAGES.tobytes(), version))
    assert np.array_equal(tensor_file.read(tmp_path / "x.npy", 2, 1), IMAGES)


def with_value(value: float) -> bytes:
    bad = IMAGES.copy()
    bad[1, 2, 0, 0] = value
    return bad.tobytes()


GOOD = IMAGES.tobytes()
BAD_FILES = [
    ("empty.npy", b"", "is empty"),
    ("empty.dat", b"", "is empty"),
    ("magic.npy", GOOD, "is not a npy file"),
    ("version.npy", npy(header(), GOOD, (9, 0)), "none of 1.0, 2.0, 3.0"),
    ("cut-in-magic.npy", b"\x93NUM", "is not a npy file"),
    ("cut-in-version.npy", b"\x93NUMPY\x01", "none of 1.0, 2.0, 3.0"),
    ("cut-in-header.npy", npy(header(), b"")[:30], "truncated or damaged"),
    ("huge-header.npy", npy(header(), GOOD, (2, 0), length=2**32 - 1), "truncated or damaged"),
    ("long-header.npy", npy(header() + " " * 60_000, GOOD), "truncated or damaged"),
    ("no-data.npy", npy(header(), b""), "48 bytes of [2, 3, 2, 1] are missing"),
    ("truncated.npy", npy(header(), GOOD[:-1]), "1 bytes of [2, 3, 2, 1] are missing"),
    ("trailing.npy", npy(header(), GOOD + b"\0"), "1 bytes too many"),
    ("truncated.dat", GOOD[:-1], "47 bytes are no multiple of 24"),
    ("trailing.dat", GOOD + b"\0", "49 bytes are no multiple of 24"),
    ("float64.npy", npy(header("'<f8'"), GOOD * 2), "'<f8'"),
    ("integer.npy", npy(header("'|u1'"), GOOD[:12]), "'|u1'"),
    ("big-endian.npy", npy(header("'>f4'"), GOOD), "'>f4'"),
    ("object.npy", npy(header("'|O'"), b"cos\nsystem\n(S'true'\ntR."), "'|O'"),
    ("fortran.npy", npy(header(fortran="True"), GOOD), "Fortran order"),
    ("record.npy", npy(header("[('a', '<f4')]"), GOOD), "its dtype is 'a structure'"),
    ("no-shape.npy", npy("{'descr': '<f4', 'fortran_order': False}", GOOD), "header is malformed"),
    ("negative.npy", npy(header(shape="(-2, 3, 2, 1)"), GOOD), "header is malformed"),
    ("code.npy", npy(header(shape="(__import__('os').getpid(),)"), GOOD), "header is malformed"),
    ("nested.npy", npy("(" * 9000, GOOD), "header is malformed"),
    ("blanks.npy", npy("{" + " " * 9900, GOOD), "header is malformed"),
    ("escape.npy", npy(header("'\\d'"), GOOD), "(little-endian float32)"),
    ("digits.npy", npy(header(shape=f"({'9' * 5000},)"), GOOD), "header is malformed"),
    ("huge.npy", npy(header(shape=f"({'9' * 18}, 3, 2, 1)"), GOOD), "are missing"),
    ("none.npy", npy(header(shape="(0, 3, 2, 1)"), b""), "no shape of ours"),
    ("dimensions.npy", npy(header(shape="(" + "1," * 70 + ")"), GOOD[:4]), "no shape of ours"),
    ("rank.npy", npy(header(shape="(12,)"), GOOD), "its shape is [12], not [N,3,2,1]"),
    ("transposed.npy", npy(header(shape="(2, 3, 1, 2)"), GOOD), "its shape is [2, 3, 1, 2], not [N,3,2,1]"),
    ("nan.npy", npy(header(), with_value(float("nan"))), "image 1 holds NaN"),
    ("inf.npy", npy(header(), with_value(float("inf"))), "image 1 holds NaN"),
    ("inf.dat", with_value(float("-inf")), "image 1 holds NaN"),
    ("photo.jpg", GOOD, "ends in .npy or .dat"),
    ("NPY", npy(header(), GOOD), "ends in .npy or .dat"),
]


@pytest.mark.parametrize(("name", "content", "what"), BAD_FILES, ids=[row[0] for row in BAD_FILES])
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path / name)
    assert error.code == "input_invalid"
    assert what in str(error)
    assert "deploybench preprocess --model" in str(error)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    assert refusal(tmp_path / "missing.npy").code == "input_missing"
    assert "is a folder" in str(refusal(tmp_path / "folder.npy"))
    assert "not a plain file" in str(refusal(tmp_path / "pipe.npy"))
    assert refusal(tmp_path / "pipe.npy" / "x.npy").code == "input_missing"


def test_arrays_of_outputs(tmp_path: Path) -> None:
    outputs = np.array([[1.5, np.nan], [-np.inf, 0]], np.float32)
    tensor_file.write_array(tmp_path / "y.npy", outputs)
    assert tensor_file.read_array(tmp_path / "y.npy").tobytes() == outputs.tobytes()
    with pytest.raises(DeploybenchError, match=r"missing.npy: no such file; .* --output FILE"):
        tensor_file.read_array(tmp_path / "missing.npy")
    (tmp_path / "y.dat").write_bytes(outputs.tobytes())
    with pytest.raises(DeploybenchError, match=r"ends in \.npy"):
        tensor_file.read_array(tmp_path / "y.dat")


def test_extension_and_format_must_agree(tmp_path: Path) -> None:
    with pytest.raises(DeploybenchError, match=r"name it x\.dat") as caught:
        tensor_file.write(tmp_path / "x.npy", IMAGES, "dat")
    assert caught.value.code == "usage"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [IMAGES.astype(np.float64), IMAGES[0], IMAGES[:0], IMAGES[:, :2]])
def test_a_tensor_that_could_not_be_read_is_not_written(tmp_path: Path, wrong: tensor_file.Tensor) -> None:
    with pytest.raises(ValueError, match="a tensor file holds"):
        tensor_file.write(tmp_path / "x.npy", wrong)
    assert not list(tmp_path.iterdir())


def test_unwritable_places(tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "file").touch()
    for path in [tmp_path / "folder.npy", tmp_path / "absent" / "x.npy", tmp_path / "file" / "x.npy"]:
        with pytest.raises(DeploybenchError, match=r"cannot be written \(.+\); ") as caught:
            tensor_file.write(path, IMAGES)
        assert caught.value.code == "output_unwritable"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.npy"]


def test_a_read_only_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(DeploybenchError, match="Permission denied"):
        tensor_file.write(tmp_path / "x.npy", IMAGES)


# The process may write 1000 bytes to a file: the kernel then stops a larger write half way, as a full disk does.
FULL_DISK = """
import resource, sys, numpy
from pathlib import Path
from deploybench import errors, tensor_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    tensor_file.write(Path(sys.argv[1]), numpy.ones((1, 3, 224, 224), numpy.float32), sys.argv[1][-3:])
except errors.DeploybenchError as error:
    print(error.code, error)
"""


@pytest.mark.parametrize("name", ["x.npy", "x.dat"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"output_unwritable {tmp_path / name}: cannot be written (File too large); ")
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"old"

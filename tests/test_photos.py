"""Does C++ make the same tensors of photos as Python, for odd sizes, every kind of JPEG and PNG, and every preset of torchvision?"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from bad_input import Place, patched
from conftest import PHOTOS, Artifact, native, one_line_error, python
from deploybench import images, models, tensor_file
from photos import saved, scene
from PIL import Image

pytestmark = pytest.mark.usefixtures("photo_libraries")


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def photos() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of 50 and more."""
    sizes = [
        (1, 1),
        (3, 2),
        (17, 400),
        (400, 17),
        (223, 224),
        (224, 224),
        (255, 257),
        (256, 256),
        (640, 480),
        (479, 641),
    ]
    sizes += [(1023, 333), (2600, 1900), (31, 1), (600, 600), (232, 999)]
    for width, height in sizes:
        yield f"{width}x{height}.png", saved(scene(width, height), "PNG")
        yield f"{width}x{height}.jpg", saved(scene(width, height), "JPEG", quality=90)
    base = scene(301, 207)
    for orientation in range(1, 9):
        yield f"turned-{orientation}.jpg", saved(base, "JPEG", exif=turned(orientation))
    yield "turned-6.png", saved(base, "PNG", exif=turned(6))
    yield "turned-9.jpg", saved(base, "JPEG", exif=turned(9))
    gray = base.convert("L")
    yield "gray.jpg", saved(gray, "JPEG")
    yield "gray.png", saved(gray, "PNG")
    yield "one-bit.png", saved(base.convert("1"), "PNG")
    yield "palette.png", saved(base.quantize(60), "PNG")
    yield "palette-transparent.png", saved(base.quantize(60), "PNG", transparency=3)
    yield "alpha.png", saved(Image.merge("RGBA", (*base.split(), gray)), "PNG")
    yield "gray-alpha.png", saved(Image.merge("LA", (gray, gray)), "PNG")
    wide = numpy.asarray(gray).astype(numpy.uint16) * 256 + 77
    yield "sixteen-bits.png", saved(Image.fromarray(wide), "PNG")
    yield "inks.jpg", saved(base.convert("CMYK"), "JPEG")
    yield "progressive.jpg", saved(base, "JPEG", progressive=True)
    for sampling in (0, 1, 2):
        yield f"sampled-{sampling}.jpg", saved(base, "JPEG", subsampling=sampling)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All photos, those of data/ too."""
    folder = tmp_path_factory.mktemp("photos")
    for name, data in photos():
        (folder / name).write_bytes(data)
    for photo in PHOTOS:
        (folder / photo.name).write_bytes(photo.read_bytes())
    return folder


def by_cpp(artifact: Path, files: list[Path], output: Path) -> numpy.ndarray:
    """float32 [N, 3, crop, crop]."""
    done = native("preprocess", artifact, *files, "--output", output)
    assert done.returncode == 0, done.stderr
    return tensor_file.read_array(output)


def with_preprocessing(artifact: Path, how: images.Preprocessing, path: Path) -> Path:
    """A copy of the artifact that asks for another transform. Its model is not run."""
    fields: dict[str, Any] = {"preprocessing": how.to_json(), "input_shape": [1, 3, how.crop, how.crop]}
    path.write_bytes(patched(artifact, **fields))
    return path


def test_every_photo_alike(folder: Path, artifact: Artifact, tmp_path: Path) -> None:
    """Without mean and std, so that a level is 1/255. First the pixels alone, then each kind of resize."""
    files = sorted(folder.iterdir())
    assert len(files) >= 50
    steps = [
        ("decoding", images.Preprocessing(None, 200, "bilinear", True, (0.0,) * 3, (1.0,) * 3)),
        ("bilinear", images.Preprocessing(256, 224, "bilinear", True, (0.0,) * 3, (1.0,) * 3)),
        ("bicubic", images.Preprocessing(256, 224, "bicubic", True, (0.0,) * 3, (1.0,) * 3)),
    ]
    for step, how in steps:
        made = with_preprocessing(artifact("squeezenet1_1"), how, tmp_path / f"{step}.ts")
        found, expected = by_cpp(made, files, tmp_path / f"{step}.npy"), images.load_batch(files, how)
        for file, ours, theirs in zip(files, found, expected, strict=True):
            far = abs(ours - theirs) * 255
            apart = f"{step} of {file.name}: {far.max():.2f} levels, {(far > 0.01).mean():.2%} of the values"
            if file.suffix == ".png":
                assert far.max() == 0, apart
            assert far.max() <= 1.01, f"{apart}: another libjpeg than Pillow's may differ by a level, not by more"
            assert (far > 0.01).mean() <= 0.02, apart


def test_every_preset_of_torchvision(artifact: Artifact, tmp_path: Path) -> None:
    """One photo through the transform of each of the 80 models, those that differ once; normalised values."""
    presets = {images.Preprocessing.from_torchvision(models.default_weights(model).transforms())
               for model in models.select(["all"])}  # fmt: skip
    assert len(presets) > 10
    for number, how in enumerate(sorted(presets, key=str)):
        made = with_preprocessing(artifact("squeezenet1_1"), how, tmp_path / f"{number}.ts")
        found, expected = by_cpp(made, PHOTOS, tmp_path / f"{number}.npy"), images.load_batch(PHOTOS, how)
        for photo, ours, theirs in zip(PHOTOS, found, expected, strict=True):
            far = abs(ours - theirs) * numpy.array(how.std, numpy.float32).reshape(3, 1, 1) * 255
            assert far.max() <= (0 if photo.suffix == ".png" else 1.01), f"{photo.name}, {how}"
            assert (far > 0.01).mean() <= 0.02, f"{photo.name}, {how}"


def bomb(format: str) -> bytes:
    """A small file whose header promises 65500 x 65500 pixels."""
    data, side = saved(scene(9, 9), format), 65_500
    if format == "JPEG":
        at = data.index(b"\xff\xc0") + 5  # marker, length, bits; then height and width
        return data[:at] + struct.pack(">HH", side, side) + data[at + 4 :]
    header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def many_scans(scans: int) -> bytes:
    """A progressive photo with a scan more often than anyone needs: 11 bytes each, and a pass over all pixels."""
    data = saved(scene(9, 9).convert("L"), "JPEG", progressive=True)
    return data[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\x00" * scans + data[-2:]


BAD: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("empty.jpg", b"", ("empty",)),
    ("text.jpg", b"a letter", ("no JPEG and no PNG", "deploybench preprocess")),
    ("photo.webp", saved(scene(9, 9), "WEBP"), ("no JPEG and no PNG",)),
    ("half.jpg", saved(scene(90, 90), "JPEG")[:900], ("truncated or damaged",)),
    ("half.png", saved(scene(90, 90), "PNG")[:900], ("truncated or damaged",)),
    ("start.jpg", b"\xff\xd8\xff", ("truncated or damaged",)),
    ("start.png", b"\x89PNG\r\n\x1a\n", ("truncated or damaged",)),
    ("noise.jpg", b"\xff\xd8\xff" + bytes(range(256)) * 9, ("truncated or damaged",)),
    ("bomb.jpg", bomb("JPEG"), ("larger than 178956970 pixels",)),
    ("bomb.png", bomb("PNG"), ("larger than 178956970 pixels",)),
    ("scans.jpg", many_scans(600), ("truncated or damaged (more than 500 scans)",)),
    ("crc.png", saved(scene(9, 9), "PNG").replace(b"IDAT", b"IDAU"), ("truncated or damaged",)),
]


@pytest.mark.parametrize(("name", "data", "words"), BAD, ids=[row[0] for row in BAD])
def test_bad_photos(name: str, data: bytes, words: tuple[str, ...], place: Place, tmp_path: Path) -> None:
    bad, output = tmp_path / name, tmp_path / "out.npy"
    bad.write_bytes(data)
    one_line_error(native("infer", place.script, bad), 1, str(bad), *words)
    one_line_error(native("preprocess", place.script, bad, "--output", output), 1, str(bad), *words)
    assert not output.exists()


def test_other_bad_input(place: Place, tmp_path: Path) -> None:
    photo, output = PHOTOS[0], tmp_path / "out.npy"
    one_line_error(native("infer", place.script, tmp_path / "none.jpg"), 1, "none.jpg: no such file")
    one_line_error(native("infer", place.script, photo, place.tensor), 2, str(place.tensor), "goes alone")
    one_line_error(native("preprocess", place.script, photo), 2, "--output: is required")
    one_line_error(native("preprocess", place.script, photo, "--output", tmp_path / "out.txt"), 2, ".npy or .dat")
    late = native("preprocess", place.script, tmp_path / "none.jpg", "--output", tmp_path / "out.png")
    one_line_error(late, 2, "out.png", ".npy or .dat")  # before the photos are read
    one_line_error(
        native("preprocess", place.script, photo, "--output", tmp_path / "none" / "out.npy"), 1, "choose another"
    )
    thin = tmp_path / "thin.png"
    thin.write_bytes(saved(Image.new("RGB", (60_000, 1)), "PNG"))
    how = images.Preprocessing(256, 224, "bilinear", True, (0.0,) * 3, (1.0,) * 3)
    wide = with_preprocessing(place.script, how, tmp_path / "wide.ts")
    one_line_error(native("preprocess", wide, thin, "--output", output), 1, "too long and thin (60000x1)")
    unlike = with_preprocessing(place.script, how, tmp_path / "unlike.ts")
    unlike.write_bytes(patched(unlike, input_shape=[1, 3, 9, 9]))
    one_line_error(native("preprocess", unlike, photo, "--output", output), 1, "crop 224 is not its input's size")
    for field, value in (
        ("resize", 0),
        ("crop", None),
        ("interpolation", "nearest"),
        ("std", [0, 1, 1]),
        ("mean", [1, 2]),
        ("antialias", "yes"),
    ):
        odd = tmp_path / "odd.ts"
        odd.write_bytes(patched(place.script, preprocessing={**dataclasses.asdict(how), field: value}))
        one_line_error(native("preprocess", odd, photo, "--output", output), 1, f"preprocessing.{field} is not")
    twin = python("preprocess", "--artifact", place.script, photo, "--output", tmp_path / "twin.npy")
    assert twin.returncode == 0, "the twins take the same flag"
    ours = native("preprocess", place.script, photo, "--output", tmp_path / "twin.npy")
    assert ours.stdout == twin.stdout, "and say the same"
    done = native("preprocess", place.script, photo, photo, "--output", tmp_path / "two.dat")
    assert done.returncode == 0, done.stderr
    shape = tensor_file.read_array(place.tensor).shape[1:]
    assert (tmp_path / "two.dat").stat().st_size == 2 * numpy.prod(shape) * 4
    assert not output.exists()

"""Which pixels does a photo hold, do they become the tensor torchvision makes of them, and is everything else refused?

The photos are written by Pillow here; which pixels must come out was worked out by hand.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploybench import images, models, paths
from deploybench.errors import DeploybenchError
from deploybench.images import Preprocessing
from PIL import Image

PHOTOS = [paths.PHOTO, paths.DATA / "images" / "coffee.png"]
# mean 0 and std 1: the tensor is pixel / 255.
PLAIN = Preprocessing(None, 2, "bilinear", True, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
R, G, B, W, K, Y = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (255, 255, 0)


def picture(*rows: list[Any], mode: str = "RGB") -> Image.Image:
    """An image of `mode` out of its rows of pixels."""
    image = Image.new(mode, (len(rows[0]), len(rows)))
    for y, row in enumerate(rows):
        for x, pixel in enumerate(row):
            image.putpixel((x, y), pixel)
    return image


def pixels(path: Path) -> list[list[tuple[int, ...]]]:
    """Rows of (r, g, b), as open_image gives them."""
    image = images.open_image(path)
    assert image.mode == "RGB"
    return [[tuple(pixel) for pixel in row] for row in np.asarray(image).tolist()]


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def grays(*rows: list[int]) -> list[list[tuple[int, ...]]]:
    return [[(value,) * 3 for value in row] for row in rows]


# --- every kind of file


def test_gray(tmp_path: Path) -> None:
    assert pixels(save(tmp_path / "x.png", picture([0, 7], [128, 255], mode="L"))) == grays([0, 7], [128, 255])


def test_black_and_white(tmp_path: Path) -> None:
    assert pixels(save(tmp_path / "x.png", picture([0, 1], mode="1"))) == grays([0, 255])


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    rgba = picture([(10, 20, 30, 0), (40, 50, 60, 128), (70, 80, 90, 255)], mode="RGBA")
    expected = [[(10, 20, 30), (40, 50, 60), (70, 80, 90)]]
    assert pixels(save(tmp_path / "x.png", rgba)) == expected
    assert pixels(save(tmp_path / "x.webp", rgba, lossless=True, exact=True)) == expected
    assert pixels(save(tmp_path / "la.png", picture([(9, 0), (200, 255)], mode="LA"))) == grays([9, 200])


@pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff"])
def test_palette(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = picture([0, 1, 2], mode="P")
    image.putpalette([*R, *G, *(1, 2, 3)])
    options = {} if transparency is None else {"transparency": transparency}
    assert pixels(save(tmp_path / "x.png", image, **options)) == [[R, G, (1, 2, 3)]]


def test_cmyk(tmp_path: Path) -> None:
    # Pure inks on white paper, without a colour profile: red, green and blue are 255 - ink - black.
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (255, 255, 0, 0)]
    expected = [W, (0, 255, 255), (255, 0, 255), (255, 255, 0), K, B]
    assert pixels(save(tmp_path / "x.tif", picture(inks, mode="CMYK"))) == [expected]


@pytest.mark.parametrize("ink", [(255, 0, 0, 0), (0, 0, 255, 0), (0, 0, 0, 0)])
def test_cmyk_jpeg_is_not_inverted(tmp_path: Path, ink: tuple[int, ...]) -> None:
    # Adobe stores CMYK inverted in JPEG files. One colour survives the lossy coding but for rounding.
    path = save(tmp_path / "x.jpg", Image.new("CMYK", (8, 8), ink), quality=100)
    assert np.abs(np.array(pixels(path)) - np.array([255 - part for part in ink[:3]])).max() <= 1


# 16 bits: the high byte stays. 0x0000, 0x00ff, 0x0100, 0xffff; Pillow's own convert would give 0, 255, 255, 255.
DEEP = np.array([[0x0000, 0x00FF], [0x0100, 0xFFFF]], np.uint16)
SHALLOW = grays([0, 0], [1, 255])


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jp2"])
def test_16_bit_gray(tmp_path: Path, name: str) -> None:
    assert pixels(save(tmp_path / name, Image.fromarray(DEEP))) == SHALLOW


def test_16_bit_gray_the_other_way_round(tmp_path: Path) -> None:
    big_endian = Image.frombytes("I;16B", (2, 2), DEEP.astype(">u2").tobytes())
    assert pixels(save(tmp_path / "x.tif", big_endian)) == SHALLOW


def test_16_bit_netpbm(tmp_path: Path) -> None:
    # Read in mode I, 32 bits wide. With a white of 1023 Pillow has scaled already: 512 -> 32800 = 0x8020 -> 128.
    (tmp_path / "x.pgm").write_bytes(b"P5 2 2 65535\n" + DEEP.astype(">u2").tobytes())
    assert pixels(tmp_path / "x.pgm") == SHALLOW
    (tmp_path / "x.pgm").write_bytes(b"P5 3 1 1023\n" + struct.pack(">3H", 0, 512, 1023))
    assert pixels(tmp_path / "x.pgm") == grays([0, 128, 255])


def png(size: tuple[int, int], bits: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG by hand, for kinds that Pillow does not write. `rows` start with their filter byte each."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_colour(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png((1, 1), 16, 2, b"\0" + struct.pack(">3H", 0x00FF, 0x8000, 0xFFFF)))
    assert pixels(tmp_path / "x.png") == [[(0, 128, 255)]]
    (tmp_path / "la.png").write_bytes(png((1, 1), 16, 4, b"\0" + struct.pack(">2H", 0x1234, 0)))
    assert pixels(tmp_path / "la.png") == grays([0x12])


# Upright it is  R G B  The camera's rows and columns by the EXIF standard: 1 top left, 2 top right, 3 bottom right,
#                W K Y  4 bottom left, 5 left top, 6 right top, 7 right bottom, 8 left bottom.
STORED = {
    1: ([R, G, B], [W, K, Y]),
    2: ([B, G, R], [Y, K, W]),
    3: ([Y, K, W], [B, G, R]),
    4: ([W, K, Y], [R, G, B]),
    5: ([R, W], [G, K], [B, Y]),
    6: ([B, Y], [G, K], [R, W]),
    7: ([Y, B], [K, G], [W, R]),
    8: ([W, R], [K, G], [Y, B]),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif} | ({"lossless": True} if name == "x.webp" else {})
    path = save(tmp_path / name, picture(*STORED[orientation]), **options)
    assert pixels(path) == [[R, G, B], [W, K, Y]]


def test_exif_orientation_of_a_jpeg_and_of_16_bits(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert images.open_image(save(tmp_path / "x.jpg", Image.new("RGB", (40, 30)), exif=exif)).size == (30, 40)
    # Turned clockwise: the left column, read upwards, is the first row.
    assert pixels(save(tmp_path / "x.png", Image.fromarray(DEEP), exif=exif)) == grays([1, 0], [255, 0])


def test_xmp_turns_nothing(tmp_path: Path) -> None:
    """As in browsers, and in C++."""
    packet = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    path = save(tmp_path / "x.jpg", Image.new("RGB", (40, 30)))
    stored = path.read_bytes()
    path.write_bytes(stored[:2] + b"\xff\xe1" + (len(packet) + 2).to_bytes(2, "big") + packet + stored[2:])
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 6, "Pillow's own reading finds it"
    assert images.open_image(path).size == (40, 30)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_exif_orientation_that_does_not_exist(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert pixels(save(tmp_path / "x.png", picture([R, G]), exif=exif)) == [[R, G]]


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*"])
def test_broken_exif_does_not_harm_the_pixels(tmp_path: Path, exif: bytes) -> None:
    assert images.open_image(save(tmp_path / "x.jpg", Image.new("RGB", (4, 2)), exif=exif)).size == (4, 2)


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png", "x.tif"])
def test_animations_give_their_first_frame(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"lossless": True} if name == "x.webp" else {}
    others = [picture([B, B]), picture([W, K])]
    path = save(tmp_path / name, picture([R, G]), save_all=True, append_images=others, **options)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert pixels(path) == [[R, G]]


# --- what is no photo


def photo_bytes(format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.open(paths.PHOTO).save(buffer, format)
    return buffer.getvalue()


BAD_PHOTOS = [
    ("empty.jpg", b"", "is empty"),
    ("text.jpg", b"this is no photo\n", "is not an image that Pillow can read"),
    ("random.png", bytes(range(256)) * 40, "is not an image that Pillow can read"),
    ("truncated.jpg", photo_bytes()[:5000], "is truncated or damaged"),
    ("truncated.png", photo_bytes("PNG")[:5000], "is truncated or damaged"),
    ("truncated.webp", photo_bytes("WEBP")[:5000], "is truncated or damaged"),
    ("truncated.bmp", photo_bytes("BMP")[:5000], "is truncated or damaged"),
    ("bad-crc.png", photo_bytes("PNG").replace(b"IDAT", b"IDAX", 1), "is not an image that Pillow can read"),
    ("no-width.png", png((0, 5), 8, 2, b""), "is not an image that Pillow can read"),
    (
        "no-height.bmp",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 3, 0, 1, 24, 0, 0, 0, 0, 0, 0),
        "is not an image that Pillow can read",
    ),
    ("bomb.png", png((20_000, 20_000), 8, 2, b"\0" * 100), "larger than 178956970 pixels, maybe a decompression bomb"),
    (
        "drawing.eps",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "PostScript drawing",
    ),
]


@pytest.mark.parametrize(("name", "content", "what"), BAD_PHOTOS, ids=[row[0] for row in BAD_PHOTOS])
def test_bad_photos_are_refused(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    check_refusal(tmp_path / name, "input_invalid", what)


def check_refusal(path: Path, code: str, what: str) -> None:
    """One line that names the file, says what is wrong and what to do."""
    with pytest.raises(DeploybenchError) as caught:
        images.load_batch([path], PLAIN)
    message = str(caught.value)
    assert caught.value.code == code
    assert re.fullmatch(rf"{re.escape(str(path))}: [^\n]+; give [^\n]+", message)
    assert what in f"{code} {message}"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    check_refusal(tmp_path / "missing.jpg", "input_missing", "no such file")
    check_refusal(tmp_path, "input_invalid", "is a folder")
    check_refusal(Path("/dev/null"), "input_invalid", "is not a plain file")


def test_pixels_without_an_agreed_white_are_refused(tmp_path: Path) -> None:
    check_refusal(save(tmp_path / "f.tif", Image.new("F", (2, 2), 0.5)), "input_invalid", "floating-point")
    check_refusal(save(tmp_path / "i.tif", picture([0, 65536], mode="I")), "input_invalid", "beyond 16 bits")
    check_refusal(save(tmp_path / "n.tif", picture([0, -1], mode="I")), "input_invalid", "beyond 16 bits")


def test_a_large_photo_is_read_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Up to twice its limit Pillow only warns; here the limit is 3 pixels, and warnings are errors.
    path = save(tmp_path / "x.png", picture([R, G], [B, W]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(path) == [[R, G], [B, W]]


def test_resizing_does_not_become_a_bomb(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", Image.new("L", (60_000, 1)))
    with pytest.raises(DeploybenchError, match=r"x.png: is too long and thin \(60000x1\) .* edge to 256; "):
        images.load_batch([path], Preprocessing(256, 224, "bilinear", True, PLAIN.mean, PLAIN.std))
    assert images.load_batch([path], PLAIN).shape == (1, 3, 2, 2)


# --- the tensor


def test_a_tensor_by_hand() -> None:
    # No resize; of 4x2 the middle 2x2; (v / 255 - 0.5) / 0.25, (v / 255 - 0) / 0.5, (v / 255 - 1) / 2.
    image = picture([K, R, G, K], [K, W, B, K])
    tensor = images.tensor(image, Preprocessing(None, 2, "bilinear", True, (0.5, 0.0, 1.0), (0.25, 0.5, 2.0)))
    expected = [[[2, -2], [2, -2]], [[0, 2], [2, 0]], [[-0.5, -0.5], [0, 0]]]
    assert str(tensor.dtype) == "torch.float32"
    assert tensor.tolist() == expected


def test_a_photo_smaller_than_the_crop_gets_a_black_frame() -> None:
    tensor = images.tensor(picture([W]), Preprocessing(None, 3, "bilinear", True, PLAIN.mean, PLAIN.std))
    assert tensor.tolist() == [[[0, 0, 0], [0, 1, 0], [0, 0, 0]]] * 3


def test_a_batch_keeps_the_order_of_the_photos(tmp_path: Path) -> None:
    photos = [save(tmp_path / f"{n}.png", Image.new("RGB", (5, 3 + n), c)) for n, c in enumerate([R, G, B])]
    batch = images.load_batch(photos, PLAIN)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert batch[:, :, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert (batch == batch[:, :, :1, :1]).all()


def presets() -> dict[Preprocessing, Any]:
    """torchvision's own transform for each distinct preprocessing of all weights of all its classifiers."""
    zoo = models.import_torchvision().models
    weights = [row for name in zoo.list_models(module=zoo) for row in zoo.get_model_weights(name)]
    assert len(weights) >= 80
    return {Preprocessing.from_torchvision(row.transforms()): row.transforms() for row in weights}


# Sides that round in every direction, a single pixel, and shapes that are all edge.
ODD_SIZES = [(1, 1), (1, 2), (3, 2), (225, 224), (223, 601), (999, 257), (2000, 3), (7, 1500)]


def test_every_preset_of_torchvision_bit_for_bit() -> None:
    noise = np.random.default_rng(0)
    cases = [images.open_image(photo) for photo in PHOTOS]
    tables = presets()
    assert len(tables) >= 20
    for preprocessing, transforms in tables.items():
        # The odd sizes are cheap only where the crop is small; one small crop of each interpolation has them all.
        for image in cases:
            got, expected = images.tensor(image, preprocessing), transforms(image)
            assert got.shape == (3, preprocessing.crop, preprocessing.crop)
            assert got.numpy().tobytes() == expected.numpy().tobytes(), preprocessing
    for preprocessing in [p for p in tables if (p.resize, p.crop) in [(256, 224), (224, 224)]]:
        for size in ODD_SIZES:
            image = Image.fromarray(noise.integers(0, 256, (*size[::-1], 3), np.uint8))
            got, expected = images.tensor(image, preprocessing), tables[preprocessing](image)
            assert got.numpy().tobytes() == expected.numpy().tobytes(), (preprocessing, size)


# --- Preprocessing as JSON


GOOD = {
    "resize": 256,
    "crop": 224,
    "interpolation": "bilinear",
    "antialias": True,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def test_preprocessing_there_and_back() -> None:
    zoo = models.import_torchvision().models
    preprocessing = Preprocessing.from_torchvision(zoo.ResNet50_Weights.IMAGENET1K_V1.transforms())
    assert preprocessing.to_json() == GOOD
    assert Preprocessing.from_json({**GOOD, "later": 1}) == preprocessing
    assert Preprocessing.from_json({**GOOD, "resize": None}).resize is None
    assert Preprocessing.from_json({**GOOD, "mean": [0, 0, 0]}).mean == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("resize", value) for value in ["256", 256.0, True, 0, -1, 8193, [256]]),
        *(("crop", value) for value in [None, "224", 224.0, True, 0, 8193]),
        *(("interpolation", value) for value in [None, "nearest", 2, ["bilinear"]]),
        *(("antialias", value) for value in [None, 1, "true"]),
        *(("mean", value) for value in [None, 0.5, [0.5] * 2, [0.5] * 4, [0.5, 0.5, "0.5"], [0.5, 0.5, None]]),
        *(("mean", value) for value in [[0, 0, float("nan")], [0, 0, float("inf")], [0, 0, 1e300], [0, 0, 10**400]]),
        *(("std", value) for value in [[1, 1, 0], [1, 1, -1], [1, 1, True], [1, 1, 1e-30], [1, 1, float("nan")]]),
    ],
)
def test_untrusted_preprocessing_is_refused(field: str, value: object) -> None:
    with pytest.raises(DeploybenchError, match=rf"x.ts: preprocessing\.{field} is not .*; generate it again") as caught:
        Preprocessing.from_json({**GOOD, field: value}, "x.ts")
    assert caught.value.code == "artifact_invalid"


@pytest.mark.parametrize("field", GOOD)
def test_preprocessing_with_a_field_missing_is_refused(field: str) -> None:
    with pytest.raises(DeploybenchError, match=rf"preprocessing\.{field} is not"):
        Preprocessing.from_json({key: value for key, value in GOOD.items() if key != field})


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_preprocessing_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(DeploybenchError, match="preprocessing is not an object"):
        Preprocessing.from_json(value)


# --- data/


def test_labels_are_torchvisions() -> None:
    zoo = models.import_torchvision().models
    assert paths.LABELS.read_text(encoding="utf-8").split("\n") == [
        *zoo.ResNet50_Weights.DEFAULT.meta["categories"],
        "",
    ]


def test_photos_are_the_ones_their_readme_names() -> None:
    folder = paths.PHOTO.parent
    rows = [line.split("|") for line in (folder / "README.md").read_text(encoding="utf-8").splitlines() if "`" in line]
    table = {row[1].strip(): (row[2].strip(), row[-2].strip(" `")) for row in rows if len(row) > 3}
    photos = [file for file in folder.iterdir() if file.name != "README.md"]
    assert sorted(table) == sorted(photo.name for photo in photos)
    for photo in photos:
        size, sha256 = table[photo.name]
        assert hashlib.sha256(photo.read_bytes()).hexdigest() == sha256
        assert size == "{}x{}".format(*images.open_image(photo).size)
    assert sum(photo.stat().st_size for photo in photos) < 700_000

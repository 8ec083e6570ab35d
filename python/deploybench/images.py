"""Photos to tensors, with the model's own preprocessing. Not a second preprocessing: the arithmetic is torchvision's,
called on Pillow images just as its weights' `transforms()` call it, and equal to them bit for bit.

What torchvision leaves to the caller is settled here: which pixels a file holds. Every photo becomes 8-bit RGB,
upright. Alpha is dropped and colour profiles are ignored, as by the `convert("RGB")` of torchvision's own training
loaders; of 16 bits the high byte stays, as Pillow does for 16-bit colour.
"""

from __future__ import annotations

import contextlib
import os
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from deploybench.errors import DeploybenchError

if TYPE_CHECKING:
    import torch

Interpolation = Literal["bilinear", "bicubic"]

# The largest crop of torchvision's classifiers is 600; far above that a file is damaged, not ambitious.
MAX_SIDE_PIXELS = 8192
# Far beyond any normalisation (the smallest std in torchvision is 1/255), well inside float32.
MAX_NUMBER, MIN_STD = 1e6, 1e-6
# A shorter edge of 256 turns a photo of 60000x1 into 15,360,000x256; Pillow's own limit only looks at the file's size.
MAX_RESIZED_PIXELS = 100_000_000
# What Pillow's readers raise on damaged files: a broken PNG chunk is a SyntaxError, a broken AVIF a RuntimeError, ...
DAMAGED = (
    OSError,
    AttributeError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
)
# The EXIF orientation says where the camera's first row and column are; this puts them back to top and left. Not by
# ImageOps.exif_transpose, which also writes all EXIF anew and fails on photos whose other tags are odd.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
REMEDY = "give another photo, or save this one again as an 8-bit JPEG or PNG"


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its photos: the shorter edge resized to `resize` pixels (None: left as it is), the centre
    `crop` x `crop` pixels (black where the photo is smaller), values 0..1, then (value - mean) / std for R, G and B.

    `antialias` is recorded but changes nothing here: on Pillow images torchvision always antialiases.
    """

    resize: int | None
    crop: int
    interpolation: Interpolation
    antialias: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_torchvision(cls, preset: Any) -> Preprocessing:
        """From an ImageClassification preset, as `weights.transforms()` gives it."""
        fields = {
            "resize": preset.resize_size[0],
            "crop": preset.crop_size[0],
            "interpolation": preset.interpolation.value,
            "antialias": preset.antialias is not False,  # torchvision reads None as yes on Pillow images
            "mean": list(preset.mean),
            "std": list(preset.std),
        }
        return cls.from_json(fields, "torchvision's preset")

    @classmethod
    def from_json(cls, fields: object, source: str = "artifact metadata") -> Preprocessing:
        """From what `to_json` gave, read back out of a file that anybody may have written; unknown keys are allowed.

        Raises DeploybenchError artifact_invalid, naming `source` (the file) and the field.
        """
        if not isinstance(fields, Mapping):
            _refuse(source, "preprocessing", "an object")
        resize = fields.get("resize", "missing")  # null is a value: no resize
        if fields.get("interpolation") not in get_args(Interpolation):
            _refuse(source, "preprocessing.interpolation", " or ".join(get_args(Interpolation)))
        if not isinstance(fields.get("antialias"), bool):
            _refuse(source, "preprocessing.antialias", "true or false")
        return cls(
            resize=None if resize is None else _side(source, "resize", resize),
            crop=_side(source, "crop", fields.get("crop")),
            interpolation=cast(Interpolation, fields["interpolation"]),
            antialias=fields["antialias"],
            mean=_channels(source, "mean", fields.get("mean"), -MAX_NUMBER),
            std=_channels(source, "std", fields.get("std"), MIN_STD),
        )

    def to_json(self) -> dict[str, Any]:
        """The fields by name, in plain JSON types."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


def _refuse(source: str, field: str, wanted: str) -> NoReturn:
    message = f"{source}: {field} is not {wanted}; generate it again: deploybench generate --models MODEL"
    raise DeploybenchError("artifact_invalid", message)


def _side(source: str, name: str, value: object) -> int:
    # type, not isinstance: a bool is an int too
    if type(value) is not int or not 1 <= value <= MAX_SIDE_PIXELS:
        _refuse(source, f"preprocessing.{name}", f"a whole number from 1 to {MAX_SIDE_PIXELS}")
    return value


def _channels(source: str, name: str, value: object, low: float) -> tuple[float, float, float]:
    numbers = [number for number in value if type(number) in (int, float)] if isinstance(value, list) else []
    # A NaN fails the comparison, too.
    if len(numbers) != 3 or len(cast(list[object], value)) != 3 or not all(low <= n <= MAX_NUMBER for n in numbers):
        _refuse(source, f"preprocessing.{name}", f"three numbers from {low:g} to {MAX_NUMBER:g}")
    red, green, blue = map(float, numbers)
    return red, green, blue


def open_image(path: Path) -> Image.Image:
    """The photo as an upright RGB Pillow image, 8 bits a channel; of an animation the first frame.

    Raises DeploybenchError input_missing, input_invalid, or out_of_memory.
    """
    try:
        size = path.stat().st_size
        if path.is_dir():
            os.listdir(path)  # `infer` hands one over that it could not read
            raise _invalid(path, "is a folder")
        if not path.is_file():
            raise _invalid(path, "is not a plain file")
        if size == 0:
            raise _invalid(path, "is empty")
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and of large photos below its limit; what harms the pixels is an error.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return _to_rgb(path, image)
    except (FileNotFoundError, NotADirectoryError):
        raise DeploybenchError("input_missing", f"{path}: no such file; give the path of a photo") from None
    except PermissionError as error:
        raise _invalid(path, f"cannot be opened: {error.strerror}") from error
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise _invalid(path, f"is larger than {limit} pixels, maybe a decompression bomb") from None
    except UnidentifiedImageError:
        raise _invalid(path, "is not an image that Pillow can read") from None
    except MemoryError:
        raise DeploybenchError(
            "out_of_memory", f"{path}: not enough memory for its pixels; give a smaller photo"
        ) from None
    except DAMAGED as error:
        raise _invalid(path, f"is truncated or damaged ({error})") from error


def _invalid(path: Path | str, what: str) -> DeploybenchError:
    return DeploybenchError("input_invalid", f"{path}: {what}; {REMEDY}")


def _to_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.format == "EPS":
        # Pillow would run Ghostscript, another program, on it.
        raise _invalid(path, "is a PostScript drawing, not a photo")
    if image.mode == "F":
        raise _invalid(path, "holds floating-point pixels, for which no white is agreed")
    image.load()  # first: Pillow's TIFF reader turns the pixels itself while it loads, and forgets the orientation
    turn = UPRIGHT.get(_exif(image).get(ExifTags.Base.Orientation, 1))
    rgb = (_high_byte(path, image) if image.mode.startswith("I") else image).convert("RGB")
    return rgb if turn is None else rgb.transpose(turn)


def _exif(image: Image.Image) -> Image.Exif:
    """Of a JPEG or PNG its EXIF block alone. Where that says nothing Pillow's own getexif would go on to XMP and to texts of
    other programs, which neither browsers nor the C++ side heed."""
    if image.format not in ("JPEG", "MPO", "PNG"):
        return image.getexif()
    exif = Image.Exif()
    with contextlib.suppress(*DAMAGED):  # which harms no pixels
        exif.load(image.info.get("exif", b""))
    return exif


def _high_byte(path: Path, image: Image.Image) -> Image.Image:
    """16-bit gray (modes I;16, I;16B, and I, into which Pillow may widen it) to 8 bits.

    Pillow's own `convert` clips at 255, which turns a 16-bit photo nearly all white.
    """
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise _invalid(path, "holds integers beyond 16 bits, for which no white is agreed")
    return Image.fromarray((values >> 8).astype(np.uint8))


def tensor(image: Image.Image, preprocessing: Preprocessing, source: Path | str = "image") -> torch.Tensor:
    """An RGB image to float32 [3, crop, crop], normalised: the same bits as torchvision's weights.transforms()(image).

    Raises DeploybenchError input_invalid, naming `source`, where resizing a long, thin image would fill the memory.
    """
    import torch

    from deploybench.models import import_torchvision

    transforms = import_torchvision().transforms
    functional = transforms.functional
    if preprocessing.resize is not None:
        short, long = sorted(image.size)
        if preprocessing.resize**2 * long / short > MAX_RESIZED_PIXELS:
            what = f"is too long and thin ({image.width}x{image.height})"
            raise _invalid(source, f"{what} to resize its shorter edge to {preprocessing.resize}")
        mode = transforms.InterpolationMode(preprocessing.interpolation)
        image = functional.resize(image, [preprocessing.resize], interpolation=mode)
    values = functional.pil_to_tensor(functional.center_crop(image, [preprocessing.crop]))
    values = functional.convert_image_dtype(values, torch.float32)
    return cast("torch.Tensor", functional.normalize(values, list(preprocessing.mean), list(preprocessing.std)))


def load(photo: Path, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """A photo as float32 [3, crop, crop]. Raises as `open_image` does."""
    return tensor(open_image(photo), preprocessing, photo).numpy()


def load_batch(photos: Sequence[Path], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Photos to one batch, float32 [N, 3, crop, crop], in the order given. Raises as `open_image` does."""
    batch = np.empty((len(photos), 3, preprocessing.crop, preprocessing.crop), np.float32)
    for index, photo in enumerate(photos):
        batch[index] = load(photo, preprocessing)
    return batch

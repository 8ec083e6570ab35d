"""Photos made up for tests, and whether the C++ programs can read any."""

from __future__ import annotations

import io
from typing import Any

import numpy
import pytest
from bad_input import Place
from conftest import native, one_line_error
from PIL import Image


def scene(width: int, height: int) -> Image.Image:
    """Soft shapes and hard edges of all colours, another at each size."""
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float32)
    waves = [numpy.sin(x / (3 + 5 * c) + c) * numpy.cos(y / (4 + 3 * c) - c) for c in range(3)]
    values = 127 + 90 * numpy.stack(waves, -1) + 30 * (((x // 9 + y // 7) % 2)[..., None])
    return Image.fromarray(values.clip(0, 255).astype(numpy.uint8))


def saved(image: Image.Image, format: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **more)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photo_libraries(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where the program was built without libjpeg or libpng, which need not be there; it must say so, and not crash."""
    folder = tmp_path_factory.mktemp("codecs")
    for format, package in (("JPEG", "libjpeg"), ("PNG", "libpng")):
        (folder / format).write_bytes(saved(scene(9, 9), format))
        done = native("preprocess", place.script, folder / format, "--output", folder / "out.npy")
        if "was built without" in done.stderr:
            one_line_error(done, 1, f"is a {format}, and this program was built without {package}", f"{package}-dev")
            pytest.skip(done.stderr)

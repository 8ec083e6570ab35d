"""The artifact: one self-describing file per model, route, precision and device. Twin of cpp/deploybench/metadata.

Every kind of artifact is a zip archive, and `<archive>/extra/deploybench.json` in it holds all that a program needs to
use the model: labels, preprocessing, shapes, where the weights came from, what made it. It can be read without torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploybench.errors import DeploybenchError
from deploybench.paths import shown

SCHEMA = 1
ENTRY = "deploybench.json"
MAX_METADATA_BYTES = 4 << 20  # 1000 labels take 20 kB; what is larger is not ours
REMAKE = "make it with: deploybench generate --models"


@dataclass(frozen=True)
class Metadata:
    """What deploybench.json says; the fields are its keys."""

    model: str
    factory: str
    route: str
    capture: str  # how the graph was made: script, trace, or none
    precision: str
    device: str
    input_shape: list[int]  # [N, 3, H, W]
    dynamic_batch: bool  # whether another N works
    classes: int
    labels: list[str]
    preprocessing: dict[str, Any]  # images.Preprocessing
    weights: dict[str, str]  # origin, name, sha256
    torch_version: str
    torchvision_version: str
    deploybench_version: str
    created: str  # UTC, ISO 8601
    fingerprint: str  # of everything the file was made from: equal means up to date
    schema: int = SCHEMA

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


def path_for(folder: Path, model: str, route: str, precision: str, device: str, suffix: str) -> Path:
    """Where the artifact of this model and route lies in `folder`."""
    return folder / f"{model}.{route}-{precision}-{device}{suffix}"


def read_metadata(path: Path) -> Metadata:
    """The metadata of the artifact at `path`, checked; no torch needed.

    Raises artifact_missing or artifact_invalid.
    """
    if not path.exists():
        raise DeploybenchError("artifact_missing", f"{shown(path)}: no such artifact; {REMAKE} MODEL")
    if path.is_dir():
        raise DeploybenchError("artifact_invalid", f"{shown(path)}: is a folder; give an artifact file")
    if path.stat().st_size == 0:
        raise DeploybenchError("artifact_invalid", f"{shown(path)}: is empty; {REMAKE} MODEL --force")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [info for info in archive.infolist() if info.filename.endswith(f"/extra/{ENTRY}")]
            if not entries:
                raise DeploybenchError(
                    "artifact_invalid",
                    f"{shown(path)}: holds no {ENTRY}, so deploybench did not make it; {REMAKE} MODEL",
                )
            if entries[0].file_size > MAX_METADATA_BYTES:
                raise DeploybenchError("artifact_invalid", f"{shown(path)}: its {ENTRY} is too large; {REMAKE} MODEL")
            text = archive.read(entries[0])
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
        raise DeploybenchError(
            "artifact_invalid", f"{shown(path)}: not an artifact, or truncated ({error}); {REMAKE} MODEL --force"
        ) from error
    return parse_metadata(path, text)


def parse_metadata(path: Path, text: bytes) -> Metadata:
    """`text` as Metadata; every field present and of its type, the counts in agreement."""
    try:
        fields = json.loads(text)
        known = {name: fields[name] for name in Metadata.__dataclass_fields__}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DeploybenchError("artifact_invalid", f"{shown(path)}: bad {ENTRY} ({error}); {REMAKE} MODEL") from error
    if known["schema"] != SCHEMA:
        raise DeploybenchError(
            "artifact_invalid",
            f"{shown(path)}: made by another version of deploybench: generate it again; {REMAKE} {known['model']}",
        )
    strings = ("model", "factory", "route", "capture", "precision", "device", "torch_version", "fingerprint", "created")
    shape, labels, weights = known["input_shape"], known["labels"], known["weights"]
    sound = (
        all(isinstance(known[name], str) for name in strings)
        and isinstance(shape, list)
        and len(shape) == 4
        and all(type(size) is int and 0 < size < 1 << 20 for size in shape)
        and isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
        and len(labels) == known["classes"]
        and isinstance(weights, dict)
        and all(isinstance(weights.get(name), str) for name in ("origin", "name", "sha256"))
        and isinstance(known["preprocessing"], dict)
    )
    if not sound:
        raise DeploybenchError("artifact_invalid", f"{shown(path)}: {ENTRY} has wrong fields; {REMAKE} MODEL --force")
    return Metadata(**known)


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise DeploybenchError(
            "output_unwritable",
            f"{shown(path)}: cannot be written ({error.strerror or error}); free space or choose --out",
        ) from error
    finally:
        partial.unlink(missing_ok=True)

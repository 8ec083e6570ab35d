"""Photos whose classes are known, as ImageNet's val set is laid out: a folder for each class, the photos in it. No torch.

A folder's name says its class: a WordNet id (n02123045), a label of the model, or a class index. data/imagenet_synsets.txt has
the ids of ImageNet-1k, one a line, in the order of its classes: that of the ids themselves.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploybench import models, paths, stream
from deploybench.errors import DeploybenchError
from deploybench.paths import shown

SYNSET = re.compile(r"n[0-9]{8}")
REMEDY = "give --classes FILE with lines of a folder's name, a tab, and a class index or label"
NAMED = 3  # folders that an error names


@dataclass(frozen=True)
class Dataset:
    """The photos of a folder: paths relative to it, by class and name, and what is beside them."""

    root: Path
    folders: list[str]  # one a class, in order
    photos: list[str]
    others: int  # files that are no photo by their name, or lie in no class's folder

    def folder_of(self, photo: str) -> str:
        """The name of its class's folder."""
        return photo.partition("/")[0]


def read(root: Path) -> Dataset:
    """The photos below `root`. Links are followed; names that begin with a dot are left out. Raises input_missing or
    input_invalid."""
    try:
        inside = sorted((entry.name for entry in os.scandir(root) if not entry.name.startswith(".")), key=os.fsencode)
    except OSError as error:
        raise DeploybenchError(
            "input_missing", f"{shown(root)}: cannot be read ({error.strerror}); --data FOLDER of folders of photos"
        ) from error
    folders = [name for name in inside if (root / name).is_dir()]
    others = len(inside) - len(folders)
    photos = []
    for folder in folders:
        files = list(_files(root / folder))
        found = [file for file in files if file.suffix.lower() in stream.PHOTO_SUFFIXES]
        others += len(files) - len(found)
        photos += sorted((str(file.relative_to(root)) for file in found), key=os.fsencode)
    if not folders:
        raise DeploybenchError(
            "input_invalid",
            f"{shown(root)}: holds no folder; put the photos of each class in one, named after the class",
        )
    if not photos:
        raise DeploybenchError(
            "input_missing", f"{shown(root)}: no photo in its {len(folders)} folders; give .jpg, .jpeg or .png files"
        )
    if odd := next((photo for photo in photos if "\n" in f"{root}/{photo}"), None):  # lists of photos have one a line
        raise DeploybenchError("input_invalid", f"{shown(root)}: the name of {odd} has a line break; rename the file")
    return Dataset(root, folders, photos, others)


def _files(folder: Path) -> Iterator[Path]:
    """The files below `folder`, also behind links; each folder once, so that links in a circle end."""
    seen = set()
    for where, inside, names in os.walk(folder, onerror=_refuse, followlinks=True):
        status = os.stat(where)
        if (status.st_dev, status.st_ino) in seen:
            inside.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inside[:] = [name for name in inside if not name.startswith(".")]
        yield from (Path(where, name) for name in names if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise DeploybenchError(
        "input_missing", f"{shown(Path(error.filename))}: cannot be read ({error.strerror}); check its permissions"
    ) from error


def sample(dataset: Dataset, limit: int) -> Dataset:
    """At most `limit` of its photos, evenly spread over it, so over its classes."""
    count = len(dataset.photos)
    photos = [dataset.photos[at * count // limit] for at in range(limit)] if limit < count else dataset.photos
    return Dataset(dataset.root, dataset.folders, photos, dataset.others)


def classes(dataset: Dataset, labels: list[str], file: Path | None) -> dict[str, int]:
    """The class index of each folder, by the model's labels, or by a file where one is given. Raises input_invalid where a
    name says none, or more than one."""
    if file is not None:
        known = _mapping(file, labels)
        missing = [folder for folder in dataset.folders if folder not in known]
        if missing:
            raise DeploybenchError(
                "input_invalid", f"{shown(file)}: says nothing of {_listed(missing)}; add a line for each"
            )
        return {folder: known[folder] for folder in dataset.folders}
    meaning = Meaning(labels)
    found = {folder: meaning.of(folder) for folder in dataset.folders}
    if unknown := [folder for folder in dataset.folders if len(found[folder]) != 1]:
        raise _unclear(dataset.root, unknown, found[unknown[0]], labels)
    return {folder: one for folder, (one,) in found.items()}


class Meaning:
    """What names mean to a model with these labels."""

    def __init__(self, labels: list[str]) -> None:
        self.labels = labels
        self.synsets: dict[str, int] = {}
        if labels == models.imagenet_labels():
            ids = paths.SYNSETS.read_text(encoding="ascii").split()
            self.synsets = {one: index for index, one in enumerate(ids)}
        self.exactly, self.loosely = _indices(labels), _indices(list(map(_plain, labels)))

    def of(self, name: str) -> list[int]:
        """Its class indices, best one: by id, label, label without regard to case and underscores, index."""
        if name in self.synsets:
            return [self.synsets[name]]
        if found := self.exactly.get(name) or self.loosely.get(_plain(name)):
            return found
        if re.fullmatch(r"[0-9]{1,9}", name) and int(name) < len(self.labels):
            return [int(name)]
        return []


def _plain(name: str) -> str:
    return re.sub(r"[_\s]+", " ", name).strip().casefold()


def _indices(names: list[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(name, []).append(index)
    return found


def _listed(folders: list[str]) -> str:
    more = f" and {len(folders) - NAMED} more" if len(folders) > NAMED else ""
    return ", ".join(map(repr, folders[:NAMED])) + more


def _unclear(root: Path, folders: list[str], found: list[int], labels: list[str]) -> DeploybenchError:
    """Of folders that have no class, or the first of which may mean several."""
    if found:
        which = ", ".join(f"{index} ({labels[index]})" for index in found[:NAMED])
        return DeploybenchError(
            "input_invalid",
            f"{shown(root)}: {folders[0]!r} may be class {which}; name the folder by the index, or {REMEDY}",
        )
    if any(SYNSET.fullmatch(folder) for folder in folders):
        why = "WordNet ids are known for the 1000 classes of ImageNet-1k"
    else:
        near = difflib.get_close_matches(folders[0], labels, n=3)
        why = f"did you mean {', '.join(map(repr, near))}?" if near else f"the model has {len(labels)} classes"
    return DeploybenchError("input_invalid", f"{shown(root)}: no class is called {_listed(folders)}; {why}; {REMEDY}")


def _mapping(file: Path, labels: list[str]) -> dict[str, int]:
    """Folder to class index, out of a file of lines: folder, tab, index or label."""
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")  # as Python spells names that are not UTF-8
    except OSError as error:
        raise DeploybenchError(
            "input_missing", f"{shown(file)}: cannot be read ({error.strerror}); {REMEDY}"
        ) from error
    meaning, known = Meaning(labels), dict[str, int]()
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        folder, tab, name = line.removesuffix("\r").partition("\t")
        found = meaning.of(name) if tab and folder else []
        if len(found) != 1 or known.get(folder, found[0]) != found[0]:
            what = "has no tab" if not tab else f"{name[:40]!r} is no class of the model, or several"
            if len(found) == 1:
                what = f"{folder[:40]!r} was class {known[folder]} in a line before"
            raise DeploybenchError("input_invalid", f"{shown(file)}: line {number}: {what}; {REMEDY}")
        known[folder] = found[0]
    return known

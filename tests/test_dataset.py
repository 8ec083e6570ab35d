"""Which photos does a folder hold, and which class does a folder's name mean? And what is said where it means none?"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from deploybench import dataset, models, paths
from deploybench.errors import DeploybenchError

IMAGENET = models.imagenet_labels()


def tree(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    return root


def classes(root: Path, labels: list[str], *folders: str, file: Path | None = None) -> dict[str, int]:
    for number, folder in enumerate(folders):
        tree(root, f"{folder}/{number}.jpg")
    return dataset.classes(dataset.read(root), labels, file)


def test_the_ids_of_imagenet_are_those_of_its_labels() -> None:
    """In ImageNet's order, which is that of the ids; looked up one by one in WordNet 3.0."""
    ids = paths.SYNSETS.read_text().split()
    assert len(ids) == len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert all(re.fullmatch("n[0-9]{8}", one) for one in ids)
    known = {
        "n01440764": "tench", "n01443537": "goldfish", "n02012849": "crane bird", "n02123045": "tabby", "n02123159": "tiger cat",
        "n02124075": "Egyptian cat", "n03126707": "crane", "n03710637": "maillot", "n03710721": "maillot tank suit",
        "n07873807": "pizza", "n07920052": "espresso", "n15075141": "toilet tissue",
    }  # fmt: skip
    assert {one: IMAGENET[ids.index(one)] for one in known} == known


def test_names_of_folders(tmp_path: Path) -> None:
    """By id, label, label in another spelling, and index; where two labels differ by case alone, the exact one counts."""
    wanted = {
        "n01440764": 0, "n15075141": 999, "tabby": 281, "Tiger_Cat": 282, "crane": 517, "crane bird": 134, "maillot": 638,
        "maillot_tank_suit": 639, "cardigan": 474, "Cardigan": 264, "yellow lady's slipper": 986, "0": 0, "0042": 42, "999": 999,
    }  # fmt: skip
    assert classes(tmp_path, IMAGENET, *wanted) == wanted


def test_labels_come_before_indices_and_commas_are_no_matter(tmp_path: Path) -> None:
    labels = ["1", "0", "crane, bird", "crane, machine", "n01440764"]
    wanted = {"1": 0, "0": 1, "crane, bird": 2, "CRANE,_machine": 3, "n01440764": 4, "2": 2}
    assert classes(tmp_path, labels, *wanted) == wanted


@pytest.mark.parametrize(("labels", "folders", "words"), [
    (IMAGENET, ["tably"], ["'tably'", "did you mean 'tabby'", "--classes FILE"]),
    (IMAGENET, ["CARDIGAN"], ["'CARDIGAN' may be class 264 (Cardigan), 474 (cardigan)", "by the index"]),
    (["crane", "dog", "crane"], ["crane"], ["may be class 0 (crane), 2 (crane)"]),
    (IMAGENET, ["1000"], ["'1000'", "the model has 1000 classes"]),
    (IMAGENET, ["-1"], ["'-1'"]),
    (IMAGENET, ["１"], ["'１'"]),
    (IMAGENET, ["n00000001"], ["'n00000001'", "the 1000 classes of ImageNet-1k"]),
    (["a", "b"], ["n01440764"], ["'n01440764'", "the 1000 classes of ImageNet-1k", "--classes FILE"]),
    (["a", "b"], ["q", "r", "s", "t", "a"], ["'q', 'r', 's' and 1 more"]),
], ids=lambda value: value[0] if isinstance(value, list) and len(value) < 6 else "imagenet")  # fmt: skip
def test_names_that_mean_nothing(labels: list[str], folders: list[str], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(DeploybenchError) as caught:
        classes(tmp_path, labels, *folders)
    assert caught.value.code == "input_invalid"
    for word in words:
        assert word in str(caught.value)


def test_a_file_says_the_classes(tmp_path: Path) -> None:
    """By index, label or id; folders that are not there are no matter, and several may be of one class."""
    file = tmp_path / "classes.tsv"
    file.write_text("cat\ttabby\nmore cats\t281\r\ncup of coffee\tn07920052\nunused\t3\ncat\t281\n")
    assert classes(tmp_path / "val", IMAGENET, "cat", "more cats", "cup of coffee", file=file) == {
        "cat": 281, "more cats": 281, "cup of coffee": 967,
    }  # fmt: skip


@pytest.mark.parametrize(("text", "words"), [
    ("", ["line 1: has no tab"]),
    ("cat 281\n", ["line 1: has no tab"]),
    ("cat\t281\n\n", ["line 2: has no tab"]),
    ("cat\t1000\n", ["line 1: '1000' is no class"]),
    ("cat\tCARDIGAN\n", ["line 1: 'CARDIGAN' is no class of the model, or several"]),
    ("\t281\n", ["line 1"]),
    ("cat\t281\ncat\t282\n", ["line 2: 'cat' was class 281"]),
    ("dog\t207\n", ["says nothing of 'cat'"]),
])  # fmt: skip
def test_files_that_do_not_say_it(text: str, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "classes.tsv"
    file.write_text(text)
    with pytest.raises(DeploybenchError) as caught:
        classes(tmp_path / "val", IMAGENET, "cat", file=file)
    for word in ("classes.tsv", *words):
        assert word in str(caught.value)
    with pytest.raises(DeploybenchError, match=r"none.tsv: cannot be read \(No such file or directory\)"):
        classes(tmp_path / "val", IMAGENET, file=tmp_path / "none.tsv")


def test_photos_of_a_folder(tmp_path: Path) -> None:
    """Those of its folders, behind links, too, each once; in the order of their classes."""
    root = tree(
        tmp_path / "val",
        "b/2.JPEG",
        "b/1.png",
        "b/in/ner/3.jpg",
        "b/note.txt",
        "b/.4.jpg",
        "a/5.jpg",
        "6.jpg",
        ".c/7.jpg",
    )
    tree(tmp_path, "far/8.jpg")
    (root / "c").symlink_to(tmp_path / "far")
    (root / "b" / "in" / "far").symlink_to(tmp_path / "far")
    (root / "b" / "in" / "circle").symlink_to(root / "b")
    (root / "b" / "dead.jpg").symlink_to(root / "nowhere")
    (root / "empty").mkdir()
    found = dataset.read(root)
    assert found.folders == ["a", "b", "c", "empty"]
    assert found.photos == [
        "a/5.jpg",
        "b/1.png",
        "b/2.JPEG",
        "b/dead.jpg",
        "b/in/far/8.jpg",
        "b/in/ner/3.jpg",
        "c/8.jpg",
    ]
    assert found.others == 2  # note.txt and 6.jpg, which lies in no class
    assert [dataset.sample(found, limit).photos for limit in (1, 2, 3)] == [
        ["a/5.jpg"], ["a/5.jpg", "b/dead.jpg"], ["a/5.jpg", "b/2.JPEG", "b/in/far/8.jpg"],
    ]  # fmt: skip
    assert dataset.sample(found, 7) == dataset.sample(found, 8) == found


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    for files, words in (
        (("1.jpg", "2.jpg"), "holds no folder; put the photos of each class in one"),
        (("a/note.txt", "b/x.webp"), "no photo in its 2 folders; give .jpg, .jpeg or .png"),
        (("a/two\nlines.jpg",), "has a line break; rename the file"),
    ):
        root = tree(tmp_path / str(len(words)), *files)
        with pytest.raises(DeploybenchError, match=words):
            dataset.read(root)
    with pytest.raises(DeploybenchError, match=r"cannot be read.*--data FOLDER"):
        dataset.read(tmp_path / "none")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "val" / "a")
    os.makedirs(folder)
    Path(os.fsdecode(folder + b"/\xff.jpg")).write_bytes(b"")
    assert [os.fsencode(photo) for photo in dataset.read(tmp_path / "val").photos] == [b"a/\xff.jpg"]

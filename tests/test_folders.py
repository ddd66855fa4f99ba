"""Which images a folder or tar holds: timm's order without ties, ours for ties, and every odd file by its name."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.readers.reader_image_folder import ReaderImageFolder
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from deit.see.datasets import manifest_of, training_images
from deit.see.decoding import DamagedImage
from deit.see.folders import folder_listing, in_order, tar_listing
from deit.see.recipes import EvaluationSet, PreparingData, Split, TrainingData

PNG = io.BytesIO()
Image.new("RGB", (4, 4)).save(PNG, "PNG")
PNG = PNG.getvalue()


def write(root: Path, *names: str | bytes) -> Path:
    """Images below `root`, by their paths."""
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(PNG)
    return root


def packed(path: Path, names: list[str]) -> Path:
    """A tar of images with these names, in this order."""
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(PNG)
            tar.addfile(member, io.BytesIO(PNG))
    return path


def declared(folder: str, images: int, classes: int) -> TrainingData:
    plain = {"name": "x", "reader": "timm", "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return TrainingData(classes=classes, split=Split(images=images, folder=folder), **plain)


def refusal(root: Path, folder: str = "train", images: int = 2, classes: int = 2) -> str:
    """Why `training_images` refuses what lies below `root`: one line, which names the key."""
    with pytest.raises(SystemExit) as refused:
        training_images(declared(folder, images, classes), root)
    message = str(refused.value)
    assert "\n" not in message and message.endswith(").") and "data." in message
    return message


# Order ----------------------------------------------------------------------------------------------------------------

NAMES = st.text("aAbB01279._- é", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))


def without_ties(names: list[str]) -> list[str]:
    return list({str(in_order(name)[0]): name for name in names}.values())


@settings(max_examples=40, deadline=None)
@given(classes=st.lists(NAMES, min_size=1, max_size=4), files=st.lists(NAMES, min_size=1, max_size=4))
def test_without_ties_folders_and_tars_are_numbered_as_timm_numbers_them(tmp_path_factory, classes, files):
    root = tmp_path_factory.mktemp("images")
    names = [f"{label}/{file}.JPEG" for label in without_ties(classes) for file in without_ties(files)]
    reader, ours = ReaderImageFolder(str(write(root / "train", *names))), folder_listing(root / "train")
    expected = [(os.path.relpath(path, root / "train"), label) for path, label in reader.samples]
    found = [f"{ours.classes[label]}/{name}" for label, name in zip(ours.labels, ours.names, strict=True)]
    assert list(zip(found, ours.labels.tolist(), strict=True)) == expected
    assert ours.classes == sorted(reader.class_to_idx, key=reader.class_to_idx.get)
    reader = ReaderImageInTar(str(packed(root / "train.tar", names)))
    ours = tar_listing(root / "train.tar")
    assert ours.classes == sorted(reader.class_name_to_idx, key=reader.class_name_to_idx.get)
    assert ours.labels.tolist() == reader.targets.tolist()
    assert ours.spans.tolist() == [[member.offset_data, member.size] for member, _, _ in reader.samples]


TIED = ["a/1.png", "A/1.png", "01/x.png", "1/x.png", "a/01.png", "a/X.png", "a/x.png"]
MANIFEST = """
import hashlib, json, sys
from deit.see.datasets import manifest_of
from deit.see.recipes import PreparingData, TrainingData
for folder in ("train", "train.tar"):
    data = json.loads(sys.argv[1]) | {"split": {"images": 7, "folder": folder}}
    manifest = manifest_of(PreparingData(training=TrainingData(**data), evaluation_sets={}), sys.argv[2])
    print(json.dumps(manifest["splits"]["training"]["classes"]), manifest["fingerprints"][folder]["labelled"])
"""


def test_classes_whose_names_tie_have_the_same_numbers_in_every_process(tmp_path):
    """`A` and `a`, `1` and `01` are alike to a natural sort; a set's order would be PYTHONHASHSEED's."""
    write(tmp_path / "train", *TIED)
    packed(tmp_path / "train.tar", [f"./{name}" for name in TIED])
    data = declared("train", 7, 4).model_dump_json()
    found = {
        subprocess.run(
            [sys.executable, "-c", MANIFEST, data, tmp_path],
            env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": "src"},
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for seed in range(3)
    }
    lines = ["0 01/x.png", "1 1/x.png", "2 A/1.png", "3 a/01.png", "3 a/1.png", "3 a/X.png", "3 a/x.png"]
    assert sorted(lines, key=lambda line: in_order(line[2:])) == lines
    digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert found == {f"{json.dumps(['01', '1', 'A', 'a'])} {digest}\n" * 2}


@pytest.mark.parametrize("other", ["labels", "order"])
def test_a_job_whose_labels_or_order_differ_from_the_manifest_refuses(tmp_path, monkeypatch, other):
    write(tmp_path / "train", *TIED)
    data = declared("train", 7, 4)
    manifest = manifest_of(PreparingData(training=data, evaluation_sets={}), tmp_path)
    images = training_images(data, tmp_path, manifest)
    if other == "labels":  # the numbers of A and a exchanged, as by another release's sort
        images.labels[images.labels >= 2] = 5 - images.labels[images.labels >= 2]
        images.classes[2:] = images.classes[:1:-1]
    else:
        images.found.names[-2:] = images.found.names[:-3:-1]
    monkeypatch.setattr("deit.see.image_files.SAMPLED", 2)
    with pytest.raises(SystemExit, match=r"expected (image|label and class/name).*\(data\.training\.listing\)"):
        images.compare(manifest["fingerprints"]["train"], "data.training")


def test_the_numbers_of_imagenet_and_of_numbered_folders_are_todays():
    wnids = [f"n{number:08d}" for number in (1440764, 2077923, 15075141, 3000684)]
    assert sorted(wnids, key=in_order) == sorted(wnids)
    numbers = [str(number) for number in range(1000)]
    assert sorted(sorted(numbers), key=in_order) == numbers


# Odd files ------------------------------------------------------------------------------------------------------------


def test_every_ending_of_an_image_is_read_in_any_case(tmp_path):
    write(tmp_path / "train", *[f"a/{k}.{end}" for k, end in enumerate(["webp", "TIF", "bmp", "gif", "JPEG", "PnG"])])
    write(tmp_path / "train", "b/x.ppm", "b/notes.txt", "b/.DS_Store")
    images = training_images(declared("train", 7, 2), tmp_path)
    assert [images.image(index).size for index in range(7)] == [(4, 4)] * 7
    message = refusal(tmp_path, images=6)
    counts = "images: 1 .bmp, 1 .gif, 1 .jpeg, 1 .png, 1 .ppm, 1 .tif, 1 .webp; other files: 1 without ending, 1 .txt"
    assert f"expected 6 images, found 7 ({counts}). Restore" in message


def test_a_folder_that_is_no_class_is_named(tmp_path):
    write(tmp_path / "train", "a/1.png", "a/2.png", "b/1.png", ".ipynb_checkpoints/1.png", "__MACOSX/1.png")
    (tmp_path / "train/c").mkdir()
    expected = "expected 2 classes, found 4 (images: .ipynb_checkpoints (1), __MACOSX (1), b (1), a (2)"
    assert expected in refusal(tmp_path) and "; without images c). Restore" in refusal(tmp_path)


def test_an_evaluation_set_is_told_by_the_training_classes(tmp_path):
    write(tmp_path, *[f"{part}/{name}/1.png" for part, name in (("train", "a"), ("train", "b"), ("val", "a"))])
    write(tmp_path, "v2/0/1.png", "more/a/1.png", "more/b/1.png", "more/.cache/1.png")
    data = declared("train", 2, 2)
    told = {"val": "none of b", "v2": "none of 1", "more": "unexpected .cache"}
    for folder, words in told.items():
        sets = {"test": EvaluationSet(reader="timm", split=Split(images=2, folder=folder))}
        with pytest.raises(
            SystemExit, match=rf"{folder}: expected 2 classes, found . \({words}\)\. Restore.*test\.split\.folder"
        ):
            manifest_of(PreparingData(training=data, evaluation_sets=sets), tmp_path)


def link(root: Path) -> None:
    (root / "train/a/2.png").symlink_to(root / "gone.png")


def lost_class(root: Path) -> None:
    (root / "train/c").symlink_to(root / "gone")


def pipe(root: Path) -> None:
    os.mkfifo(root / "train/a/2.png")


ODD = {
    "nested": ("cat/indoor/1.png", "train/cat/indoor/1.png: an image in a folder within a class folder. Classes are"),
    "deeply nested": ("__MACOSX/train/a/._1.png", "__MACOSX/train/a/._1.png: an image in a folder within a class"),
    "no class": ("1.png", "train/1.png: an image outside of the class folders. Move it"),
    "Latin-1": (b"a/caf\xe9.png", r"train/a/caf\xe9.png: the name is no UTF-8. Rename it"),
    "a class in Latin-1": (b"caf\xe9/1.png", r"train/caf\xe9: the name is no UTF-8. Rename it"),
    "dangling link": (link, "train/a/2.png: a link to a file that does not exist. Restore"),
    "dangling class": (lost_class, "train/c: a link to a file that does not exist. Restore"),
    "pipe": (pipe, "train/a/2.png: no regular file. Restore"),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_cannot_be_an_image_of_a_class_is_refused_by_its_path(tmp_path, odd):
    name, words = ODD[odd]
    write(tmp_path / "train", "a/1.png", "b/1.png")
    name(tmp_path) if callable(name) else write(tmp_path / "train", name)
    assert refusal(tmp_path).startswith(f"{tmp_path}/") and words in refusal(tmp_path)


def test_links_to_images_and_to_class_folders_are_read(tmp_path):
    write(tmp_path, "train/a/1.png", "elsewhere/1.png")
    (tmp_path / "train/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train/a/2.png").symlink_to(tmp_path / "train/a/1.png")
    assert folder_listing(tmp_path / "train").names == ["1.png", "2.png", "1.png"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path / "train", "a/1.png", "b/1.png")

    def forbidden(path: bytes, scandir=os.scandir):
        if path.endswith(b"/a"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    assert f"{tmp_path}/train/a: Permission denied. Restore" in refusal(tmp_path)


def test_a_locale_that_is_not_utf8_reads_the_same_names(tmp_path):
    write(tmp_path / "train", "é/ü.png", "b/1.png")
    packed(tmp_path / "train.tar", ["é/ü.png", "b/1.png"])
    data = declared("train", 2, 2).model_dump_json()
    read = (
        "import json, sys; from deit.see.datasets import training_images as t\n"
        "from deit.see.recipes import TrainingData as D\n"
        "for folder in ('train', 'train.tar'):\n"
        "    data = json.loads(sys.argv[1]) | {'split': {'images': 2, 'folder': folder}}\n"
        "    images = t(D(**data), sys.argv[2])\n"
        "    print(images.image(1).size, ascii(images.identity(1)))"
    )
    hostile = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": "src"}
    ran = subprocess.run(
        [sys.executable, "-c", read, data, tmp_path],
        env=os.environ | hostile,
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.stderr == "" and ran.stdout == f"(4, 4) {ascii('é/ü.png')}\n" * 2


# Tars -----------------------------------------------------------------------------------------------------------------


def nested_tar(path: Path, inner: dict[str, list[str]]) -> Path:
    """A tar of tars: name -> names of the images in it."""
    with tarfile.open(path, "w") as tar:
        for name, images in inner.items():
            tar.add(packed(path.with_name("inner.tar"), images), arcname=name)
    return path


def identities(path: Path) -> list[str]:
    found = tar_listing(path)
    content = path.read_bytes()
    assert all(content[start : start + size] == PNG for start, size in found.spans)
    return [f"{found.classes[label]}/{name}" for label, name in zip(found.labels, found.names, strict=True)]


@pytest.mark.parametrize("prefix", ["", "./", "train/", "./train//", "/data/train/"])
def test_a_tar_is_read_whatever_its_names_begin_with(tmp_path, prefix):
    packed(tmp_path / "train.tar", [f"{prefix}a/1.png", f"{prefix}b/1.png", f"{prefix}a/2.png"])
    assert identities(tmp_path / "train.tar") == ["a/1.png", "a/2.png", "b/1.png"]


@pytest.mark.parametrize("prefix", ["", "./", "{}/", "./{}/"])
def test_a_tar_of_tars_is_read_whatever_its_names_begin_with(tmp_path, prefix):
    names = {f"./train/{k}.tar": [f"{prefix.format(k)}{k}1.png", f"{prefix.format(k)}{k}2.png"] for k in "ab"}
    expected = ["a/a1.png", "a/a2.png", "b/b1.png", "b/b2.png"]
    assert identities(nested_tar(tmp_path / "train.tar", names)) == expected


def linked(path: Path) -> None:
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("b/2.png")
        member.type, member.linkname = tarfile.LNKTYPE, "a/1.png"
        tar.addfile(member)


TARS = {
    "nested": (lambda path: packed(path, ["a/1.png", "b/c/1.png"]), "train.tar/b/c: images in a folder that is not be"),
    "no class": (lambda path: packed(path, ["a/1.png", "1.png"]), "train.tar: holds images outside of class folders."),
    "twice": (lambda path: packed(path, ["a/1.png", "./a/1.png"]), "train.tar/a/1.png: stands twice in the tar. Pack"),
    "link": (lambda path: linked(packed(path, ["a/1.png"])), "train.tar/b/2.png: a link or sparse file. Pack the tar"),
    "tar of nested": (lambda path: nested_tar(path, {"a.tar": ["1.png"], "b.tar": ["c/1.png"]}), "b/c: images in a"),
    "Latin-1": (lambda path: packed(path, [os.fsdecode(b"a/caf\xe9.png")]), r"a/caf\xe9.png: the name is no UTF-8. Re"),
    "zip": (
        lambda path: zipfile.ZipFile(path, "w").writestr("a/1.png", PNG),
        "in an uncompressed tar (unpack all else), found none (",
    ),
    "compressed": (
        lambda path: tarfile.open(path, "w:gz").close(),
        "in an uncompressed tar (unpack all else), found none (",
    ),
    "empty": (lambda path: path.write_bytes(b""), "in an uncompressed tar (unpack all else), found none (empty file)"),
    "cut short": (
        lambda path: path.write_bytes(packed(path, ["a/1.png"]).read_bytes()[:550]),
        "found none (unexpected",
    ),
}


@pytest.mark.parametrize("odd", TARS)
def test_an_odd_tar_is_refused_by_its_path(tmp_path, odd):
    make, words = TARS[odd]
    make(tmp_path / "train.tar")
    message = refusal(tmp_path, "train.tar")
    assert message.startswith(f"{tmp_path}/train.tar") and words in message


def test_no_flipped_byte_of_a_tar_raises_anything_else(tmp_path):
    """Most lie in names and are read; a name that is not a file's is counted."""
    content = bytearray(packed(tmp_path / "train.tar", ["a/1.png", "b/1.png"]).read_bytes()[:2048])
    for place in range(0, 1536, 3):
        content[place] ^= 0x55
        (tmp_path / "train.tar").write_bytes(content)
        try:
            training_images(declared("train.tar", 2, 2), tmp_path).image(0)
        except SystemExit as refused:
            assert str(refused).startswith(f"{tmp_path}/train.tar") and "\n" not in str(refused)
        except DamagedImage as damaged:
            assert str(damaged).startswith(f"{tmp_path}/train.tar/")
        content[place] ^= 0x55


def test_a_folder_may_be_called_tar(tmp_path):
    write(tmp_path / "train.tar", "a/1.png", "b/1.png")
    assert len(training_images(declared("train.tar", 2, 2), tmp_path)) == 2


def test_a_large_tar_has_no_index_beside_it(tmp_path, monkeypatch):
    """timm writes one, and reads any that is there, beside tars of more than 10 GB, also where it may not write."""
    packed(tmp_path / "train.tar", ["a/1.png", "b/1.png"])
    (tmp_path / "_train_tarinfos.pickle").write_bytes(b"of another tar")
    monkeypatch.setattr(os.path, "getsize", lambda path: 11 * 1024**3)
    assert len(training_images(declared("train.tar", 2, 2), tmp_path)) == 2
    (tmp_path / "_train_tarinfos.pickle").unlink()
    assert len(training_images(declared("train.tar", 2, 2), tmp_path)) == 2
    assert os.listdir(tmp_path) == ["train.tar"]

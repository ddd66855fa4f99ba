"""Data sets that timm knows by a scheme, `hfds/` and `wds/`: images, labels and order against timm's own readers.

The packages by which timm reads them are no part of this project: without them, those tests are left out.
"""

import io
import json
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit.see.datasets import evaluation_images, image_files, manifest_of, training_images
from deit.see.reader import split_mistakes
from deit.see.recipes import EvaluationSet, PreparingData, Split, TrainingData
from deit.see.web_shards import expanded

SHARDS = "pets-train-{00..02}.tar"
LABELS = [2, 0, 1, 1, 0, 2, 2, 0, 1]


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8))


def encoded(number: int, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    picture(number).save(content, kind)
    return content.getvalue()


def shard(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path) -> Path:
    """Nine images in three shards, in an order that no name tells."""
    (tmp_path / "pets").mkdir()
    for number in range(3):
        files = {}
        for index in range(3 * number, 3 * number + 3):
            key = f"./{(7 * index) % 10:03d}"
            files |= {f"{key}.cls": str(LABELS[index]).encode(), f"{key}.json": b"{}", f"{key}.png": encoded(index)}
        shard(tmp_path / f"pets/pets-train-{number:02d}.tar", files)
    return tmp_path


def data_of(reader: str, split: Split, classes: int = 3) -> TrainingData:
    plain = {"name": "pets", "classes": classes, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return TrainingData(reader=reader, split=split, **plain)


def shards_of(**changes) -> TrainingData:
    return data_of("wds", Split(**{"images": 9, "folder": "pets", "part": SHARDS} | changes))


def refusal(data: TrainingData, root: Path, manifest: dict | None = None) -> str:
    with pytest.raises(SystemExit) as error:
        training_images(data, root, manifest)
    return str(error.value)


# WebDataset's shards --------------------------------------------------------------------------------------------------


def test_shards_hold_their_images_in_order(shards):
    images = training_images(shards_of(), shards)
    assert [images.targets(index) for index in range(9)] == [(label,) for label in LABELS]
    for index in (8, 0, 4):
        assert np.array_equal(np.asarray(images.image(index)), np.asarray(picture(index)))
    assert len({images.identity(index) for index in range(9)}) == 9
    assert images.classes == ["0", "1", "2"]


def test_they_are_the_images_that_timm_streams(shards):
    pytest.importorskip("webdataset")
    from timm.data.readers import create_reader

    streamed = list(create_reader("wds/pets", str(shards / "pets"), f"{SHARDS}|9", is_training=False))
    images = training_images(shards_of(), shards)
    assert len(streamed) == len(images)
    for index, (image, label) in enumerate(streamed):
        assert images.targets(index) == (label,)
        assert np.array_equal(np.asarray(images.image(index)), np.asarray(image))


def test_the_manifest_has_labels_and_order_and_every_image_is_decoded(shards):
    recipe = PreparingData(training=shards_of(), evaluation_sets={})
    manifest = json.loads(json.dumps(manifest_of(recipe, shards)))
    assert manifest["splits"]["training"]["images_per_class"] == [3, 3, 3]
    assert set(manifest["fingerprints"]) == {f"pets/{SHARDS}"} and len(manifest["splits"]["training"]["listing"]) == 64
    assert [len(images) for images in image_files(recipe, shards, manifest)] == [9]
    assert len(training_images(shards_of(), shards, manifest)) == 9
    path = shards / "pets/pets-train-01.tar"
    files = {f"{index}.{kind}": content for index in range(3) for kind, content in (("png", encoded(3)), ("cls", b"2"))}
    shard(path, files)
    assert "as in the manifest" in refusal(shards_of(), shards, manifest)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.png": encoded(0)}, "pets-train-01.tar/a: an image without a class (.cls). Pack the shard anew"),
        ({"a.cls": b"1"}, "pets-train-01.tar/a: a class without an image. Pack"),
        ({"a.png": encoded(0), "a.cls": b"cat"}, "pets-train-01.tar/a.cls: holds b'cat', which is no class's number"),
        ({"a.png": encoded(0), "a.jpg": b"", "a.cls": b"1"}, "pets-train-01.tar/a.jpg: a second image of a"),
        ({"a.png": encoded(0), "a.cls": b"3"}, "expected classes below 3, found class 3"),
    ],
)
def test_a_shard_that_is_not_clear_is_refused_by_its_path(shards, files, words):
    shard(shards / "pets/pets-train-01.tar", files)
    assert words in refusal(shards_of(), shards)


@pytest.mark.parametrize("content", [b"", b"no tar" * 200])
def test_what_is_no_tar_is_named(shards, content):
    path = shards / "pets/pets-train-01.tar"
    path.write_bytes(content)
    assert f"{path}: no uncompressed tar, or a damaged one" in refusal(shards_of(), shards)
    path.unlink()
    assert f"{path}: No such file" in refusal(shards_of(), shards)


def test_names_of_shards_are_expanded_as_webdataset_expands_them():
    patterns = ["a.tar", "a-{8..11}.tar", "{0..1}/a-{00..02}.tar"]
    assert expanded(patterns[1]) == ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]
    shardlists = pytest.importorskip("webdataset.shardlists")
    assert [expanded(pattern) for pattern in patterns] == [shardlists.expand_urls(pattern) for pattern in patterns]


# The Hugging Face hub's data sets -------------------------------------------------------------------------------------

HUB = Split(images=6, folder="animals", part="train")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A data set of the hub's plainest layout, images in folders, in two parts."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for part, images in (("train", 3), ("validation", 2)):
        for number, name in enumerate(("zebra", "ape")):
            (tmp_path / "animals" / part / name).mkdir(parents=True)
            for image in range(images):
                (tmp_path / f"animals/{part}/{name}/{image}.png").write_bytes(encoded(10 * number + image))
    return tmp_path


def test_a_data_set_of_the_hub_is_read_as_timm_reads_it(hub):
    from timm.data import create_dataset

    data = data_of("hfds", HUB, 2)
    validation = EvaluationSet(reader="hfds", split=HUB.model_copy(update={"part": "validation", "images": 4}))
    for part, images in (
        ("train", training_images(data, hub)),
        ("validation", evaluation_images(data, validation, hub)),
    ):
        theirs = create_dataset(f"hfds/{hub}/animals", root=None, split=part)
        assert len(images) == len(theirs)
        for index in range(len(images)):
            image, label = theirs[index]
            assert images.targets(index) == (label,)
            assert np.array_equal(np.asarray(images.image(index)), np.asarray(image))
    manifest = manifest_of(PreparingData(training=data, evaluation_sets={"validation": validation}), hub)
    assert set(manifest["fingerprints"]) == {"animals/train", "animals/validation"}
    assert manifest["splits"]["training"]["classes"] == ["ape", "zebra"]


def test_a_part_that_there_is_not_is_named(hub):
    message = refusal(data_of("hfds", HUB.model_copy(update={"part": "trian"}), 2), hub)
    assert f"{hub}/animals: has no readable part 'trian'" in message and "data.training.folder" in message


# Planning -------------------------------------------------------------------------------------------------------------


def test_a_package_that_is_not_installed_is_named_before_anything_runs(monkeypatch):
    monkeypatch.setattr("deit.see.readers.hfds.find_spec", lambda name: None)
    (mistake,) = split_mistakes("hfds", HUB)
    assert mistake.key == "folder" and "pip install datasets" in mistake.remedy
    monkeypatch.setattr("deit.see.readers.hfds.find_spec", lambda name: find_spec("json"))
    assert list(split_mistakes("hfds", HUB)) == []


@pytest.mark.parametrize(
    ("reader", "split", "key"),
    [
        ("hfds", {}, "folder"),
        ("hfds", {"folder": "a"}, "part"),
        ("wds", {"folder": "a", "part": "train"}, "part"),
        ("wds", {"folder": "a", "part": "a.tar", "files": {"images": "a"}}, "files"),
        ("timm", {"folder": "a", "part": "train"}, "part"),
    ],
)
def test_a_declaration_that_lacks_something_is_told(reader, split, key):
    assert [mistake.key for mistake in split_mistakes(reader, Split(images=1, **split))] == [key]

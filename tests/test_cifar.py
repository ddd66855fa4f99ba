"""CIFAR's official files: read as torchvision reads them, and opened only when they are the declared ones."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from cifar_files import FOLDER, declaration, packed, packed_batch, write_cifar
from torchvision.datasets import CIFAR10

from deit.see.datasets import evaluation_images, manifest_of, training_images
from deit.see.readers.cifar import unpacked
from deit.see.recipes import Corruption, EvaluationSet, PreparingData, Split, TrainingData

BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
IMAGES = 24


@pytest.fixture
def root(tmp_path) -> Path:
    write_cifar(tmp_path, IMAGES)
    return tmp_path


def cifar_data(root: Path, **changes) -> TrainingData:
    split = Split(images=5 * IMAGES, **declaration(root, BATCHES))
    plain = {"name": "cifar", "reader": "cifar", "classes": 10, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return TrainingData(**plain | {"split": split} | changes)


def test_set(root: Path, **changes) -> EvaluationSet:
    return EvaluationSet(reader="cifar", split=Split(images=IMAGES, **declaration(root, ["test_batch"])), **changes)


test_set.__test__ = False


def declared(data: TrainingData, **changes) -> TrainingData:
    return data.model_copy(update={"split": data.split.model_copy(update=changes)})


def refusal(data: TrainingData, root: Path, manifest: dict | None = None) -> str:
    with pytest.raises(SystemExit) as error:
        training_images(data, root, manifest)
    return str(error.value)


@pytest.mark.filterwarnings("ignore:.*align should be passed")
def test_it_reads_as_torchvision_reads_it(root):
    """torchvision's own reader, told the checksums of the small copy."""

    class SmallCopy(CIFAR10):
        train_list = [[name, hashlib.md5((root / FOLDER / name).read_bytes()).hexdigest()] for name in BATCHES]
        test_list = [["test_batch", hashlib.md5((root / FOLDER / "test_batch").read_bytes()).hexdigest()]]
        meta = CIFAR10.meta | {"md5": hashlib.md5((root / FOLDER / "batches.meta").read_bytes()).hexdigest()}

    data = cifar_data(root)
    for ours, theirs in (
        (training_images(data, root), SmallCopy(root)),
        (evaluation_images(data, test_set(root), root), SmallCopy(root, train=False)),
    ):
        assert len(ours) == len(theirs)
        for index, (image, label) in enumerate(theirs):
            assert ours.image(index).mode == "RGB" and np.array_equal(np.asarray(ours.image(index)), np.asarray(image))
            assert ours.targets(index) == (label,)


def test_the_images_are_those_that_were_written(tmp_path):
    pixels, labels = write_cifar(tmp_path, IMAGES)
    images = training_images(cifar_data(tmp_path), tmp_path)
    assert np.array_equal(images.pixels, pixels) and images.labels.tolist() == labels
    assert images.identity(100) == "000100"


def test_the_order_of_the_batches_is_that_of_their_names_not_of_the_params(root):
    data = cifar_data(root)
    mixed = declared(data, files=dict(reversed(data.split.files.items())))
    assert np.array_equal(training_images(mixed, root).pixels, training_images(data, root).pixels)


def test_held_out_and_corrupted_images_are_made_as_of_other_files(root):
    data = cifar_data(root, held_out=30)
    apart = evaluation_images(data, EvaluationSet(reader="cifar", split=data.split, held_out=30), root)
    learned = training_images(data, root)
    assert len(learned) == 90 and len(apart) == 30
    names = [images.identity(index) for images in (learned, apart) for index in range(len(images))]
    assert len(set(names)) == 120
    spoiled = evaluation_images(data, test_set(root, corruption=Corruption(noise=0.1, blur=0.5, shift=2, seed=0)), root)
    assert spoiled.image(3).mode == "RGB" and spoiled.image(3).size == (32, 32)


def test_the_finer_labels_of_cifar_100_are_its_classes():
    pixels = np.arange(2 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 32, 32, 3)
    read, labels = unpacked(packed_batch(pixels, [99, 3], "fine_labels"))
    assert np.array_equal(read, pixels) and labels.tolist() == [99, 3]


# Refusals ------------------------------------------------------------------------------------------------------------


class Witness:
    """Whose pickle writes a file when it is opened without care."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_another_file_is_refused_unopened(root):
    data, path = cifar_data(root), root / FOLDER / "data_batch_3"
    path.write_bytes(pickle.dumps({"data": Witness(root / "opened"), "labels": []}))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    message = refusal(data, root)
    for part in (str(path), data.split.md5["batch_3"], found, "data.training.md5.batch_3", "Restore"):
        assert part in message
    assert not (root / "opened").exists()


def test_a_declared_file_runs_no_code_either(root):
    """Whoever declares the checksum of a file from somewhere does not thereby let it do what it likes."""
    path = root / FOLDER / "data_batch_3"
    path.write_bytes(pickle.dumps({"data": Witness(root / "opened"), "labels": []}))
    message = refusal(cifar_data(root), root)
    assert str(path) in message and "data.training.files.batch_3" in message and "pathlib" in message
    assert not (root / "opened").exists()
    pickle.loads(path.read_bytes())
    assert (root / "opened").exists()


def test_a_file_without_a_declared_checksum_is_not_opened(root):
    data = cifar_data(root)
    message = refusal(declared(data, md5={key: md5 for key, md5 in data.split.md5.items() if key != "batch_2"}), root)
    assert "data_batch_2: expected a declared MD5, found none" in message and "data.training.md5.batch_2" in message


PIXELS = np.zeros((2, 32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "missing. Restore"),
        (b"", "expected a batch of CIFAR's python version, found none"),
        (b"no pickle", "expected a batch of CIFAR's python version, found none"),
        (packed_batch(PIXELS, [1, 2])[:-50], "expected a batch of CIFAR's python version, found none"),
        (packed([1, 2]), "no dictionary with data and labels"),
        (packed({"data": PIXELS}), "no dictionary with data and labels"),
        (packed({"data": [1, 2], "labels": [1, 2]}), "data that are no array"),
        (packed({"data": np.zeros((2, 3000), np.uint8), "labels": [1, 2]}), "data of (2, 3000) uint8"),
        (packed({"data": np.zeros((2, 3072)), "labels": [1, 2]}), "data of (2, 3072) float64"),
        (packed({"data": np.zeros((0, 3072), np.uint8), "labels": []}), "data of (0, 3072) uint8"),
        (packed_batch(PIXELS, [1, 2, 3]), "3 labels of 2 images"),
        (packed_batch(PIXELS, [1, -1]), "labels that are no whole numbers from 0"),
        (packed_batch(PIXELS, [1, "cat"]), "labels that are no whole numbers from 0"),
        (packed_batch(PIXELS, [1, 10]), "expected classes below 10, found class 10"),
    ],
)
def test_what_is_no_batch_is_refused(root, content, words):
    path = root / FOLDER / "data_batch_4"
    if content is not None:
        path.write_bytes(content)
    data = cifar_data(root)
    if content is None:
        path.unlink()
    message = refusal(data, root)
    assert words in message and str(path) in message


def test_a_wrong_number_of_images_is_refused(root):
    message = refusal(declared(cifar_data(root), images=50000), root)
    assert "expected 50000 images, found 120" in message and "data.training.images" in message and FOLDER in message


# Manifest ------------------------------------------------------------------------------------------------------------


def test_the_manifest_tells_counts_and_checksums_and_other_copies_are_refused(root, tmp_path_factory):
    data = cifar_data(root, held_out=20)
    sets = {
        "test": test_set(root),
        "corrupted": test_set(root, corruption=Corruption(noise=0, blur=0, shift=1, seed=0)),
    }
    manifest = json.loads(json.dumps(manifest_of(PreparingData(training=data, evaluation_sets=sets), root)))
    training = manifest["splits"]["training"]
    assert training["images"] == 120 and training["images_per_class"] == [12] * 10 and training["held_out"] == 20
    assert training["md5"] == data.split.md5 and manifest["splits"]["corrupted"]["evaluated"] == IMAGES
    assert manifest["fingerprints"] == {
        ", ".join(f"{FOLDER}/{name}" for name in BATCHES): data.split.md5,
        f"{FOLDER}/test_batch": sets["test"].split.md5,
    }
    assert len(training_images(data, root, manifest)) == 100
    other = tmp_path_factory.mktemp("other")
    write_cifar(other, IMAGES, seed=1)
    message = refusal(cifar_data(other), other, manifest)
    assert f"{other / FOLDER / 'data_batch_1'}: expected batch_1 with the manifest's MD5" in message
    assert "data.training.md5.batch_1" in message

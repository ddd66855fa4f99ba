"""Arrays that grow by steps: the same files after any interruption, and nothing damaged goes into them."""

import copy
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deit.store.interruption import saved_steps
from deit.store.seals import sealed, unsealed
from deit.store.shards import PROGRESS, ShardFolder, shard_name

STEPS, EPOCHS = 3, range(4, 7)
MANIFEST = {"teacher": "a" * 64, "range": (1, 2)}
RECORD = np.dtype([("label", "<u2"), ("logits", "<f4", (3,))])
ARRAYS = {"views": (np.uint8, (2, 5)), "targets": (RECORD, (2,)), "noise": (np.float32, None)}


def fill(folder: Path, stop_before: int = 99, signals: bool = False, minutes: float = 99.0, manifest=MANIFEST) -> list:
    """Makes what is still to be made up to a step, where it is stopped; the steps that were made."""
    folder.mkdir(exist_ok=True)
    shards = ShardFolder(folder, manifest, ARRAYS, STEPS, EPOCHS)
    made = []
    for number in saved_steps(shards.remaining, shards.save, minutes):
        if number == stop_before and not signals:
            raise KeyboardInterrupt
        draw = np.random.default_rng(number)
        step = {"views": draw.integers(255, size=(2, 5)), "targets": np.empty(2, RECORD)}
        step["targets"]["label"], step["targets"]["logits"] = number, draw.random((2, 3))
        step["noise"] = draw.random(number % 4)
        shards.add(step)
        made.append(number)
        if signals and number + 1 == stop_before:
            os.kill(os.getpid(), signal.SIGTERM)
    shards.finish()
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("shards") / "whole"
    assert fill(folder) == list(range(STEPS * len(EPOCHS)))
    return contents(folder)


def test_numpy_reads_a_shard_an_epoch_and_the_manifest_names_all(tmp_path, undisturbed):
    fill(tmp_path / "a")
    names = [shard_name(array, epoch, ragged=array == "noise") for epoch in EPOCHS for array in ARRAYS]
    assert set(undisturbed) == {*names, "manifest.json"}
    views = np.load(tmp_path / "a" / "views-0005.npy", mmap_mode="r")
    assert views.shape == (STEPS, 2, 5) and np.array_equal(
        views[1], np.random.default_rng(4).integers(255, size=(2, 5))
    )
    rows = np.concatenate([np.fromfile(tmp_path / "a" / f"noise-{epoch:04d}.bin", np.float32) for epoch in EPOCHS])
    assert len(rows) == sum(number % 4 for number in range(STEPS * len(EPOCHS)))
    assert set(json.loads(undisturbed["manifest.json"])["shards"]) == set(names)


@pytest.mark.parametrize("step", range(1, STEPS * len(EPOCHS)))
def test_stopped_by_a_signal_nothing_that_was_made_is_made_again(tmp_path, undisturbed, step):
    with pytest.raises(SystemExit) as stopped:
        fill(tmp_path / "a", step, signals=True)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert fill(tmp_path / "a") == list(range(step, STEPS * len(EPOCHS)))
    assert contents(tmp_path / "a") == undisturbed


def test_what_was_finished_and_not_published_is_not_made_again(tmp_path, undisturbed, caplog):
    """To publish is to read all of it once more, which takes minutes."""
    fill(tmp_path / "a")
    assert fill(tmp_path / "a") == [] and contents(tmp_path / "a") == undisturbed
    (tmp_path / "a/views-0005.npy").write_bytes(undisturbed["views-0005.npy"][:-1])
    assert fill(tmp_path / "a")[0] == STEPS and "views-0005.npy: damaged" in caplog.text
    fill(tmp_path / "a", manifest=MANIFEST | {"teacher": "b" * 64})
    assert "of another teacher" in caplog.text
    (tmp_path / "a/manifest.json").write_bytes(undisturbed["manifest.json"][:-9])
    assert len(fill(tmp_path / "a")) == STEPS * len(EPOCHS) and contents(tmp_path / "a") == undisturbed


@pytest.mark.parametrize(("minutes", "again"), [(1e-9, 5), (99.0, 3)], ids=["saved each step", "saved each epoch"])
def test_killed_it_goes_on_after_the_last_saved_step(tmp_path, undisturbed, minutes, again):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "a", 5, minutes=minutes)
    assert fill(tmp_path / "a")[0] == again
    assert contents(tmp_path / "a") == undisturbed


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a byte flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(
    ("name", "again"),
    [("views-0004.npy", 0), ("targets-0005.npy", 3), ("noise-0005.bin", 3), ("views-0006.npy", 6), (PROGRESS, 0)],
)
def test_what_was_damaged_meanwhile_is_told_and_made_again(tmp_path, undisturbed, caplog, name, again, how):
    with pytest.raises(SystemExit):
        fill(tmp_path / "a", 8, signals=True)
    DAMAGE[how](tmp_path / "a" / name)
    assert fill(tmp_path / "a")[0] == again
    assert contents(tmp_path / "a") == undisturbed
    assert (name, how) == (PROGRESS, "gone") or f"{name}: damaged" in caplog.text


def test_what_another_teacher_said_is_not_kept(tmp_path, caplog):
    with pytest.raises(SystemExit):
        fill(tmp_path / "a", 5, signals=True)
    assert fill(tmp_path / "a", manifest={**MANIFEST, "teacher": "b" * 64})[0] == 0
    assert "of another teacher" in caplog.text


def test_a_disk_that_fills_up_while_saving_leaves_what_was_saved(tmp_path, undisturbed):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "a", 4, minutes=1e-9)
    (tmp_path / "a" / f"{PROGRESS}.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        fill(tmp_path / "a", minutes=1e-9)
    (tmp_path / "a" / f"{PROGRESS}.partial").unlink()
    assert fill(tmp_path / "a")[0] == 4
    assert contents(tmp_path / "a") == undisturbed


def edited(progress: dict) -> Iterator[dict]:
    """The record of a progress with one value of it changed, at every place; once with its former seal."""
    for at in places(progress):
        for value in (None, True, -1, 8, 0.5, "", "a", [], {}):
            changed = copy.deepcopy(progress)
            inner = changed
            for key in at[:-1]:
                inner = inner[key]
            if inner[at[-1]] != value:
                inner[at[-1]] = value
                yield changed


def places(value: object, at: tuple = ()) -> Iterator[tuple]:
    """The keys that lead to every value of a nested dictionary."""
    for key, item in value.items() if isinstance(value, dict) else ():
        yield (*at, key)
        yield from places(item, (*at, key))


def refused(folder: Path, progress: bytes, caplog) -> bool:
    """Whether a folder with this progress is told to be damaged, and nothing in it counts."""
    caplog.clear()
    (folder / PROGRESS).write_bytes(progress)
    return ShardFolder(folder, MANIFEST, ARRAYS, STEPS, EPOCHS).steps == 0 and "damaged" in caplog.text


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> dict[str, bytes]:
    """What a job leaves that was stopped after 8 of 9 steps."""
    folder = tmp_path_factory.mktemp("interrupted") / "a"
    with pytest.raises(SystemExit):
        fill(folder, 8, signals=True)
    return contents(folder)


@pytest.fixture
def left(tmp_path, interrupted, monkeypatch) -> Path:
    """Its folder."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the disk is not what is tested here
    (tmp_path / "a").mkdir()
    restore(tmp_path / "a", interrupted)
    return tmp_path / "a"


def restore(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_no_edit_of_the_progress_is_believed(left, undisturbed, interrupted, caplog):
    """Of every value of it; and the edit of a count from 8 to 7, of which other bytes were sealed once."""
    progress = json.loads(interrupted[PROGRESS])
    edits = [*edited(progress), {**progress, "steps": 7}]
    assert all(refused(left, json.dumps(edit).encode(), caplog) for edit in edits)
    fill(left)
    assert contents(left) == undisturbed
    print(f"{len(edits)} edits")


def test_no_byte_of_the_progress_can_be_flipped(left, interrupted, caplog):
    content = interrupted[PROGRESS]
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        assert refused(left, bytes(flipped), caplog), place
    print(f"{len(content)} flips")


def test_a_count_that_is_sealed_anew_must_be_that_of_the_bytes(left, undisturbed, interrupted):
    progress = unsealed(interrupted[PROGRESS])
    for steps in range(9):
        restore(left, interrupted)
        (left / PROGRESS).write_text(json.dumps(sealed({**progress, "steps": steps})), encoding="utf-8")
        fill(left)
        assert contents(left) == undisturbed, steps


def test_a_byte_flipped_in_any_region_of_an_array_is_told_and_made_again(left, undisturbed, interrupted, caplog):
    """The header of a file, and what follows it."""
    flips = [
        (name, place)
        for name, content in interrupted.items()
        for place in range(0, len(content), 61)
        if name != PROGRESS
    ]
    for name, place in flips:
        caplog.clear()
        flipped = bytearray(interrupted[name])
        flipped[place] ^= 1 << place % 8
        restore(left, {**interrupted, name: bytes(flipped)})
        fill(left)
        assert contents(left) == undisturbed and f"{name}: damaged" in caplog.text
    print(f"{len(flips)} flips")

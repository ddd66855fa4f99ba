import hashlib
import io
import os
import pickle
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from deit.store.checkpoints import SEAL_BYTES, ResumeState, read_weights, save_weights


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def some_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(3, 2))
    return net.state_dict()


def some_state(step: int = 3) -> dict:
    """A model's and an optimiser's state after a step, and what a loop keeps beside them."""
    torch.manual_seed(step)
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "epoch": 1,
        "step": step,
        "history": [{"epoch": 0, "loss": 2.25, "accuracy": 0.125}],
        "sums": {"loss": torch.tensor(1.5), "views": 64, "seconds": None},
    }


def assert_equal(one, other):
    """Of the same types, and bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        for mine, theirs in zip(one, other, strict=True):
            assert_equal(mine, theirs)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def test_weights_round_trip(tmp_path):
    weights = some_weights()
    save_weights(tmp_path / "weights.safetensors", weights)
    assert_equal(read_weights(tmp_path / "weights.safetensors"), dict(weights))
    assert_equal(load_file(tmp_path / "weights.safetensors"), dict(weights))


def test_equal_weights_are_equal_bytes(tmp_path):
    """Whatever the order of the keys and the memory layout."""
    weights = some_weights()
    save_weights(tmp_path / "one", weights)
    shuffled = {key: weights[key] for key in sorted(weights, reverse=True)}
    shuffled["0.weight"] = shuffled["0.weight"].to(memory_format=torch.channels_last)
    save_weights(tmp_path / "two", shuffled)
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, tmp_path / "three")
    assert digest(tmp_path / "one") == digest(tmp_path / "two") == digest(tmp_path / "three")


def test_damaged_weights_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, some_weights())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SystemExit, match="damaged weights"):
        read_weights(path)


def test_state_round_trip(tmp_path):
    resume = ResumeState(tmp_path / "new" / "folder", "abc")
    assert resume.load() is None
    resume.save(some_state())
    loaded = resume.load()
    assert_equal(loaded, some_state())
    optimizer = torch.optim.AdamW(torch.nn.Linear(3, 2).parameters())
    optimizer.load_state_dict(loaded["optimizer"])
    assert [path.name for path in resume.path.parent.iterdir()] == ["resume.pt"]


def test_the_latest_state_counts(tmp_path):
    resume = ResumeState(tmp_path, "abc")
    for step in (1, 2):
        resume.save(some_state(step))
    assert_equal(resume.load(), some_state(2))


def test_another_recipes_state_is_refused(tmp_path):
    ResumeState(tmp_path, "abc").save(some_state())
    before = digest(tmp_path / "resume.pt")
    with pytest.raises(SystemExit, match="recipe abc, not def") as caught:
        ResumeState(tmp_path, "def").load()
    assert str(tmp_path / "resume.pt") in str(caught.value)
    assert digest(tmp_path / "resume.pt") == before


@pytest.mark.parametrize("value", [np.float64(0.5), np.zeros(2), {1, 2}, Path("x"), torch.nn.Linear(1, 1)])
def test_what_could_not_be_loaded_is_not_saved(tmp_path, value):
    resume = ResumeState(tmp_path, "abc")
    resume.save(some_state())
    with pytest.raises(TypeError, match=r"state\['history'\]\[1\]\['loss'\] is a"):
        resume.save({**some_state(4), "history": [{"loss": 1.0}, {"loss": value}]})
    assert_equal(resume.load(), some_state())


@pytest.mark.parametrize("moment", ["replace", "fsync"])
def test_killed_while_saving(tmp_path, moment):
    """kill -9 before the new file is complete, or between its write and the replacement: the older stays."""
    resume = ResumeState(tmp_path, "abc")
    resume.save(some_state(1))
    newer = some_state(2)
    child = os.fork()
    if child == 0:
        try:
            setattr(os, moment, lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
            resume.save(newer)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert_equal(resume.load(), some_state(1))
    resume.save(some_state(3))  # over what the killed one left
    assert_equal(resume.load(), some_state(3))


def on_a_full_disk(path: Path) -> None:
    """Lets whatever is written to `path` go to a device that never has room."""
    path.symlink_to("/dev/full")


def test_a_full_disk_leaves_the_former_state_and_says_so(tmp_path):
    resume = ResumeState(tmp_path, "abc")
    resume.save(some_state(1))
    on_a_full_disk(tmp_path / "resume.partial")
    with pytest.raises(SystemExit, match=r"resume\.partial: cannot be written \(No space left.* is intact: once there"):
        resume.save(some_state(2))
    assert_equal(resume.load(), some_state(1))
    resume.save(some_state(3))  # what was in the way is gone
    assert_equal(resume.load(), some_state(3))


def test_weights_that_find_no_room_name_their_file(tmp_path):
    on_a_full_disk(tmp_path / "weights.safetensors")
    with pytest.raises(SystemExit, match=r"weights\.safetensors: cannot be written \(No space left"):
        save_weights(tmp_path / "weights.safetensors", some_weights())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_file_system_that_fills_up(tmp_path):
    """States of 80 kB on 200 kB: the third one has no room beside the two that are kept."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        resume = ResumeState(tmp_path, "abc")
        for step in (1, 2):
            resume.save({"step": step, "net": torch.full((10_000,), step)})
        with pytest.raises(SystemExit, match="No space left"):
            resume.save({"step": 3, "net": torch.full((10_000,), 3)})
        assert resume.load()["step"] == 2
        assert {path.name for path in tmp_path.iterdir()} == {"resume.pt", "resume.previous.pt"}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def damage(path: Path, place: int, bit: int | None) -> bytes:
    """Flips a bit of a byte, or cuts the file there; returns what the file holds then."""
    content = bytearray(path.read_bytes())
    if bit is None:
        content = content[:place]
    else:
        content[place] ^= 1 << bit
    path.write_bytes(content)
    return bytes(content)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_is_noticed(tmp_path_factory, data):
    """A cut or a flipped bit: the state is unharmed, or the run refused with the file as it is; never a fresh start."""
    resume = ResumeState(tmp_path_factory.mktemp("state"), "abc")
    resume.save(some_state())
    place = data.draw(st.integers(0, resume.path.stat().st_size - 1), label="place")
    bit = data.draw(st.none() | st.integers(0, 7), label="bit flipped, or cut")
    content = damage(resume.path, place, bit)
    try:
        assert_equal(resume.load(), some_state())
        assert bit is not None
    except SystemExit as refusal:
        assert f"{resume.path}: damaged" in str(refusal) and "delete" in str(refusal)
    assert resume.path.read_bytes() == content


def test_the_previous_state_stands_in_for_a_damaged_one(tmp_path, caplog):
    resume = ResumeState(tmp_path, "abc")
    for step in (1, 2):
        resume.save(some_state(step))
    content = damage(resume.path, 300, 0)
    assert_equal(resume.load(), some_state(1))
    assert f"{resume.path}: damaged" in caplog.text and "the state before it counts" in caplog.text
    assert (tmp_path / "resume.damaged").read_bytes() == content
    resume.save(some_state(3))
    damage(resume.path, 300, 0)
    assert_equal(resume.load(), some_state(1))  # never the damaged one


def test_two_damaged_states_are_refused_and_kept(tmp_path):
    resume = ResumeState(tmp_path, "abc")
    for step in (1, 2):
        resume.save(some_state(step))
    contents = [damage(resume.path, 300, 0), damage(resume.previous, 300, None)]
    with pytest.raises(SystemExit, match=r"resume\.pt: damaged .*resume\.previous\.pt: damaged .*delete") as caught:
        resume.load()
    assert "\n" not in str(caught.value)
    assert [resume.path.read_bytes(), resume.previous.read_bytes()] == contents


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trapped",)


def test_a_pickle_bomb_is_refused_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"digest": "abc", "state": {"model": Trap()}}, tmp_path / "resume.pt")
    with pytest.raises(SystemExit, match=r"resume\.pt: damaged"):
        ResumeState(tmp_path, "abc").load()
    for name, pickled in (("zip", torch.save), ("plain", lambda bomb, path: path.write_bytes(pickle.dumps(bomb)))):
        pickled({"head.weight": Trap()}, tmp_path / name)
        with pytest.raises(SystemExit, match=f"{name}: damaged weights"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "trapped").exists()
    pickle.loads((tmp_path / "plain").read_bytes())
    assert (tmp_path / "trapped").exists(), "the bomb is real"


def test_an_edit_that_is_a_whole_file_again_is_refused(tmp_path):
    """Other numbers with right checksums of their own, as a program that edits the file would write it."""
    resume = ResumeState(tmp_path, "abc")
    resume.save(some_state())
    content = io.BytesIO()
    torch.save({"digest": "abc", "state": some_state(4)}, content)
    resume.path.write_bytes(content.getvalue() + resume.path.read_bytes()[-SEAL_BYTES:])
    with pytest.raises(SystemExit, match=r"resume\.pt: damaged \(its sha256 .*delete"):
        resume.load()

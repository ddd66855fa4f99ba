"""A cached teacher is an exact teacher, and only ever this one."""

import json
import os
import signal
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import (
    BATCH,
    CLASSES,
    DISTILLED,
    GROUP,
    REGNETY,
    STEPS,
    caching_of,
    run,
    same,
    stream_of,
    teacher_net,
    training_job,
)

from deit.learn.teacher import cached_teacher
from deit.see import views
from deit.store.job import Execution
from deit.store.results import read_result
from deit.teach import teacher_logits
from deit.teach.recording import write_epochs
from deit.teach.teacher_logits import TeacherInTheLoop, logits_from, packed, record_type, unpacked

WEIGHTS = "a" * 64


def records_of(logits: torch.Tensor, caching) -> np.ndarray:
    return unpacked(packed(logits, caching), caching)


def cache(job, folder: Path, keep: str, epochs=(0, 1), net=None, teacher=WEIGHTS, **execution) -> Path:
    folder.mkdir(exist_ok=True)
    caching = caching_of(job, keep, epochs)
    write_epochs(folder, caching, net or teacher_net(REGNETY), teacher, stream_of(job), Execution(**execution))
    return folder


@pytest.mark.parametrize(
    ("loss", "keep", "precision"),
    [
        ("hard", "labels", "fp32"),
        ("token", "labels", "fp32"),
        ("token", "labels", "bf16"),
        ("soft", "dense", "fp32"),
        ("soft", "dense", "bf16"),
        ("hard", "dense", "fp32"),
        ("token", "dense", "fp32"),
        ("soft-token", "dense", "fp32"),
        ("soft-token", "dense", "bf16"),
        ("standardised", "dense", "fp32"),
    ],
)
def test_a_student_of_the_cache_is_the_student_of_the_teacher(tmp_path, loss, keep, precision):
    optimisation = {"precision": precision}
    job = training_job(tmp_path / "data", loss, optimisation=optimisation, execution={"groups_per_forward": 3})
    in_the_loop = run(job, tmp_path / "loop", TeacherInTheLoop(teacher_net(REGNETY), precision))
    folders = [cache(job, tmp_path / f"{i}", keep, epochs=(i, i), workers=i) for i in (0, 1)]
    from_cache = run(job, tmp_path / "cached", cached_teacher(folders, job.resolved(), WEIGHTS))
    assert same(from_cache, in_the_loop)
    other = run(job, tmp_path / "other", TeacherInTheLoop(teacher_net(REGNETY, seed=4), precision))
    assert not same(from_cache, other)  # or the test shows nothing


def test_workers_write_the_same_bytes(tmp_path):
    job = training_job(tmp_path / "data", "soft")
    folders = [cache(job, tmp_path / f"{n}", "dense", workers=n) for n in (0, 1, 2)]
    for name in ("epoch-0000.npy", "epoch-0001.npy", "manifest.json"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1


def test_a_label_takes_two_bytes_and_reaches_65535(tmp_path):
    caching = caching_of(training_job(tmp_path), "labels")
    logits = torch.zeros(3, 65536)
    logits[0, 65535] = logits[1, 256] = 1
    records = records_of(logits, caching)
    assert records.dtype.itemsize == 2
    assert records["label"].tolist() == [65535, 256, 0]


def test_dense_keeps_every_bit(tmp_path):
    logits = torch.randn(5, CLASSES)
    records = records_of(logits, caching_of(training_job(tmp_path), "dense"))
    assert torch.equal(logits_from(records), logits)
    assert torch.equal(torch.from_numpy(records["label"].astype(int)), logits.argmax(1))


def test_two_bytes_hold_all_that_a_teacher_says_in_bf16(tmp_path):
    job = training_job(tmp_path / "data", "soft", optimisation={"precision": "bf16"})
    stream, net = stream_of(job), teacher_net(REGNETY)
    group = stream[0, 0, 0]
    seen, _ = stream.finish(group, torch.device("cpu"))
    logits = teacher_logits.logits_of(net, seen, "bf16")
    records = records_of(logits, caching_of(job, "dense"))
    assert records.dtype.itemsize == 2 + 2 * CLASSES
    asked = TeacherInTheLoop(net, "bf16").says(0, group.positions, seen).logits
    assert torch.equal(logits_from(records), asked)
    folder = cache(job, tmp_path / "cache", "dense", epochs=(0, 1))
    assert torch.equal(cached_teacher([folder], job.resolved()).says(0, group.positions, seen).logits, asked)


def test_a_mean_that_bf16_cannot_hold_is_refused_not_rounded(tmp_path):
    """A teacher of two heads, which no plan has."""
    job = training_job(tmp_path / "data", "soft", optimisation={"precision": "bf16"})
    stream = stream_of(job)
    seen, _ = stream.finish(stream[0, 0, 0], torch.device("cpu"))
    logits = teacher_logits.logits_of(teacher_net(DISTILLED), seen, "bf16")
    with pytest.raises(SystemExit, match="no bf16 numbers"):
        records_of(logits, caching_of(job, "dense"))


def test_the_cache_is_what_the_teacher_says_of_each_position(tmp_path):
    job, epochs = training_job(tmp_path / "data", "soft"), (1, 2)
    folder, net = cache(job, tmp_path / "cache", "dense", epochs), teacher_net(REGNETY)
    for epoch, step, number in product(epochs, range(STEPS), range(BATCH // GROUP)):
        shard = np.load(folder / f"epoch-{epoch:04d}.npy").reshape(-1)
        assert shard.shape == (STEPS * BATCH,) and shard.dtype == record_type(caching_of(job, "dense"))
        group = stream_of(job)[epoch, step, number]
        views, _ = stream_of(job).finish(group, torch.device("cpu"))
        said = net(views)
        assert np.array_equal(shard["logits"][group.positions.numpy()], said.numpy())
        assert np.array_equal(shard["label"][group.positions.numpy()], said.argmax(1).numpy())
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-0001.npy", "epoch-0002.npy", "manifest.json"]


def test_a_teacher_of_two_heads_says_their_mean():
    net, seen = teacher_net(DISTILLED), torch.randn(3, 1, 14, 14)
    torch.testing.assert_close(teacher_logits.logits_of(net, seen, "fp32"), net(seen))  # timm's own prediction


def test_the_teacher_computes_in_the_precision_of_the_recipe():
    net, seen = teacher_net(REGNETY), torch.randn(8, 1, 14, 14)
    exact, rounded = (teacher_logits.logits_of(net, seen, precision) for precision in ("fp32", "bf16"))
    assert torch.equal(exact, net(seen)) and rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1 * exact.abs().max().item())


@pytest.mark.parametrize(("workers", "epochs"), [(0, (0, 1)), (1, (1, 2))])
def test_an_interrupted_cache_asks_only_what_was_not_asked_and_ends_with_the_same_bytes(
    tmp_path, monkeypatch, caplog, workers, epochs
):
    job, asked = training_job(tmp_path / "data", "soft"), []
    caplog.set_level("INFO")

    def counted(net, views, precision):
        asked.append(len(views))
        if len(asked) == 6:  # in the second step of the first epoch, while the first one is on its way
            os.kill(os.getpid(), signal.SIGTERM)
        return logits_of(net, views, precision)

    logits_of = teacher_logits.logits_of
    monkeypatch.setattr(teacher_logits, "logits_of", counted)
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        cache(job, tmp_path / "cache", "dense", epochs, workers=workers)
    groups = BATCH // GROUP
    assert len(asked) == 2 * groups and not (tmp_path / "cache/manifest.json").exists()
    cache(job, tmp_path / "cache", "dense", epochs, workers=workers)
    assert len(asked) == 2 * STEPS * groups, "each step is asked once, also that which was on its way"
    assert "stopped by SIGTERM after 2 steps" in caplog.text and "resumed after 2 steps" in caplog.text
    monkeypatch.undo()
    whole = cache(job, tmp_path / "whole", "dense", epochs)
    for path in whole.iterdir():
        assert path.read_bytes() == (tmp_path / "cache" / path.name).read_bytes()


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    """A cache of labels of both epochs, beside the images that it is of."""
    root = tmp_path_factory.mktemp("labels")
    return cache(training_job(root / "data", "hard"), root / "cache", "labels")


def refused(folders, recipe, teacher=WEIGHTS) -> str:
    with pytest.raises(SystemExit) as error:
        cached_teacher(folders, recipe, teacher)
    message = str(error.value)
    assert str(folders[0]) in message and "Cache this teacher again" in message
    return message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stream_seed": 6}, "stream_seed is 5 there, 6 here"),
        ({"views": {"erasing": 0.5}}, "views.erasing is 0.25 there, 0.5 here"),
        ({"views": {"mix_group": 16}}, "views.mix_group is 8 there, 16 here"),
        ({"data": {"mean": [0.4]}}, "data.mean is [0.5] there, [0.4] here"),
    ],
)
def test_another_stream_is_refused_and_named(labels, tmp_path, changes, words):
    assert words in refused([labels], training_job(tmp_path, "hard", **changes).resolved())


def test_the_seed_of_the_student_is_not_the_streams(labels, tmp_path):
    cached_teacher([labels], training_job(tmp_path, "hard", seed=9).resolved(), WEIGHTS)


def test_another_teacher_is_refused(labels, tmp_path):
    assert "teacher's weights" in refused([labels], training_job(tmp_path, "hard").resolved(), "b" * 64)


def test_caches_of_two_teachers_of_one_recipe_are_refused(labels, tmp_path):
    job = training_job(tmp_path / "data", "hard")
    trained_again = cache(job, tmp_path / "second", "labels", epochs=(1, 1), teacher="b" * 64)
    words = refused([labels, trained_again], job.resolved(), "")
    assert str(labels) in words and str(trained_again) in words
    assert "two teachers" in words and "aaaaaaaaaa and bbbbbbbbbb" in words and "Delete" in words


def test_other_versions_of_the_transforms_are_refused(labels, tmp_path, monkeypatch):
    ours = {**teacher_logits.transform_versions(), "timm": "0.0"}
    for module in (teacher_logits, views):
        monkeypatch.setattr(module, "transform_versions", lambda: ours)
    assert "transforms.timm is" in refused([labels], training_job(tmp_path, "hard").resolved())


def test_missing_epochs_are_refused(labels, tmp_path):
    job = training_job(tmp_path, "hard", optimisation={"epochs": 4})
    assert "[2, 3]" in refused([labels], job.resolved())


def test_labels_do_not_serve_a_soft_student(labels, tmp_path):
    message = refused([labels], training_job(tmp_path, "soft").resolved())
    assert "keep: dense" in message and "this run hears" not in message


def test_another_precision_of_the_teacher_is_refused(labels, tmp_path):
    message = refused([labels], training_job(tmp_path, "hard", teacher_precision="bf16").resolved())
    assert "computed in fp32, and this run hears it in bf16" in message


def test_an_unfinished_cache_is_refused(tmp_path):
    assert "manifest.json" in refused([tmp_path], training_job(tmp_path, "hard").resolved())


@pytest.fixture
def copied(labels, tmp_path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in labels.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_shard_cut_short_is_refused(copied, tmp_path):
    shard = copied / "epoch-0001.npy"
    shard.write_bytes(shard.read_bytes()[:-2])
    assert "epoch-0001.npy: missing or damaged" in refused([copied], training_job(tmp_path, "hard").resolved())


def test_a_missing_shard_is_refused(copied, tmp_path):
    (copied / "epoch-0000.npy").unlink()
    assert "epoch-0000.npy: missing or damaged" in refused([copied], training_job(tmp_path, "hard").resolved())


def test_another_number_of_views_is_refused(copied, tmp_path):
    np.save(copied / "epoch-0001.npy", np.load(copied / "epoch-0001.npy").reshape(-1)[:-8])
    message = refused([copied], training_job(tmp_path, "hard").resolved())
    assert f"holds {STEPS * BATCH - 8} views, but an epoch of this run has {STEPS * BATCH}" in message


def test_a_changed_byte_is_refused_when_its_epoch_begins(copied, tmp_path):
    shard = copied / "epoch-0001.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    teacher = cached_teacher([copied], training_job(tmp_path, "hard").resolved(), WEIGHTS)
    positions = torch.arange(8)
    teacher.says(0, positions, torch.empty(0))
    with pytest.raises(SystemExit, match=r"epoch-0001\.npy: damaged"):
        teacher.says(1, positions, torch.empty(0))


def test_a_foreign_digest_of_the_same_parameters_is_refused(copied, tmp_path):
    manifest = json.loads((copied / "manifest.json").read_text(encoding="utf-8"))
    (copied / "manifest.json").write_text(json.dumps({**manifest, "stream": "0" * 10}), encoding="utf-8")
    assert "the code that makes the views" in refused([copied], training_job(tmp_path, "hard").resolved())


def test_a_run_folder_is_a_teacher(tmp_path):
    job = training_job(tmp_path / "data", model=REGNETY)
    weights = run(job, tmp_path / "run")
    net = teacher_logits.load_teacher(
        read_result(tmp_path / "run"), job.resolved().model, job.resolved().data, torch.device("cpu"), "fp32"
    )
    assert same(net.state_dict(), weights) and not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())

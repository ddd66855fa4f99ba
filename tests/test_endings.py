"""However a job ends, all of its processes do, within seconds of the fault, with one message and a status.

Jobs are forked from the test's own process, which has imported all; each in a session of its own, by which its
processes are found, orphans too. One command of each kind of launch is a real one.
"""

import errno
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from jobs import launch
from PIL import Image
from test_passes import caching_job, together
from test_stored_views import stored
from test_validation import validation
from tiny_runs import CPU, IMAGES, REGNETY, STEPS, images_of, run, stream_of, teacher_net, training_job
from training_runs import ENVIRONMENT, command, with_data

from deit import commands
from deit.networks import evaluation
from deit.networks.distributed import Place, joined_ranks
from deit.see import loading
from deit.see.views import EvaluationViews
from deit.store.job import Execution, Job
from deit.teach.recording import write_epochs

pytestmark = pytest.mark.long

SECONDS = 10
"""From a fault to the end of the last process."""
LONG = {"epochs": 10_000}
DAMAGED = "/data/train/a/photo.png is damaged: image file is truncated"


# Jobs -----------------------------------------------------------------------------------------------------------------


def train(job: Job, folder: Path, place: Place = CPU) -> None:
    run(job, folder / "run", place=place)


def train_pass(job: Job, folder: Path, place: Place = CPU) -> None:
    together([job, job.model_copy(update={"name": "other"})], folder, [caching_job(job, "dense", (0, 9))], place)


def cache(job: Job, folder: Path) -> None:
    caching = caching_job(job, "dense", (0, 9_999)).resolved()
    (folder / "cache").mkdir()
    write_epochs(folder / "cache", caching, teacher_net(REGNETY), "a" * 64, stream_of(job), job.execution)


def views(job: Job, folder: Path) -> None:
    stored(job, folder / "views", job.execution)


def predict(job: Job, folder: Path) -> None:
    net, shown = teacher_net(REGNETY), EvaluationViews(stream_of(job).images, lambda image: torch.zeros(1, 14, 14))
    evaluation.BATCH = 2
    device = torch.device("cpu")
    with evaluation.batches(shown, device, job.execution.workers) as batches:
        for batch in batches:
            evaluation.decisions(net, batch)


def watched(job: Job, folder: Path) -> None:
    """A training whose fault comes while it looks at other images, with workers of both kinds alive."""
    execution = {"workers": job.execution.workers, **validation(folder / "data")}
    run(training_job(folder / "data", execution=execution, optimisation=LONG), folder / "run")


KINDS: dict[str, Callable[..., None]] = {
    "train": train, "watched": watched, "pass": train_pass, "cache": cache, "views": views, "predict": predict
}  # fmt: skip
FAULTY_BATCH = dict.fromkeys(KINDS, 3) | {"watched": STEPS + 1}
"""Of the main process, counted from 1."""


# Endings --------------------------------------------------------------------------------------------------------------


class Ending(NamedTuple):
    """A fault in the main process at a batch of its, and what is to come of it."""

    fault: Callable[[], None]
    status: int
    said: str
    """A part of the message; empty where nothing can be said."""
    lines: int = 1
    """Of the message."""


def mistake() -> None:
    raise ValueError("a mistake in the program")


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/results/run")


def told_by_the_scheduler() -> None:
    os.killpg(os.getpgid(0), signal.SIGTERM)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_torchrun() -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def killed_worker() -> None:
    """The one that was started first, which still has to make something."""
    os.kill(min(child.pid for child in multiprocessing.active_children()), signal.SIGKILL)


TERM = 128 + signal.SIGTERM
ENDINGS = {
    "a mistake": Ending(mistake, 1, "ValueError: a mistake in the program", lines=0),
    "out of memory": Ending(out_of_memory, 1, "Tried to allocate", lines=2),
    "disk full": Ending(full_disk, 1, "/results/run: No space left on device. What was saved before is intact"),
    "SIGTERM to all": Ending(told_by_the_scheduler, TERM, "saved, the same command goes on"),
    "main killed": Ending(killed, -signal.SIGKILL, "", lines=0),
    "worker killed": Ending(killed_worker, 1, "a worker process was ended (SIGKILL)"),
    "image damaged": Ending(lambda: None, 1, DAMAGED),
    "mistake in views": Ending(lambda: None, 1, "IndexError: list index out of range", lines=0),
}
ENDINGS_OF_RANKS = {
    **{name: ENDINGS[name] for name in ("a mistake", "SIGTERM to all", "worker killed", "image damaged")},
    "rank killed": Ending(killed, 128 + signal.SIGKILL, "", lines=0),
    "torchrun killed": Ending(killed_torchrun, -signal.SIGKILL, "", lines=0),
}
IN_WORKERS = {"image damaged": OSError(DAMAGED), "mistake in views": IndexError("list index out of range")}


class FaultyImages:
    """Images one of which cannot be made."""

    def __init__(self, images, fault: Exception):
        self.images, self.fault = images, fault

    def __getattr__(self, name: str):
        return getattr(self.images, name)

    def __len__(self) -> int:
        return IMAGES

    def image(self, index: int):
        if index == IMAGES // 2:
            Path(os.environ["DEIT_TEST_FAULT"]).write_text(str(time.monotonic()), encoding="utf-8")
            raise self.fault
        return self.images.image(index)


def faulty(patch: pytest.MonkeyPatch, kind: str, ending: str, moment: Path) -> None:
    """Has the process that calls this end so; the time of the fault is written to `moment`."""
    patch.setenv("DEIT_TEST_FAULT", str(moment))
    if ending in IN_WORKERS:
        patch.setattr("tiny_runs.images_of", lambda job: FaultyImages(images_of(job), IN_WORKERS[ending]))
        patch.setattr(
            "deit.see.stored_views.training_images", lambda *words: FaultyImages(inner(*words), IN_WORKERS[ending])
        )
        from deit.see.datasets import training_images as inner
    raised, seen = loading.raised, []

    def at_a_batch(batch):
        seen.append(batch)
        if len(seen) == FAULTY_BATCH[kind] and ending not in IN_WORKERS and os.environ.get("RANK", "1") == "1":
            moment.write_text(str(time.monotonic()), encoding="utf-8")
            (ENDINGS | ENDINGS_OF_RANKS)[ending].fault()
        return raised(batch)

    patch.setattr(loading, "raised", at_a_batch)


# The matrix -----------------------------------------------------------------------------------------------------------


def session(leader: int) -> list[int]:
    """The processes that a session leader has started, those that wait to be reaped left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def forked(work: Callable[[], None], said: Path) -> int:
    """A process that runs `work` as a command does, in a session of its own; what it says goes to a file."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    sys.stdout = sys.stderr = said.open("a", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), 1)
    os.dup2(sys.stderr.fileno(), 2)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    commands.run(work)
    os._exit(0)


def waited_for(child: int, moment: Path) -> tuple[int, float]:
    """Status of a job, and the seconds from its fault to the end of its last process."""
    start, status = time.monotonic(), None
    while status is None or session(child):
        fault = float(moment.read_text(encoding="utf-8") or time.monotonic()) if moment.exists() else start + 300
        if time.monotonic() > fault + SECONDS:
            left = session(child)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            pytest.fail(f"processes {left} are left {SECONDS} seconds after the fault")
        if status is None and (ended := os.waitpid(child, os.WNOHANG))[0]:
            status = os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.01)
    return status, time.monotonic() - float(moment.read_text(encoding="utf-8"))


def cases() -> Iterator[tuple[str, str, int]]:
    """Each kind with workers; without, a training and what is made of its views, as the others go the same ways."""
    for kind in KINDS:
        for ending in ENDINGS:
            yield kind, ending, 2
            if kind in ("train", "views") and ending != "worker killed":
                yield kind, ending, 0


@pytest.mark.parametrize(("kind", "ending", "workers"), cases())
def test_every_ending_ends_all_processes_with_one_message(tmp_path, monkeypatch, kind, ending, workers):
    job = training_job(tmp_path / "data", execution={"workers": workers, "save_minutes": 99}, optimisation=LONG)
    said, moment, expected = tmp_path / "said", tmp_path / "moment", ENDINGS[ending]

    def work() -> None:
        faulty(monkeypatch, kind, ending, moment)
        KINDS[kind](job, tmp_path)

    status, seconds = waited_for(forked(work, said), moment)
    text = said.read_text(encoding="utf-8")
    print(f"{kind}, {workers} workers, {ending}: status {status} after {seconds:.2f} s")
    if kind == "predict" and ending == "SIGTERM to all":  # has nothing to save
        assert status == -signal.SIGTERM and not text
        return
    check(expected, status, text)


def check(expected: Ending, status: int, text: str) -> None:
    assert (status, expected.said in text) == (expected.status, True), text
    assert text.count("Traceback (most recent call last)") == (not expected.lines and bool(expected.said)), text
    assert len(text.splitlines()) == expected.lines or not expected.lines, text


# Two ranks ------------------------------------------------------------------------------------------------------------


def two_ranks(work: Callable[[Place], None]) -> None:
    """Does what torchrun does: starts two ranks, and tells the other one to end when one has failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [rank_of(number, port, work) for number in range(2)]
    signal.signal(signal.SIGTERM, lambda *_: None)  # a scheduler tells ranks, too, of the end
    statuses = []
    while ranks:
        pid, status = os.wait()
        statuses.append(os.waitstatus_to_exitcode(status))
        ranks.remove(pid)
        for other in ranks:
            os.kill(other, signal.SIGTERM)
    raise SystemExit(statuses[0] if statuses[0] >= 0 else 128 - statuses[0])


def rank_of(number: int, port: int, work: Callable[[Place], None]) -> int:
    if child := os.fork():
        return child
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # as torchrun.py says

    def joined() -> None:
        if number:
            logging.getLogger().setLevel(logging.ERROR)
        with joined_ranks(Execution()) as place:
            work(place)

    commands.run(joined)
    os._exit(0)


def cases_of_ranks() -> Iterator[tuple[str, str, int]]:
    for ending in ENDINGS_OF_RANKS:
        yield from [("train", ending, 2), ("pass", ending, 2)]
        if ending != "worker killed":
            yield "train", ending, 0


@pytest.mark.parametrize(("kind", "ending", "workers"), cases_of_ranks())
def test_every_ending_ends_both_ranks_with_one_message(tmp_path, monkeypatch, kind, ending, workers):
    job = training_job(tmp_path / "data", execution={"workers": workers, "save_minutes": 99}, optimisation=LONG)
    said, moment = tmp_path / "said", tmp_path / "moment"

    def work(place: Place) -> None:
        faulty(monkeypatch, kind, ending, moment)
        KINDS[kind](job, tmp_path, place)

    status, seconds = waited_for(forked(lambda: two_ranks(work), said), moment)
    print(f"two ranks, {kind}, {workers} workers, {ending}: status {status} after {seconds:.2f} s")
    check(ENDINGS_OF_RANKS[ending], status, said.read_text(encoding="utf-8"))


# Real commands --------------------------------------------------------------------------------------------------------


def ended(line: list[str], environment: dict[str, str]) -> tuple[int, str, float]:
    """Status of a command, what it says on stderr, and when its last process ended."""
    process = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True)
    _, text = process.communicate(timeout=300)
    while session(process.pid):
        time.sleep(0.01)
    return process.returncode, text, time.monotonic()


def test_a_truncated_image_found_by_a_worker_ends_the_command_with_its_path(tmp_path):
    root = tmp_path / "data"
    for number in range(IMAGES):
        path = root / f"train/{number % 4}/{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((14, 14), number).save(path)
    damaged = root / "train/2/050.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    photos = {"reader": "timm", "split": {"folder": "train", "images": IMAGES}}
    job = with_data(training_job(root, execution={"workers": 2}, data=photos, optimisation=LONG), tmp_path)
    status, text, _ = ended(command(job, tmp_path), ENVIRONMENT)
    assert status == 1 and "Traceback" not in text
    (line,) = (line for line in text.splitlines() if "damaged" in line)
    assert str(root / "train") in line and "2/050.png" in line


KILLED_RANK = """
import os, time
from deit import commands
from deit.learn import training
from deit.commands.train import main

def take_step(run, *arguments):
    if run.step == 3 and run.place.rank:
        open(os.environ["DEIT_TEST_FAULT"], "w").write(str(time.monotonic()))
        os.kill(os.getpid(), 9)
    if run.step == 3:
        time.sleep(1000)  # as one that waits for its GPU
    step(run, *arguments)

step, training.take_step = training.take_step, take_step
commands.run(main)
"""


def test_a_killed_rank_ends_the_one_that_waits_and_torchrun_says_so(tmp_path):
    job = with_data(training_job(tmp_path / "data", optimisation=LONG), tmp_path)
    (tmp_path / "killed_rank.py").write_text(KILLED_RANK, encoding="utf-8")
    environment = ENVIRONMENT | {"DEIT_TEST_FAULT": str(tmp_path / "moment")}
    environment["PYTHONPATH"] += f":{tmp_path}"
    flags = command(job, tmp_path)[3:]
    line = [*launch.torchrun(2), "--standalone", "-m", "killed_rank", *flags]
    status, text, end = ended(line, environment)
    assert status == 128 + signal.SIGKILL and "Traceback" not in text
    assert text.splitlines()[-1].startswith("rank 1 was ended (SIGKILL)")
    assert end - float((tmp_path / "moment").read_text(encoding="utf-8")) < SECONDS

"""The lock of a result: held once, by a living job."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import run_lock


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """Puts a `squeue` first in PATH that answers with one state of a job."""

    def answer(text: str, status: int = 0) -> None:
        script = tmp_path / "bin/squeue"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\necho '{text}' >&{2 if status else 1}\nexit {status}\n", encoding="utf-8")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    return answer


def lock(folder: Path, **changes) -> Path:
    """A lock of this process, changed."""
    path = folder / "a"
    Path(f"{path}.1.json").write_text(json.dumps(run_lock.myself() | changes), encoding="utf-8")
    return path


def interleavings(*rows: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every order of all items in which each row keeps its own."""
    if not any(rows):
        yield ()
    for chosen, row in enumerate(rows):
        if row:
            rest = (other[1:] if number == chosen else other for number, other in enumerate(rows))
            yield from ((row[0], *order) for order in interleavings(*rest))


class Stepper:
    """Threads that take turns, each up to its next look at, or change of, the disk, in a given order."""

    def __init__(self, takers: int, monkeypatch):
        self.turn, self.ended = [threading.Semaphore(0) for _ in range(takers)], threading.Semaphore(0)
        self.me = threading.local()
        self.took: set[int] = set()
        for name in ("text_of", "link"):
            place = run_lock if name == "text_of" else os
            monkeypatch.setattr(place, name, self.stepwise(getattr(place, name)))
        # A taker is alive and told from the others by its number; the lock that they find is nobody's.
        monkeypatch.setattr(run_lock, "myself", lambda: {"taker": self.me.number})
        monkeypatch.setattr(run_lock, "is_alive", lambda text: bool(text) and "taker" in text)
        monkeypatch.setattr(os, "getpid", lambda: self.me.number)
        monkeypatch.setattr(os, "fsync", lambda _: None)

    def stepwise(self, function):
        def step(*arguments):
            self.ended.release()
            self.turn[self.me.number].acquire()
            return function(*arguments)

        return step

    def run(self, lock: Path, order: tuple[int, ...]) -> set[int]:
        """The numbers of those who hold the lock when each in `order` has made a step, and then the rest."""

        def taker(number: int) -> None:
            self.me.number = number
            self.turn[number].acquire()
            if run_lock.take(lock):
                self.took.add(number)
            self.done.add(number)
            self.ended.release()

        self.took, self.done = set(), set()
        threads = [threading.Thread(target=taker, args=(number,)) for number in range(len(self.turn))]
        for thread in threads:
            thread.start()
        everyone = range(len(threads))
        for number in [*everyone, *order, *everyone]:  # to the first look; as ordered; to the end
            if number not in self.done:
                self.turn[number].release()
                self.ended.acquire()
        for thread in threads:
            thread.join()
        return self.took


@pytest.mark.parametrize("stale", [True, False], ids=["over a stale lock", "over none"])
def test_of_three_that_take_one_lock_in_any_order_one_holds_it(tmp_path, monkeypatch, stale):
    stepper = Stepper(3, monkeypatch)
    steps = 3 if stale else 2  # looks at the numbers up to the first free one, and the claim
    orders = interleavings((0,) * steps, (1,) * steps, (2,) * steps)
    for number, order in enumerate(orders):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "a"
        if stale:
            Path(f"{path}.1.json").write_text("{}", encoding="utf-8")
        assert len(stepper.run(path, order)) == 1, order
    assert number + 1 == {3: 1680, 2: 90}[steps]


def test_a_lock_is_taken_once(tmp_path):
    path = tmp_path / "locks/a"
    assert run_lock.take(path) and not run_lock.take(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.1.json"]


@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1, "start": "1"}, {"start": "1"}], ids=["gone", "number reused"])
def test_a_lock_of_a_process_that_is_gone_counts_for_nothing(tmp_path, changes):
    path = lock(tmp_path, **changes)
    assert run_lock.take(path) and json.loads(run_lock.last(path)[1]) == run_lock.myself()


@pytest.mark.parametrize(
    ("said", "status", "alive"),
    [
        ("RUNNING", 0, True),
        ("COMPLETING", 0, True),
        ("PENDING", 0, False),
        ("TIMEOUT", 0, False),
        ("NODE_FAIL", 0, False),
        ("", 0, False),
        ("slurm_load_jobs error: Invalid job id specified", 1, False),
        ("slurm_load_jobs error: Unable to contact slurm controller", 1, True),
    ],
)
def test_slurm_is_asked_about_a_job_on_another_host(tmp_path, fake_slurm, said, status, alive):
    fake_slurm(said, status)
    path = lock(tmp_path, host="elsewhere", job="7")
    assert run_lock.take(path) is not alive


def test_a_requeued_job_takes_its_own_lock_again(tmp_path, fake_slurm, monkeypatch):
    fake_slurm("RUNNING")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert run_lock.take(lock(tmp_path, host="elsewhere", job="7"))


def test_without_slurm_nobody_can_tell_of_another_host(tmp_path):
    assert not run_lock.take(lock(tmp_path, host="elsewhere", job=""))

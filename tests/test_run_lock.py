"""The lock of a result: held once, by a living job."""

import errno
import json
import os
import threading
import time
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

    def __init__(self, takers: int, monkeypatch, claim: str = "link"):
        self.turn, self.ended = [threading.Semaphore(0) for _ in range(takers)], threading.Semaphore(0)
        self.me = threading.local()
        self.took: set[int] = set()
        for name in ("text_of", claim):
            place = run_lock if name == "text_of" else os
            monkeypatch.setattr(place, name, self.stepwise(getattr(place, name)))
        # A taker is alive and told from the others by its number; the lock that they find is nobody's.
        monkeypatch.setattr(run_lock, "myself", lambda: {"taker": self.me.number})
        monkeypatch.setattr(run_lock, "is_alive", lambda text: bool(text) and "taker" in text)
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


def without_hard_links(monkeypatch, says: int = errno.EPERM) -> None:
    def link(source, target):
        raise OSError(says, os.strerror(says))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("claim", ["link", "rename"])
@pytest.mark.parametrize("stale", [True, False], ids=["over a stale lock", "over none"])
def test_of_three_that_take_one_lock_in_any_order_one_holds_it(tmp_path, monkeypatch, stale, claim):
    if claim == "rename":
        without_hard_links(monkeypatch)
    stepper = Stepper(3, monkeypatch, claim)
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


@pytest.mark.parametrize("says", sorted(run_lock.NO_LINKS))
def test_without_hard_links_a_lock_is_taken_once_and_names_its_holder(tmp_path, monkeypatch, says):
    without_hard_links(monkeypatch, says)
    path = tmp_path / "locks/a"
    assert run_lock.take(path) and not run_lock.take(path)
    assert json.loads(run_lock.last(path)[1]) == run_lock.myself()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.1.json"]
    monkeypatch.undo()
    assert not run_lock.claim(run_lock.numbered(path, 1), "a link"), "where both ways meet, too"
    without_hard_links(monkeypatch, says)
    run_lock.numbered(path, 2).touch()
    assert not run_lock.claim(run_lock.numbered(path, 2), "a folder")


def test_an_error_that_is_not_about_links_is_told(tmp_path, monkeypatch):
    without_hard_links(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        run_lock.take(tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "says"), [("link", errno.EEXIST), ("rename", errno.ENOENT)])
def test_a_claim_whose_answer_a_file_server_lost_is_a_claim(tmp_path, monkeypatch, name, says):
    """Asked again, it says what it finds: the link that it has made, or no folder to rename."""
    if name == "rename":
        without_hard_links(monkeypatch)
    inner = getattr(os, name)

    def lost(source, target):
        inner(source, target)
        raise OSError(says, os.strerror(says))

    monkeypatch.setattr(os, name, lost)
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
    path = lock(tmp_path, boot="elsewhere", job="7")
    assert run_lock.take(path) is not alive


def test_what_is_hidden_of_another_user_is_not_taken_for_dead(tmp_path, fake_slurm, monkeypatch):
    """/proc may hide others' processes (hidepid), and Slurm others' jobs (PrivateData); the heartbeat decides then."""
    gone, me, other = {"pid": 2**22 + 1, "start": "1"}, os.getuid(), os.getuid() + 1
    for user, hidden, taken in ((other, True, False), (other, False, True), (me, True, True)):
        with monkeypatch.context() as patches:
            patches.setattr(run_lock, "start_of", lambda pid, hidden=hidden: "5" if pid == 1 and not hidden else "")
            (tmp_path / f"{user}{hidden}").mkdir()
            assert run_lock.take(lock(tmp_path / f"{user}{hidden}", user=user, **gone)) is taken
    fake_slurm("slurm_load_jobs error: Invalid job id specified", 1)
    for user, taken in ((other, False), (me, True)):
        (tmp_path / f"{user}").mkdir()
        assert run_lock.take(lock(tmp_path / f"{user}", boot="elsewhere", job="7", user=user)) is taken


def test_a_requeued_job_takes_its_own_lock_again(tmp_path, fake_slurm, monkeypatch):
    fake_slurm("RUNNING")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert run_lock.take(lock(tmp_path, boot="elsewhere", job="7"))


# Machines, containers and old locks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"boot": "another"}, {"namespace": "pid:[1]"}], ids=str)
def test_of_another_machine_or_container_nobody_can_tell(tmp_path, changes):
    """Also where its host has the same name, and a process here the same number."""
    assert not run_lock.take(lock(tmp_path, **changes, job=""))


def old_lock(folder: Path, host: str, start: str) -> Path:
    """One of the version that told machines by their host names."""
    path = folder / "a"
    record = {"host": host, "pid": os.getpid(), "start": start, "job": ""}
    Path(f"{path}.1.json").write_text(json.dumps(record), encoding="utf-8")
    return path


def test_a_lock_of_an_earlier_version_is_understood(tmp_path):
    here, start = run_lock.myself()["host"], run_lock.myself()["start"]
    assert not run_lock.take(old_lock(tmp_path, here, start))
    assert not run_lock.take(old_lock(tmp_path, "elsewhere", "1"))
    assert run_lock.take(old_lock(tmp_path, here, "1"))


def test_a_silent_lock_ends_the_wait_with_the_command_that_frees_it(tmp_path):
    path = lock(tmp_path, boot="elsewhere", job="")
    assert not run_lock.told_gone(path), "its machine gave a sign of life just now"
    long_ago = time.time() - 3 * run_lock.SILENCE
    os.utime(run_lock.numbered(path, 1), (long_ago, long_ago))
    with pytest.raises(SystemExit, match=r"no sign of life for 30 minutes.*free the lock: touch ") as error:
        run_lock.wait_for(path, lambda: False)
    os.system(str(error.value).partition("free the lock: ")[2].partition(";")[0])
    assert run_lock.take(path) and run_lock.last(path)[0] == 3


def test_a_lock_whose_process_lives_is_never_told_gone(tmp_path):
    path = lock(tmp_path)
    os.utime(run_lock.numbered(path, 1), (0, 0))
    assert not run_lock.told_gone(path) and not run_lock.take(path)


def test_silence_is_measured_by_the_clock_of_the_files_alone(tmp_path, monkeypatch):
    path = lock(tmp_path, boot="elsewhere", job="")
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert run_lock.silent_for(run_lock.numbered(path, 1)) < 60

"""The lock of a result: of all jobs that would write it, on any machine, one does.

A lock is a row of numbered files, `<digest>.1.json`, `<digest>.2.json` and so on; the last one counts. Each names a
process, and whoever finds that process gone may claim the next number, by a step that fails where the number is taken:
os.link, or where there are no hard links os.rename of a folder. No number is ever taken away, so two can not hold the
lock, whatever the order of their steps: a claim of number n + 1 that succeeds says that nobody has claimed it, nor any
higher one, since n was seen to be stale.

A process is known by the boot and the PID namespace in which it has its number, and by its start: containers share host
names and numbers, and a machine that was started again reuses them. Of another machine's, Slurm is asked. Where nobody
can tell, the heartbeat (heartbeat.py) does: after SILENCE without one the lock is reported, and a person frees it, by
an empty file under the next number. `python workflow keep --prune` removes the locks of results that no plan names.
"""

import errno
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

WAIT_SECONDS = 5
SILENCE = 600
"""Seconds without a heartbeat after which the machine of a lock's holder may be gone."""
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What os.link says on file systems that have no hard links."""
TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}
RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}


def wait_for(lock: Path, is_finished: Callable[[], bool]) -> bool:
    """Takes the lock of a result, waiting while another job makes it; False where one has finished it.

    Raises SystemExit where the holder can not be asked and has given no sign of life for long.
    """
    is_announced = False
    while True:
        is_ours = take(lock)
        if is_finished():  # asked after the lock, as its holder finishes before letting go
            return False
        if is_ours:
            return True
        if words := told_gone(lock):
            raise SystemExit(f"{words}; then give the snakemake command again.")
        if not is_announced:
            print(f"{numbered(lock, last(lock)[0])}: {holder(lock)} makes this result; waiting for it.", flush=True)
            is_announced = True
        time.sleep(WAIT_SECONDS)


def take(lock: Path) -> bool:
    """Claims the lock, where nobody holds it or its holder is gone."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    number, text = last(lock)
    return is_alive(text) is False and claim(numbered(lock, number + 1), json.dumps(myself()))


# Claiming a number ----------------------------------------------------------------------------------------------------


def claim(path: Path, text: str) -> bool:
    """Gives a file with this text, which is on the disk already, the name `path`; False where that is taken."""
    mine = path.with_name(f"{path.name.partition('.')[0]}.{secrets.token_hex(8)}")
    try:
        try:
            write(mine, text)
            os.link(mine, path)  # atomic, also on network file systems
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            mine.unlink()
            mine.mkdir()
            write(mine / "holder.json", text)
            os.rename(mine, path)  # atomic, and refused where a file stands there, or a folder with something in it
    except OSError as error:
        if text_of(path) == text:  # a file server did it, but its answer was lost and it was asked again: see open(2)
            return True
        if error.errno not in TAKEN:
            raise
        return False
    finally:
        shutil.rmtree(mine) if mine.is_dir() else mine.unlink(missing_ok=True)
    return True


def write(path: Path, text: str) -> None:
    """Writes a file and its name to the disk: a number that is taken names its holder, also after a power failure."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def numbered(lock: Path, number: int) -> Path:
    return lock.with_name(f"{lock.name}.{number}.json")


def last(lock: Path) -> tuple[int, str]:
    """The highest number that was claimed and what its claimer wrote; 0 and nothing where there is none."""
    number, text = 0, ""
    while (content := text_of(numbered(lock, number + 1))) is not None:
        number, text = number + 1, content
    return number, text


def text_of(path: Path) -> str | None:
    """What the claimer of a number wrote; None where it is free."""
    try:
        return path.read_text(encoding="utf-8")
    except IsADirectoryError:
        return (path / "holder.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


# The holder -----------------------------------------------------------------------------------------------------------


def myself() -> dict[str, object]:
    return {
        "host": socket.gethostname(),  # for people
        "user": os.getuid(),
        "boot": boot(),
        "namespace": namespace(),
        "pid": os.getpid(),
        "start": start_of(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }


def boot() -> str:
    """The name of this start of this machine; containers share it."""
    return (text_of(Path("/proc/sys/kernel/random/boot_id")) or "").strip()


def namespace() -> str:
    """Of the numbers of processes: of one container, or of the machine."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def record_of(text: str) -> dict:
    """What a claimer wrote, as this version knows it; an earlier one named the host alone, which stands for all."""
    record = json.loads(text)
    if "boot" not in record and record.get("host") == socket.gethostname():
        return record | {"boot": boot(), "namespace": namespace()}
    return record


def holder(lock: Path) -> str:
    record = json.loads(last(lock)[1] or "{}")
    return f"job {record.get('job') or '-'}, process {record.get('pid')} on {record.get('host')}"


def is_held(lock: Path) -> bool:
    """Whether there is a lock, and its holder lives, or may live."""
    return is_alive(last(lock)[1]) is not False


def is_alive(text: str) -> bool | None:
    """Whether the process that wrote this lock still runs: asked here, or of Slurm where it runs elsewhere.

    None where nobody can tell. This job itself may be named: it was requeued, and its earlier process is gone.
    """
    if not text:
        return False
    record = record_of(text)
    of_another = record.get("user", os.getuid()) != os.getuid()
    if (record.get("boot"), record.get("namespace")) == (boot(), namespace()):
        if of_another and not start_of(1):  # hidepid: others' processes are not seen
            return None
        return bool(record["start"]) and start_of(record["pid"]) == record["start"]
    if not record["job"]:
        return None
    if record["job"] == os.environ.get("SLURM_JOB_ID"):
        return False
    state = state_of(str(record["job"]))
    if not state and of_another:  # PrivateData: nor are their jobs
        return None
    return None if state is None else state in RUNNING


def told_gone(lock: Path) -> str:
    """What to say of a lock whose holder nobody can ask and that has been silent for long; empty of another."""
    number, text = last(lock)
    if is_alive(text) is not None or (seconds := silent_for(numbered(lock, number))) < SILENCE:
        return ""
    return (
        f"{numbered(lock, number)}: {holder(lock)} makes this result, but has given no sign of life for "
        f"{seconds / 60:.0f} minutes. If that machine is gone, free the lock: touch {numbered(lock, number + 1)}"
    )


def silent_for(path: Path) -> float:
    """Seconds since the last heartbeat of a lock, by the file server's clock alone."""
    now = path.with_name(f"{path.name.partition('.')[0]}.{secrets.token_hex(8)}")
    now.touch()
    try:
        return now.stat().st_mtime - path.stat().st_mtime
    finally:
        now.unlink()


def start_of(pid: int) -> str:
    """When a process of this host started, in ticks since boot; empty where it is gone (or waits to be reaped)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def state_of(job: str) -> str | None:
    """Slurm's state of a job: empty where Slurm has forgotten it, None where Slurm does not answer."""
    command = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]
    try:
        answer = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode and "Invalid job id" not in answer.stderr:
        return None
    return answer.stdout.strip()

"""The lock of a result: of all jobs that would write it, on any machine, one does.

A lock is a row of numbered files, `<digest>.1.json`, `<digest>.2.json` and so on; the last one counts. Each names a
process, and whoever finds that process gone may claim the next number, by os.link, which fails where the number is
taken. No number is ever taken away, so two can not hold the lock, whatever the order of their steps: a link to number
n + 1 that succeeds says that nobody has claimed it, nor any higher one, since n was seen to be stale.
A failure needs no cleaning up; `python workflow keep --prune` removes the locks of results that no plan names any more.
"""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

WAIT_SECONDS = 5
RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}


def wait_for(lock: Path, finished: Path) -> bool:
    """Takes the lock of a result, waiting while another job makes it; False where one has finished it."""
    is_announced = False
    while True:
        is_ours = take(lock)
        if finished.exists():  # asked after the lock, as its holder finishes before letting go
            return False
        if is_ours:
            return True
        if not is_announced:
            print(f"{numbered(lock, last(lock)[0])}: {holder(lock)} makes this result; waiting for it.", flush=True)
            is_announced = True
        time.sleep(WAIT_SECONDS)


def take(lock: Path) -> bool:
    """Claims the lock, where nobody holds it or its holder is gone."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    number, text = last(lock)
    if is_alive(text):
        return False
    mine = lock.with_name(f"{lock.name}.{socket.gethostname()}.{os.getpid()}")
    with mine.open("w", encoding="utf-8") as file:
        file.write(json.dumps(myself()))
        file.flush()
        os.fsync(file.fileno())  # a number that is taken names its holder, also after a power failure
    try:
        os.link(mine, numbered(lock, number + 1))  # atomic, also on network file systems
        return True
    except FileExistsError:
        return False
    finally:
        mine.unlink()


def numbered(lock: Path, number: int) -> Path:
    return lock.with_name(f"{lock.name}.{number}.json")


def last(lock: Path) -> tuple[int, str]:
    """The highest number that was claimed and what its claimer wrote; 0 and nothing where there is none."""
    number, text = 0, ""
    while (content := text_of(numbered(lock, number + 1))) is not None:
        number, text = number + 1, content
    return number, text


def text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def myself() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start": start_of(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }


def holder(lock: Path) -> str:
    record = json.loads(last(lock)[1] or "{}")
    return f"job {record.get('job') or '-'}, process {record.get('pid')} on {record.get('host')}"


def is_held(lock: Path) -> bool:
    """Whether there is a lock, and its holder lives."""
    return is_alive(last(lock)[1])


def is_alive(text: str) -> bool:
    """Whether the process that wrote this lock still runs: asked here, or of Slurm where it runs on another host.

    This job itself may be named: it was requeued, and its earlier process is gone. Where nobody can tell, the holder
    counts as alive, and the message names the file.
    """
    if not text:
        return False
    record = json.loads(text)
    if record["host"] == socket.gethostname():
        return bool(record["start"]) and start_of(record["pid"]) == record["start"]
    if not record["job"]:
        return True
    return record["job"] != os.environ.get("SLURM_JOB_ID") and state_of(str(record["job"])) in RUNNING


def start_of(pid: int) -> str:
    """When a process of this host started, in ticks since boot; empty where it is gone (or waits to be reaped)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def state_of(job: str) -> str:
    """Slurm's state of a job: empty where Slurm has forgotten it, RUNNING where Slurm does not answer."""
    command = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]
    try:
        answer = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "RUNNING"
    if answer.returncode and "Invalid job id" not in answer.stderr:
        return "RUNNING"
    return answer.stdout.strip()

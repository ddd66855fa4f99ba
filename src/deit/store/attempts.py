"""The attempts that a result takes: what each ran on and for how long, noted beside the state that it left behind."""

import os
import time
from contextlib import suppress
from pathlib import Path

from deit.store.seals import read_sealed, replace_sealed

ATTEMPTS = "attempts.json"
ADOPTED = "adopted.json"
"""Beside a state: which changes of code it was declared to outlive."""
NO_STATE = (ATTEMPTS, ADOPTED, "recipe.json")
"""How the names of files begin that lie beside a state and are none."""


def begin(folder: Path, made_with: dict[str, object], jobs: int) -> dict:
    """Notes that an attempt, whose time so many `jobs` share, goes on from the state in a folder; returns the note.

    Raises SystemExit where the notes of those before it are damaged: the result would tell another story than its own.
    """
    clock = {"clock": time.monotonic(), "process": os.getpid()}
    attempt = {"began": time.time(), "seconds": 0.0, "jobs": jobs, **clock, **made_with}
    earlier = [each for each in attempts(folder) if each["seconds"]] if holds_state(folder) else []
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, [*earlier, attempt])
    return attempt


def saved(folder: Path) -> None:
    """Notes how long this process's attempt has taken, as it saves its state; nothing where it has begun none there."""
    with suppress(OSError):  # a disk that has become full: what was noted before stays
        *earlier, last = attempts(folder) or [{"process": None}]
        if last["process"] == os.getpid():
            write(folder, [*earlier, last | {"seconds": share(last)}])


def holds_state(folder: Path) -> bool:
    """Whether an attempt left something to go on from, and nobody has deleted it since."""
    return folder.is_dir() and any(not path.name.startswith(NO_STATE) for path in folder.iterdir())


def ended(folder: Path, attempt: dict) -> dict:
    """What the record of a result tells of its attempts: of this one, all of it; `earlier` has those before.

    `seconds` are those of all of them, `began` is when the first one did.
    """
    every = [*attempts(folder)[:-1], attempt | {"seconds": share(attempt)}]
    *earlier, last = map(told, every)
    seconds = round(sum(each["seconds"] for each in every), 2)
    record = last | {"began": at(every[0]["began"]), "seconds": seconds}
    return record | ({"earlier": earlier} if earlier else {})


def told(attempt: dict) -> dict:
    """An attempt as a result tells it."""
    lasting = {key: value for key, value in attempt.items() if key not in ("clock", "jobs", "process")}
    return lasting | {"began": at(attempt["began"])}


def share(attempt: dict) -> float:
    """Seconds of an attempt of this process until now; a laptop's lid that was closed meanwhile counts for none."""
    return max(round((time.monotonic() - attempt["clock"]) / attempt["jobs"], 2), 0.01)


def attempts(folder: Path) -> list[dict]:
    """As they were noted, the first one first."""
    return read_sealed(folder / ATTEMPTS, "attempts", "not tell of what it ran on before")


def write(folder: Path, noted: list[dict]) -> None:
    replace_sealed(folder / ATTEMPTS, {"attempts": noted})


def at(seconds: float) -> str:
    """A time since 1970, as results tell it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def now() -> str:
    return at(time.time())

"""Arrays that are made step by step, a file an epoch, in a folder that outlives an interruption.

A job that was stopped, killed or out of time leaves its folder. The next one of the same recipe checks what is there
against the digests that were saved with it, and goes on with the step after.
"""

import hashlib
import io
import json
import logging
import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from deit.store import attempts
from deit.store.seals import replace_sealed, unsealed

log = logging.getLogger(__name__)

PROGRESS = "progress.json"
Form = tuple[np.dtype, tuple[int, ...] | None]
"""Type and shape of what a step adds to an array; None for a row of any length, whose file is the bare numbers."""
Step = dict[str, np.ndarray]
"""What a step adds to each array, by its name."""


def shard_name(array: str, epoch: int, ragged: bool = False) -> str:
    return f"{array}-{epoch:04d}.{'bin' if ragged else 'npy'}"


class Shard:
    """The file of an epoch of an array: it grows step by step, and knows the sha256 of what it holds so far."""

    def __init__(self, folder: Path, array: str, epoch: int, form: Form, steps: int):
        dtype, shape = form
        self.step_bytes = None if shape is None else dtype.itemsize * math.prod(shape)
        """What each step adds; None where that differs."""
        self.path = folder / shard_name(array, epoch, ragged=shape is None)
        self.header = b"" if shape is None else header_of(dtype, (steps, *shape))
        self.file: BinaryIO | None = None
        self.sha256, self.bytes = hashlib.sha256(), 0

    def begin(self) -> None:
        self.file = self.path.open("wb")
        self._write(self.header)

    def go_on(self, saved: dict, steps: int) -> bool:
        """Whether the file still holds what was saved after so many steps; if so, it is ready for the next one."""
        if self.step_bytes is not None and saved["bytes"] != len(self.header) + steps * self.step_bytes:
            return False
        if not self.path.is_file() or self.path.stat().st_size < saved["bytes"]:
            return False
        self.file = self.path.open("r+b")
        while (left := saved["bytes"] - self.file.tell()) > 0:
            self.sha256.update(self.file.read(min(left, 1 << 24)))
        self.file.truncate()
        self.bytes = saved["bytes"]
        return self.sha256.hexdigest() == saved["sha256"]

    def add(self, step: np.ndarray) -> None:
        self._write(np.ascontiguousarray(step).tobytes())

    def _write(self, content: bytes) -> None:
        self.file.write(content)
        self.sha256.update(content)
        self.bytes += len(content)

    def save(self) -> dict:
        """Waits until the file is on the disk; how much it holds, and of which sha256."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return {"bytes": self.bytes, "sha256": self.sha256.hexdigest()}

    def close(self) -> None:
        if self.file:
            self.file.close()


def header_of(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What an .npy file begins with."""
    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


class ShardFolder:
    """The shards of some epochs, of one or several arrays that grow together."""

    def __init__(self, folder: Path, manifest: dict, arrays: dict[str, Form], steps_per_epoch: int, epochs: range):
        """
        manifest: what the arrays are made from, as JSON keeps it; what was made from anything else is made again.
        arrays: name -> what a step adds.
        """
        self.folder, self.manifest = folder, json.loads(json.dumps(manifest))
        self.arrays = {name: (np.dtype(dtype), shape) for name, (dtype, shape) in arrays.items()}
        self.steps_per_epoch, self.epochs = steps_per_epoch, epochs
        self.saved: dict[str, dict] = {}
        """Name of a file -> how much it holds, and of which sha256."""
        self.steps = 0
        """Steps that are in the files, over all epochs."""
        self.shards: dict[str, Shard] = {}
        """Array -> its file of the epoch under way."""
        self._resume()

    @property
    def end(self) -> int:
        """Steps of the complete folder."""
        return self.steps_per_epoch * len(self.epochs)

    @property
    def remaining(self) -> range:
        """The steps that are still to be made."""
        return range(self.steps, self.end)

    def add(self, step: Step) -> None:
        """Appends a step to every array; saves where an epoch is complete."""
        if self.steps % self.steps_per_epoch == 0:
            self._open(self.epochs[self.steps // self.steps_per_epoch])
            for shard in self.shards.values():
                shard.begin()
        for name, (dtype, shape) in self.arrays.items():
            content = np.asarray(step[name], dtype)
            if shape is not None and content.shape != shape:
                raise ValueError(f"{name}: a step of shape {content.shape}, not {shape}")
            self.shards[name].add(content)
        self.steps += 1
        if self.steps % self.steps_per_epoch == 0:
            self.save()

    def save(self) -> None:
        """Makes sure that an interruption loses nothing of what was made so far."""
        for shard in self.shards.values():
            self.saved[shard.path.name] = shard.save()
        replace_sealed(self.folder / PROGRESS, {"manifest": self.manifest, "steps": self.steps, "files": self.saved})
        attempts.saved(self.folder)

    def finish(self) -> None:
        """Writes manifest.json, with the digests of the complete shards."""
        self._close()
        shards = {name: saved["sha256"] for name, saved in self.saved.items()}
        (self.folder / "manifest.json").write_text(
            json.dumps({**self.manifest, "shards": shards}, indent=1), encoding="utf-8"
        )
        (self.folder / PROGRESS).unlink(missing_ok=True)

    def _open(self, epoch: int) -> None:
        self._close()
        for name, form in self.arrays.items():
            self.shards[name] = Shard(self.folder, name, epoch, form, self.steps_per_epoch)

    def _close(self) -> None:
        for shard in self.shards.values():
            shard.close()
        self.shards = {}

    def _read_progress(self) -> dict:
        """What was saved last; of shards that were finished, and only not published, what their manifest says."""
        try:
            return unsealed((self.folder / PROGRESS).read_bytes())
        except FileNotFoundError:
            manifest = json.loads((self.folder / "manifest.json").read_bytes())
            shards = manifest.pop("shards")
            files = {name: {"bytes": (self.folder / name).stat().st_size, "sha256": shards[name]} for name in shards}
            return {"manifest": manifest, "steps": self.end, "files": files}

    def _resume(self) -> None:
        """Goes on with what was saved, up to the first epoch that is not what was saved.

        What is damaged is made again, and that is told: it costs time, and nothing that only a person could bring back.
        """
        try:
            progress = self._read_progress()
            manifest, steps, files = progress["manifest"], progress["steps"], progress["files"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, OSError) as error:
            log.warning("%s: damaged (%s); all epochs are made again", self.folder / PROGRESS, error)
            return
        if manifest != self.manifest:
            log.warning("%s: of another teacher, or other versions; all epochs are made again", self.folder)
            return
        for number, epoch in enumerate(self.epochs):
            done = min(steps - number * self.steps_per_epoch, self.steps_per_epoch)
            if done <= 0:
                break
            self._open(epoch)
            names = [shard.path.name for shard in self.shards.values()]
            if wrong := [one.path for one in self.shards.values() if not one.go_on(files[one.path.name], done)]:
                log.warning("%s: damaged; made again from epoch %d", wrong[0], epoch)
                self._close()
                break
            self.saved |= {name: files[name] for name in names}
            self.steps += done
        if self.steps:
            log.info("resumed after %d steps", self.steps)

"""Arrays that are made step by step, an .npy file an epoch, in a folder that outlives an interruption.

A job that was stopped, killed or out of time leaves its folder. The next one of the same recipe checks what is there
against the digests that were saved with it, and goes on with the step after.
"""

import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .interruption import noted_stop_signals, stop

log = logging.getLogger(__name__)

PROGRESS = "progress.json"


def shard_name(array: str, epoch: int) -> str:
    return f"{array}-{epoch:04d}.npy"


class Shard:
    """One file: an array (steps, ...) that grows by a step at a time, and the sha256 of what it holds so far."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...], steps: int):
        """`shape` is that of one step."""
        self.path = path
        self.file: BinaryIO | None = None
        self.step_bytes = dtype.itemsize * int(np.prod(shape))
        header = io.BytesIO()
        description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (steps, *shape)}
        np.lib.format.write_array_header_1_0(header, description)
        self.header = header.getvalue()

    def holds(self, steps: int, digest: str) -> bool:
        """Whether the file begins with so many steps of that sha256; if so, it is ready for the next one."""
        wanted, self.sha256 = len(self.header) + steps * self.step_bytes, hashlib.sha256()
        if not self.path.exists() or self.path.stat().st_size < wanted:
            return False
        self.file = self.path.open("r+b")
        while (left := wanted - self.file.tell()) > 0:
            self.sha256.update(self.file.read(min(left, 1 << 24)))
        self.file.truncate()
        return self.sha256.hexdigest() == digest

    def begin(self) -> None:
        self.file, self.sha256 = self.path.open("wb"), hashlib.sha256()
        self._write(self.header)

    def add(self, step: np.ndarray) -> None:
        self._write(np.ascontiguousarray(step).tobytes())

    def _write(self, content: bytes) -> None:
        self.file.write(content)
        self.sha256.update(content)

    def sync(self) -> str:
        """Waits until the file is on the disk; the sha256 of what it holds."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.sha256.hexdigest()

    def close(self) -> None:
        if self.file:
            self.file.close()


class ShardFolder:
    """The shards of some epochs, of one or several arrays that grow together."""

    def __init__(
        self,
        folder: Path,
        manifest: dict,
        arrays: dict[str, tuple[np.dtype, tuple[int, ...]]],
        steps_per_epoch: int,
        epochs: range,
    ):
        """
        manifest: what the arrays are made from, as JSON keeps it; what was made from anything else is made again.
        arrays: name -> type and shape of one step.
        """
        self.folder, self.manifest = folder, json.loads(json.dumps(manifest))
        self.arrays = {name: (np.dtype(dtype), shape) for name, (dtype, shape) in arrays.items()}
        self.steps_per_epoch, self.epochs = steps_per_epoch, epochs
        self.digests: dict[str, str] = {}
        """Name of a file -> sha256 of what it holds."""
        self.steps = 0
        """Steps that are in the files, over all epochs."""
        self.shards: dict[str, Shard] = {}
        """Array -> its file of the epoch under way."""
        self._resume()

    def remaining(self, save_minutes: float) -> Iterator[dict[str, np.ndarray]]:
        """Yields the empty arrays of each step that is still to be made, by name, and keeps what they were filled with.

        Saves every `save_minutes`, and on SIGTERM or SIGUSR1, when it raises SystemExit with the status 128 + signal.
        """
        saved = time.perf_counter()
        with noted_stop_signals() as request:
            while self.steps < self.steps_per_epoch * len(self.epochs):
                if request.signal or time.perf_counter() - saved > 60 * save_minutes:
                    self.save()
                    saved = time.perf_counter()
                if request.signal:
                    raise stop(request.signal, self.steps)
                if self.steps % self.steps_per_epoch == 0:
                    self._begin(self.epochs[self.steps // self.steps_per_epoch])
                step = {name: np.empty(shape, dtype) for name, (dtype, shape) in self.arrays.items()}
                yield step
                for name, content in step.items():
                    self.shards[name].add(content)
                self.steps += 1
                if self.steps % self.steps_per_epoch == 0:
                    self.save()
                    saved = time.perf_counter()

    def save(self) -> None:
        """Makes sure that an interruption loses nothing of what was made so far."""
        for shard in self.shards.values():
            self.digests[shard.path.name] = shard.sync()
        progress = {"manifest": self.manifest, "steps": self.steps, "sha256": self.digests}
        partial = self.folder / f"{PROGRESS}.partial"
        with partial.open("w") as file:
            json.dump(progress, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.folder / PROGRESS)

    def finish(self) -> None:
        """Writes manifest.json, with the digests of the complete shards."""
        self._close()
        (self.folder / "manifest.json").write_text(json.dumps({**self.manifest, "shards": self.digests}, indent=1))
        (self.folder / PROGRESS).unlink()

    def _begin(self, epoch: int) -> None:
        self._open(epoch)
        for shard in self.shards.values():
            shard.begin()

    def _open(self, epoch: int) -> None:
        self._close()
        self.shards = {
            name: Shard(self.folder / shard_name(name, epoch), dtype, shape, self.steps_per_epoch)
            for name, (dtype, shape) in self.arrays.items()
        }

    def _close(self) -> None:
        for shard in self.shards.values():
            shard.close()
        self.shards = {}

    def _resume(self) -> None:
        """Goes on with what was saved, up to the first epoch that is not what was saved."""
        try:
            progress = json.loads((self.folder / PROGRESS).read_bytes())
            manifest, steps, digests = progress["manifest"], progress["steps"], progress["sha256"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            log.warning("%s: damaged; all epochs are made again", self.folder / PROGRESS)
            return
        if manifest != self.manifest:
            log.warning("%s: of another teacher, or other versions; all epochs are made again", self.folder)
            return
        for number, epoch in enumerate(self.epochs):
            done = min(steps - number * self.steps_per_epoch, self.steps_per_epoch)
            if done <= 0:
                break
            self._open(epoch)
            files = {shard.path.name: shard for shard in self.shards.values()}
            if wrong := [name for name, shard in files.items() if not shard.holds(done, digests.get(name, ""))]:
                log.warning("%s: damaged; made again from epoch %d", self.folder / wrong[0], epoch)
                self._close()
                break
            self.digests |= {name: digests[name] for name in files}
            self.steps += done
        if self.steps:
            log.info("resumed after %d steps", self.steps)

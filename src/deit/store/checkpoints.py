"""Weights of a finished run, and the state from which an interrupted one goes on.

Loading never runs code: weights are safetensors, the resume state holds tensors and plain types only.
"""

import hashlib
import io
import logging
import os
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import Tensor

from deit.store import attempts

log = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
"""The file of a run's weights in its folder."""
SEAL_BYTES = 32
PLAIN = {bool, int, float, str, bytes, type(None), torch.Tensor}


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write a state dict; equal weights give equal bytes, wherever they were computed.

    Raises SystemExit where the file cannot be written, as on a full disk.
    """
    write(path, as_content(weights))


def as_content(weights: dict[str, Tensor]) -> bytes:
    """A state dict as the bytes of a file; a tensor that a network has under several names stands under each."""
    content, seen = {}, set()
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        content[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return as_bytes(content)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU. Raises SystemExit where the file is damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise SystemExit(f"{path}: damaged weights ({error}). Delete their folder and run again.") from error


def write(path: Path, content: bytes | memoryview) -> None:
    """Writes a file, down to the disk. Raises SystemExit where that fails, as on a full disk, and leaves no part."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise SystemExit(
            f"{path}: cannot be written ({error.strerror}). The state that was saved before is intact: "
            "once there is room, the same command goes on from it."
        ) from error


@dataclass(frozen=True)
class ResumeState:
    """The state of one run on the way: the latest, and the one before it, should the disk damage the latest.

    Killed at any instant, or out of room, the newest file holds a state that was saved completely.
    """

    folder: Path
    digest: str
    """Of the recipe; the state of another one is refused."""

    @property
    def path(self) -> Path:
        return Path(self.folder) / "resume.pt"

    @property
    def previous(self) -> Path:
        return Path(self.folder) / "resume.previous.pt"

    def save(self, state: dict) -> None:
        """Replace the saved state, which becomes the previous one.

        state: nested dicts, lists and tuples of tensors and plain types; raises TypeError otherwise (NumPy's
        scalars are the usual mistake), because it could be saved but never loaded. Raises SystemExit on a full disk.
        """
        require_plain(state, "state")
        content = io.BytesIO()  # torch.save's own writing to a full disk ends in an error that does not say so
        torch.save({"digest": self.digest, "state": state}, content)
        content.write(hashlib.sha256(content.getbuffer()).digest())
        partial = self.path.with_suffix(".partial")
        write(partial, content.getbuffer())
        with suppress(FileNotFoundError):
            os.replace(self.path, self.previous)
        os.replace(partial, self.path)
        attempts.saved(self.path.parent)

    def load(self) -> dict | None:
        """The saved state with its tensors on the CPU, or None where there is none; raises as `read` does."""
        content = self.read()
        return unpacked(content)["state"] if content else None

    def read(self) -> bytes | None:
        """The latest whole state, as it lies in its file, for `unpacked`; None where none was ever saved.

        A damaged latest state is reported and put aside, and the previous one counts. Raises SystemExit, and leaves
        the files alone, where no state is whole, or one is that of another recipe.
        """
        damaged = {}
        for path in (self.path, self.previous):
            try:
                content = path.read_bytes()
                self.check_digest(path, unpacked(content)["digest"])
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SystemExit(f"{path}: cannot be read ({error.strerror}). Try the same command again.") from error
            except Damaged as damage:
                damaged[path] = damage
            else:
                self.put_aside(damaged)
                return content
        if damaged:
            files = ", ".join(f"{path}: damaged ({damage})" for path, damage in damaged.items())
            raise SystemExit(
                f"{files}. No other state of this run is left: bring back a copy, or delete what is named here to "
                "start the run afresh."
            )
        return None

    def check_digest(self, path: Path, digest: str) -> None:
        if digest != self.digest:
            raise SystemExit(
                f"{path}: the state of a run with recipe {digest}, not {self.digest}. "
                "Resume in another folder, or delete this file."
            )

    def put_aside(self, damaged: dict[Path, Exception]) -> None:
        for path, damage in damaged.items():
            aside = path.with_suffix(".damaged")
            os.replace(path, aside)
            log.warning("%s: damaged (%s); kept as %s, and the state before it counts", path, damage, aside.name)


class Damaged(Exception):
    """A saved state that is not what was written, or holds what is never written."""


def unpacked(content: bytes) -> dict:
    """The `digest` and the `state` in a file's bytes, which end with the sha256 of those before; raises Damaged."""
    saved, seal = memoryview(content)[:-SEAL_BYTES], content[-SEAL_BYTES:]
    if hashlib.sha256(saved).digest() != seal:
        raise Damaged("its sha256 is not the one that it ends with")
    try:
        saved = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
        return {"digest": saved["digest"], "state": saved["state"]}
    except Exception as error:  # damage shows as whatever the reader stumbles on
        raise Damaged(str(error).partition("\n")[0] or type(error).__name__) from error


def require_plain(value: Any, where: str) -> None:
    """Raises TypeError, naming the place, for what `torch.load(weights_only=True)` may refuse."""
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            require_plain(key, f"a key of {where}")
            require_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            require_plain(item, f"{where}[{index}]")
    elif type(value) not in PLAIN:
        kind = f"{type(value).__module__}.{type(value).__name__}"
        raise TypeError(f"{where} is a {kind}: no tensor and no plain type.")

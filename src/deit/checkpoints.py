"""Weights of a finished run, and the state from which an interrupted one goes on.

Loading never runs code: weights are safetensors, the resume state holds tensors and plain types only.
"""

import contextlib
import io
import os
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "weights.safetensors"
"""The file of a run's weights in its folder."""
PLAIN = {bool, int, float, str, bytes, type(None), torch.Tensor}


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write a state dict; equal weights give equal bytes, wherever they were computed."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU. Raises SystemExit where the file is damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise SystemExit(f"{path}: damaged weights ({error}). Delete their folder and run again.") from error


@dataclass(frozen=True)
class ResumeState:
    """The state of one run on the way, in one file that is replaced atomically.

    Killed at any instant, the file holds the latest state that was saved completely, or does not exist.
    """

    folder: Path
    digest: str
    """Of the recipe; the state of another one is refused."""

    @property
    def path(self) -> Path:
        return Path(self.folder) / "resume.pt"

    def save(self, state: dict) -> None:
        """Replace the saved state.

        state: nested dicts, lists and tuples of tensors and plain types; raises TypeError otherwise (NumPy's
        scalars are the usual mistake), because it could be saved but never loaded.
        """
        require_plain(state, "state")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with open(partial, "wb") as file:
            torch.save({"digest": self.digest, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)

    def load(self) -> dict | None:
        """The saved state with its tensors on the CPU, or None where there is none.

        A damaged file is put aside under another name, with a warning, and None returned: the run starts
        afresh. Raises SystemExit where the file is the state of another recipe.
        """
        try:
            content = io.BytesIO(self.path.read_bytes())
        except FileNotFoundError:
            return None
        try:
            # torch.load does not compare the checksums that torch.save writes.
            if zipfile.ZipFile(content).testzip() is not None:
                raise zipfile.BadZipFile("wrong checksum")
            content.seek(0)
            saved = torch.load(content, map_location="cpu", weights_only=True)
            digest, state = saved["digest"], saved["state"]
        except Exception as error:  # damage shows as whatever the reader stumbles on
            self.put_aside(error)
            return None
        if digest != self.digest:
            raise SystemExit(
                f"{self.path}: the state of a run with recipe {digest}, not {self.digest}. "
                "Resume in another folder, or delete this file."
            )
        return state

    def put_aside(self, error: Exception) -> None:
        aside = self.path.with_suffix(".damaged")
        with contextlib.suppress(FileNotFoundError):  # another rank was faster
            os.replace(self.path, aside)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(
            f"{self.path}: damaged ({reason}); kept as {aside.name}, and the run starts afresh.", stacklevel=3
        )


def require_plain(value: object, where: str) -> None:
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

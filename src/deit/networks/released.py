"""Weights that others have published: fetched from the hub or found on disk, and read without running code."""

import os
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models._hub import download_from_hf
from torch import Tensor

from deit.networks.recipes import Importing
from deit.store.results import file_digest, first_line

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights. They are kept in 32 bits, in which the values of the 16-bit types are the same."""
COUNTS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of the numbers that batch norms count in."""
HUB_FILE = "model.safetensors"
"""The name under which repositories of the hub that timm reads keep their weights."""


def located(recipe: Importing, root: str) -> tuple[Path, str]:
    """The file of a recipe's weights and its sha256: below `root`, or brought from the hub by timm, which keeps a copy.

    Raises SystemExit where there is none, or not the declared one.
    """
    path = fetched(recipe.hub) if recipe.hub else Path(os.path.expandvars(os.path.expanduser(root)), recipe.file)
    if not path.is_file():
        raise SystemExit(f"{path}: is missing. Put the published file there, or correct released.root.")
    if not (found := file_digest(path)).startswith(recipe.sha256):
        raise SystemExit(
            f"{path}: its sha256 is {found}, and the params declare {recipe.sha256}. Get the published file again, or "
            "declare this one (released.weights)."
        )
    return path, found


def fetched(hub: str) -> Path:
    """timm's copy of the weights of a repository, `owner/name` or `owner/name@revision`."""
    try:
        return Path(download_from_hf(hub, HUB_FILE))
    except Exception as error:  # of the hub's client, of the HTTP library, of the system
        raise SystemExit(
            f"{hub}: no {HUB_FILE} could be had from the hub ({type(error).__name__}: {first_line(error)[:200]}). "
            "Correct its name in released.weights; without a network, use files (released.source: files)."
        ) from None


def read_published(path: Path) -> dict[str, Tensor]:
    """The state dict of a .safetensors file, or of a .pth that holds one, alone or as its `model`.

    Raises SystemExit for a file that holds anything else, or numbers that are not finite or have no exact place in 32
    bits; nothing that is in it is ever executed.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise SystemExit(
            f"{path}: refused: it is no file of tensors alone, and reading it could run code. Get the authors' own "
            "file; where you trust this one, convert it to safetensors."
        ) from None
    except (SafetensorError, RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise SystemExit(f"{path}: damaged, or no file of weights ({first_line(error)}). Get it again.") from None
    weights = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(weights, dict) or not all(map(is_entry, weights.items())):
        raise SystemExit(f"{path}: holds no state dict, alone or as its 'model'. Get the published weights.")
    for name, tensor in weights.items():
        if wrong := inexact(tensor):
            raise SystemExit(f"{path}: {name} {wrong}. Get the authors' own file; weights are imported as they are.")
    return dict(weights)


def is_entry(entry: tuple[object, object]) -> bool:
    """Whether a key and its value are a name and a tensor."""
    name, tensor = entry
    return isinstance(name, str) and isinstance(tensor, Tensor)


def inexact(tensor: Tensor) -> str:
    """Why a tensor cannot be kept as it is; empty where it can."""
    if tensor.layout != torch.strided or tensor.dtype not in (*FLOATS, *COUNTS):
        return f"is of {tensor.dtype}, {tensor.layout}, of which no network of timm's can be"
    if tensor.dtype in COUNTS:
        return ""
    if bad := int((~torch.isfinite(tensor)).sum()):
        return f"holds {bad} of {tensor.numel()} numbers that are not finite"
    if tensor.dtype == torch.float64 and not torch.equal(tensor.float().double(), tensor):
        return "holds numbers of 64 bits that 32 bits cannot hold exactly"
    return ""

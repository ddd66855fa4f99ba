"""A teacher that is given to `python workflow new`: by timm's tag, or as a file of a network that timm can build."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from deit.networks.recipes import Model
from deit.see.folders import Unclear
from deit.store.results import file_digest

DIGITS = 16
"""Of the sha256 that names a file."""
TAGGED = re.compile(r"\w+\.[\w.-]+")
"""A name of timm's registry with the tag of published weights."""


@dataclass(frozen=True)
class Teacher:
    """A network with weights, as params name them."""

    timm: str
    kind: str
    source: dict[str, str]
    """The key `weights` of the model."""
    classes: int | None
    """That it tells apart; None where its weights have other names than timm's."""
    pixels: int | None
    """Of the side that it sees; None = as the study."""

    @property
    def name(self) -> str:
        """Of the model in params."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.timm).strip("-")


def teacher_of(words: str) -> Teacher:
    """The teacher of NAME.TAG or NETWORK=FILE. Raises Unclear, and SystemExit for a file that holds no weights."""
    import timm

    from deit.networks.given import told_by_timm

    network, _, file = words.partition("=")
    if file:
        return teacher_in_file(network, Path(file).expanduser().absolute())
    if Path(words).is_file():
        raise Unclear(f"--teacher {words}: of which network are these weights? Write --teacher resnet18={words}")
    if not TAGGED.fullmatch(words) or not timm.is_model(words.partition(".")[0]) or words not in timm.list_pretrained():
        near = difflib.get_close_matches(words, timm.list_pretrained(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "timm.list_pretrained() has them"
        raise Unclear(f"--teacher {words}: is no file, and no network of timm's with the tag of its weights. {hint}")
    architecture, told = told_by_timm(words)
    return Teacher(architecture, kind_of(architecture), {"timm": words}, told["classes"], told["resolution"])


def teacher_in_file(network: str, path: Path) -> Teacher:
    import timm

    from deit.networks.given import read_published, told_by_shapes

    if not timm.is_model(network):
        near = difflib.get_close_matches(network, timm.list_models(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "timm.list_models() has them"
        raise Unclear(f"--teacher {network}={path}: {network} is no network of timm's. {hint}")
    if not path.is_file():
        raise Unclear(f"--teacher {network}={path}: is missing. Put the file there, or correct its path")
    sizes = {"classes": 1, "channels": 3, "resolution": 224, "stochastic_depth": 0.0}
    classes = told_by_shapes(Model.model_validate({"timm": network} | sizes), read_published(path)).get("classes")
    digits = file_digest(path)[:DIGITS]
    return Teacher(network, kind_of(network), {"file": str(path), "sha256": digits}, classes, None)


def kind_of(network: str) -> str:
    """`transformer` where it has attention, as params call it."""
    import timm
    import torch

    with torch.device("meta"):
        modules = timm.create_model(network).named_modules()
    return "transformer" if any(name.endswith("attn") for name, _ in modules) else "convnet"

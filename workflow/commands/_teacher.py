"""A teacher that is given to `python workflow new`: by timm's tag, or as a file of a network that timm can build."""

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deit.networks.recipes import FROM_ELSEWHERE, Model
from deit.see.folders import Unclear
from deit.store.finished import record_at
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
    source: dict[str, Any]
    """The key `weights` of the model."""
    classes: int | None
    """That it tells apart; None where its weights have other names than timm's."""
    pixels: int | None
    """Of the side that it sees; None = as the study."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Over timm's own for that name."""
    supposed: bool = False
    """Whether nothing but timm's usual says at what size and by what statistics it sees."""

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
    if not told["classes"]:
        raise Unclear(f"--teacher {words}: has no classifier. Name weights that were trained on labels")
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
    found = told_by_shapes(Model.model_validate({"timm": network} | sizes), read_published(path))
    beside = config_beside(path, network)
    channels = found.get("channels", 3)
    own = seen(beside.get("pretrained_cfg", {}), channels)
    sees = seen(getattr(timm.get_pretrained_cfg(network), "to_dict", dict)(), channels) | own
    arguments = {key: value for key, value in beside.get("model_args", {}).items() if key not in FROM_ELSEWHERE}
    return Teacher(
        timm=network,
        kind=kind_of(network),
        source={"file": str(path), "sha256": file_digest(path)[:DIGITS], **sees},
        classes=found.get("classes"),
        pixels=sees.get("resolution"),
        arguments=arguments,
        supposed=bool(sees.keys() - own.keys()),
    )


def config_beside(path: Path, network: str) -> dict:
    """The config.json in the folder of a file, as `publish` and the hub write it; empty where it is of none such."""
    config = record_at(path.with_name("config.json"))
    return config if config.get("architecture") == network.partition(".")[0] else {}


def seen(told: dict, channels: int) -> dict[str, Any]:
    """What timm tells that a network sees, as the key `weights` has it; nothing of statistics of other channels."""
    statistics = {key: list(told[key]) for key in ("mean", "std") if len(told.get(key, ())) == channels}
    return ({"resolution": told["input_size"][-1]} if told.get("input_size") else {}) | statistics


def kind_of(network: str) -> str:
    """`transformer` where it has attention of several heads, as params call it."""
    import timm
    import torch

    with torch.device("meta"):
        modules = timm.create_model(network).modules()
    return "transformer" if any(hasattr(module, "num_heads") for module in modules) else "convnet"

"""Whether a network can do what a study asks of it, without training it: on torch's `meta` device, in a second each.

Shapes: B views, C channels, H and W pixels, K classes.
"""

from copy import deepcopy
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from deit.networks.drops import Drops
from deit.networks.models import create, parameter_count, token_logits
from deit.networks.recipes import CheckedNetwork
from deit.networks.start import start_from
from deit.store.checkpoints import as_content

COLUMNS = ("network", "timm", "resolution", "heads", "parameters", "multiply_adds")
VIEWS = 2
"""In a batch: the least that a batch norm is trained with."""


class Unfit(Exception):
    """A network that cannot do what is asked of it; says what, and what to do."""


def check(name: str, network: CheckedNetwork, initial: CheckedNetwork | None) -> dict[str, str | int]:
    """A network's row of networks.csv; `initial` is the network whose weights it starts from.

    Multiply-adds are those of one image in a forward pass of all heads: half of the operations that torch counts in
    matrix products, convolutions and attention. Raises Unfit, with the name, the resolution and a remedy.
    """
    model = network.model
    what = f"{name} ({model.timm} at {model.resolution} pixels)"
    key = f"models.{name.partition('/')[0].partition('+')[0].removesuffix('-token')}"
    try:
        with torch.device("meta"):
            net = create(model)
    except ValueError as error:
        raise Unfit(f"{what}: {error} Correct {key}.") from None
    operations = counted(what, key, net, network)
    if network.trained:
        learn(what, key, net, network)
    keep(what, key, net)
    if initial:
        start(what, key, net, initial)
    return {
        "network": name,
        "timm": model.timm,
        "resolution": model.resolution,
        "heads": network.heads,
        "parameters": parameter_count(net),
        "multiply_adds": operations // 2,
    }


def views_for(network: CheckedNetwork, count: int) -> Tensor:
    """Views (B, C, H, W) that hold no memory."""
    model = network.model
    return torch.empty(count, model.channels, model.resolution, model.resolution, device="meta")


def counted(what: str, key: str, net: nn.Module, network: CheckedNetwork) -> int:
    """The operations of a forward pass of one view, whose logits must be one (1, K) a head."""
    counter, frozen = FlopCounterMode(display=False), deepcopy(net).eval().requires_grad_(False)
    try:
        with counter:
            logits = token_logits(frozen, views_for(network, 1))
    except Exception as error:  # of whatever the network is made of
        raise Unfit(f"{what}: cannot see images of that size ({said(error)}). {other_size(key)}") from None
    require_heads(what, key, logits, network, 1)
    return counter.get_total_flops()


def require_heads(what: str, key: str, logits: tuple[Tensor, ...], network: CheckedNetwork, views: int) -> None:
    """Refuses logits that are not one (B, K) a head."""
    shapes = [tuple(head.shape) if isinstance(head, Tensor) else type(head).__name__ for head in logits]
    if len(shapes) != network.heads:
        raise Unfit(
            f"{what}: has {len(shapes)} head(s), and its supervision needs {network.heads}. Name a network with a "
            f"distillation token by {key}.timm_distilled alone."
        )
    if any(shape != (views, network.model.classes) for shape in shapes):
        found = ", ".join(map(str, shapes))
        raise Unfit(f"{what}: gives {found} for {views} views of {network.model.classes} classes. {another(key)}")


class OtherDraws(TorchDispatchMode):
    """Notes the operations that draw from a global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.names[func.overloadpacket.__name__] = None
        return func(*args, **(kwargs or {}))


def learn(what: str, key: str, net: nn.Module, network: CheckedNetwork) -> None:
    """A training step without an optimiser; each learned tensor gets a gradient, or none does.

    What is dropped must be drawn as in drops.py: else it would depend on ranks and passes.
    """
    drops = Drops(net.train(), 0, VIEWS, torch.device("meta"))
    drops.show(torch.empty(len(drops.layers), VIEWS, device="meta"))
    try:
        with OtherDraws() as other:
            logits = token_logits(net, views_for(network, VIEWS))
        require_heads(what, key, logits, network, VIEWS)
        torch.stack([head.float().sum() for head in logits]).sum().backward()
    except Unfit:
        raise
    except Exception as error:
        raise Unfit(f"{what}: cannot be trained ({said(error)}). {another(key)}") from None
    if other.names:
        raise Unfit(
            f"{what}: draws random numbers while it learns ({', '.join(other.names)}) in a way that would depend on "
            f"GPUs and groups_per_forward. Set to 0 in {key}.arguments what drops patches, blocks or features: only "
            "torch's layer Dropout and timm's DropPath are drawn by position."
        )


def keep(what: str, key: str, net: nn.Module) -> None:
    """Whether a file can hold what the network consists of, and the network takes it back by name."""
    try:
        weights = net.state_dict()
        names = load(as_content({name: torch.empty(0, dtype=tensor.dtype) for name, tensor in weights.items()}))
        net.load_state_dict({name: weights[name] for name in names})
    except Exception as error:
        raise Unfit(f"{what}: its weights cannot be saved and loaded by name ({said(error)}). {another(key)}") from None


def start(what: str, key: str, net: nn.Module, initial: CheckedNetwork) -> None:
    """Takes the weights of the other resolution, or of other classes, over, as a fine-tuning does."""
    with torch.device("meta"):
        before = create(initial.model).state_dict()
    try:
        start_from(net, before)
    except Exception as error:
        raise Unfit(
            f"{what}: cannot go on from weights of {initial.model.resolution} pixels ({said(error)}). "
            f"{another(key)[:-1]}, or leave it out of the tables' columns and rows at the higher resolution."
        ) from None


def said(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} …"


def other_size(key: str) -> str:
    return f"Choose resolutions that fit it (for patches and windows: multiples of their sizes), or correct {key}."


def another(key: str) -> str:
    return f"Choose another network ({key})."

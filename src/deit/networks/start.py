"""Where a training starts: weights of its own network at another resolution, or given ones, as far as they fit."""

import torch
from timm.models._manipulate import adapt_input_conv
from torch import Tensor, nn

from deit.networks.models import load_weights

TOKEN = ("dist_token", "head_dist.weight", "head_dist.bias")
"""What a network with a distillation token has beside one without."""


def start_from(net: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Copies weights into `net`; in words, what had to be fitted, and what stays as timm initialises it.

    A head of another number of classes stays new, and so does one that the weights lack, or a distillation token that
    they lack; one that `net` lacks is left out. The first convolution is fitted to the channels as timm does it, and
    what depends on the resolution as `load_weights` does. Raises ValueError, which names them, for all else that does
    not fit.
    """
    own, found, notes = net.state_dict(), dict(weights), []
    for head in heads_of(net):
        name = f"{head}.weight"
        given, classes = len(found.get(name, ())), len(own[name])
        if given == classes or not given and name in TOKEN:
            continue
        why = f" for {classes} classes: the given one has {given}" if given else ": the given weights have none"
        notes.append(f"a new {head}{why}")
        found |= {name: own[name] for name in own if name.startswith(f"{head}.")}
    stem = f"{getattr(net, 'pretrained_cfg', {}).get('first_conv')}.weight"
    if stem in found and stem in own and (channels := own[stem].shape[1]) != (given := found[stem].shape[1]):
        notes.append(f"{stem} for {channels} channels, made of that for {given}")
        found[stem] = adapt_input_conv(channels, found[stem], given)
    found, said = with_token_of(own, found)
    notes += said
    if "pos_embed" in own and "pos_embed" in found and found["pos_embed"].shape != own["pos_embed"].shape:
        notes.append(f"pos_embed {tuple(found['pos_embed'].shape)} brought to {tuple(own['pos_embed'].shape)}")
    try:
        load_weights(net, found)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return notes


def heads_of(net: nn.Module) -> tuple[str, ...]:
    """timm's names of the classifiers of a network; none where it tells none."""
    names = getattr(net, "pretrained_cfg", {}).get("classifier") or ()
    names = (names,) if isinstance(names, str) else names
    return tuple(name for name in names if f"{name}.weight" in net.state_dict())


def with_token_of(own: dict[str, Tensor], weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights with a distillation token, its head and its position where the network `own` has them; and in words."""
    if (TOKEN[0] in own) == (TOKEN[0] in weights):
        return weights, []
    position, tokens = weights["pos_embed"], own["pos_embed"][:, :2]  # class, distillation
    if TOKEN[0] in own:
        found = weights | {name: own[name] for name in TOKEN}
        found["pos_embed"] = torch.cat([position[:, :1], tokens[:, 1:], position[:, 1:]], 1)
        return found, ["a new distillation token, with its head and position: the given weights have none"]
    found = {name: tensor for name, tensor in weights.items() if name not in TOKEN}
    found["pos_embed"] = torch.cat([position[:, :1], position[:, 2:]], 1)
    return found, ["without the given weights' distillation token"]

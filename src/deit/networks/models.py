"""Students and teachers: timm's models, initialised as in the paper and read through all of their heads.

The only file that knows timm's names for tokens, heads and position embeddings. Whether a network is a
transformer, has a distillation token or is a convnet is asked of its class, never of its name. Weights keep
timm's own keys, so that they load into plain timm.

Shapes: B views, C channels, H and W pixels, K classes, D embedding width.
"""

import json
import re
import sys
from math import isqrt, prod
from pathlib import Path

import timm
import torch
from timm.layers import DropPath, resample_abs_pos_embed, trunc_normal_
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from deit.networks.conventions import Translated
from deit.networks.recipes import Model, unknown_to_digests

CONFIG = "config.json"
"""The file by which timm knows a run's folder: `timm.create_model("local-dir:<folder>", pretrained=True)`."""


def create(model: Model) -> nn.Module:
    """The network of a recipe, randomly initialised; the caller seeds torch.

    Works under `torch.device("meta")`, where counting parameters costs no memory.
    Raises ValueError where timm refuses the name or the arguments, or these would bring weights from elsewhere.
    """
    for key, text, remedy in unknown_to_digests({"timm": model.timm}, model.arguments):
        raise ValueError(f"{key}: {text}; {remedy}")
    try:
        net = made(model, drop_path_rate=model.stochastic_depth)  # also 0, as several networks have another default
    except ValueError as error:
        if not re.search(r"unexpected keyword argument\W*(s\))?\W+drop_path_rate", str(error)):
            raise
        if model.stochastic_depth:
            raise ValueError(f"{model.timm} has no stochastic depth; set stochastic_depth: 0.0.") from None
        net = made(model)
    if model.uniform_stochastic_depth:
        drop_alike(net, model)
    if isinstance(net, VisionTransformer) and net.cls_token is not None:
        # timm draws it with a deviation of 1e-6, unlike the paper, which shifts the cosine of the tokens.
        trunc_normal_(net.cls_token, std=0.02)
    return laid_out(net)


def drop_alike(net: nn.Module, model: Model) -> None:
    """Gives both branches of every block the rate of the last, as DeiT III does (its models_v2.py: dpr).

    Raises ValueError for a network that is no vision transformer of timm's.
    """
    if not isinstance(net, VisionTransformer):
        raise ValueError(f"{model.timm} is no vision transformer; remove uniform_stochastic_depth.")
    for block in net.blocks:
        block.drop_path1, block.drop_path2 = DropPath(model.stochastic_depth), DropPath(model.stochastic_depth)


def laid_out(net: nn.Module) -> nn.Module:
    """A convnet with channels last in memory, as torch's convolutions are fastest; what they return follows.

    Only kernels of two dimensions have that layout: torch refuses to give it to the others of `lambda_resnet26t`.
    """
    for tensor in [] if isinstance(net, VisionTransformer) else [*net.parameters(), *net.buffers()]:
        if tensor.dim() == 4:
            tensor.data = tensor.contiguous(memory_format=torch.channels_last)
    return net


def made(model: Model, **rate: float) -> nn.Module:
    """timm's own network of a recipe. Raises ValueError where timm refuses."""
    try:
        sizes = {"num_classes": model.classes, "in_chans": model.channels, **size_of(model)}
        return timm.create_model(model.timm, pretrained=False, **sizes, **rate, **model.arguments)
    except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, LookupError) as error:
        raise ValueError(
            f"timm cannot build {model.timm!r} at {model.resolution} pixels with arguments {model.arguments}: "
            f"{str(error) or type(error).__name__}. Arguments are those of timm's class (for a RegNet: of "
            "RegNetCfg, where depth, w0, wa and wm must give four widths and w0 is a multiple of 8)."
        ) from error


def size_of(model: Model) -> dict[str, int]:
    """The argument by which timm is told the resolution; a convnet needs none."""
    registered = timm.models.get_pretrained_cfg(model.timm)
    return {"img_size": model.resolution} if registered and registered.fixed_input_size else {}


def create_given(model: Model, weights: dict[str, Tensor]) -> nn.Module:
    """The network of a recipe with weights that were given; timm translates keys of other libraries.

    Raises ValueError, which names them, where tensors are missing, foreign, of another type or of other shapes: nothing
    is resized, and what is under the network's own names is copied as it is.
    """
    if not weights:
        raise ValueError("holds no tensor.")  # timm would take the hub's weights in place of none
    net = create(model)
    own = net.state_dict()
    unlike = [name for name in sorted(own) if name in weights and weights[name].shape != own[name].shape]
    if unlike:
        found = ", ".join(f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}" for name in unlike[:3])
        more = f" and {len(unlike) - 3} more" if len(unlike) > 3 else ""
        raise ValueError(f"other shapes than those of {model.timm} at {model.resolution} pixels: {found}{more}.")
    for name, tensor in weights.items():
        counts = not own[name].is_floating_point() if name in own else name.endswith("num_batches_tracked")
        if tensor.is_floating_point() == counts:
            wanted = "whole numbers" if counts else "a floating type"
            raise ValueError(f"{name} is {tensor.dtype}, and the network has {wanted} there.")
    try:
        if weights.keys() != own.keys():
            net = translated(model, weights)
        else:
            net.load_state_dict(weights)
    except (RuntimeError, LookupError, AttributeError, TypeError, ValueError, AssertionError) as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error) or type(error).__name__]
        raise ValueError(f"not the weights of {model.timm}: {' '.join(map(listed, lines))}") from None
    return net


def translated(model: Model, weights: dict[str, Tensor]) -> nn.Module:
    """The network of a recipe with weights under another library's names, as far as timm knows them."""
    shape = (model.channels, model.resolution, model.resolution)
    nowhere = dict.fromkeys(("url", "file", "hf_hub_id"))  # nothing to fall back to
    source = {"state_dict": weights, "num_classes": model.classes, "input_size": shape, "label_offset": 0, **nowhere}
    return laid_out(
        timm.create_model(
            model.timm, pretrained=True, pretrained_cfg_overlay=source, **size_of(model), **model.arguments
        )
    )


def listed(line: str) -> str:
    """A line of torch's about keys, with how many there are where they are too many to read."""
    return line if len(line) <= 300 else f"{line[:300]} … ({line.count(',') + 1} in all)"


def write_config(path: Path, model: Model, mean: tuple[float, ...], std: tuple[float, ...], **view: float) -> None:
    """Writes what timm needs to make the network of a recipe and to show it images: `view` may give `crop_pct`.

    Without one timm takes 0.875, the paper's; which crop a study evaluates with is no part of a training.
    """
    registered = timm.models.get_pretrained_cfg(model.timm)
    layers = {"first_conv": registered.first_conv, "classifier": registered.classifier} if registered else {}
    statistics = {"mean": mean, "std": std, "interpolation": "bicubic", **view}
    shape = (model.channels, model.resolution, model.resolution)
    config = {
        "architecture": model.timm.partition(".")[0],
        "num_classes": model.classes,
        "model_args": model.arguments,
        "pretrained_cfg": {"input_size": shape, "fixed_input_size": bool(size_of(model)), **statistics, **layers},
    }
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def token_logits(net: nn.Module, views: Tensor) -> tuple[Tensor, ...]:
    """Logits of each token's head: (class,), or (class, distillation) with a distillation token.

    views (B, C, H, W) -> each (B, K). The same in training and in evaluation mode, unlike timm's own
    `forward`, which averages the two heads unless it trains with `set_distilled_training`.
    """
    if isinstance(net, Translated):
        return tuple(net.said(logits) for logits in token_logits(net.net, net.seen(views)))
    if not isinstance(net, VisionTransformerDistilled):
        return (net(views),)
    tokens = net.forward_features(views)  # (B, 2 + patches, D)
    return tuple(head(net.head_drop(tokens[:, i])) for i, head in enumerate(net.get_classifier()))


class TokenHeads(nn.Module):
    """`token_logits` as a module, for what wraps a `forward`: DistributedDataParallel, torch.compile.

    Save and load the weights of `net`, which have timm's keys, not those of the wrapper.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, views: Tensor) -> tuple[Tensor, ...]:
        return token_logits(self.net, views)


def fused(logits: tuple[Tensor, ...], how: str) -> Tensor:
    """What a student says, read through one head or both: scores (B, K) to be ranked, in fp32.

    class, distillation: that head's logits · fusion: mean of the two softmaxes, which ranks as their sum does
    (paper, section 4) · fusion_logits: mean of the logits (the released code).
    Raises ValueError for a head that the model does not have.
    """
    heads = [head.float() for head in logits]  # softmaxes in bf16 would tie
    if how == "class":
        return heads[0]
    if len(heads) != 2:
        raise ValueError(f"{how!r} needs a class and a distillation head; this model has {len(heads)} head.")
    if how == "distillation":
        return heads[1]
    if how == "fusion":
        return (heads[0].softmax(-1) + heads[1].softmax(-1)) / 2
    if how == "fusion_logits":
        return (heads[0] + heads[1]) / 2
    raise ValueError(f"unknown reading {how!r}; there are class, distillation, fusion and fusion_logits.")


def load_weights(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy `weights` into `net`; what depends on the resolution is brought to that of `net`, all else must fit.

    Raises RuntimeError that lists those that do not.
    """
    if weights.keys() == net.state_dict().keys():
        weights = weights | resized(net, weights)
    net.load_state_dict(weights)


def resized(net: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the weights that have another shape in `net`, as far as they can be brought to its resolution.

    A position embedding (1, tokens + patches, D) as the released code does it: bicubically, not antialiased, the
    tokens' own positions kept. Of other families their tables of relative positions, by timm's own function for
    checkpoints.
    """
    here = net.state_dict()
    unlike = [name for name, tensor in weights.items() if tensor.shape != here[name].shape]
    found = {}
    if "pos_embed" in unlike and (position := resized_position(net, weights["pos_embed"])) is not None:
        found["pos_embed"] = position
    translate = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if translate and unlike != list(found):
        theirs = translate(weights | found, net)
        found |= {name: theirs[name] for name in unlike if name in theirs and name not in found}
    return found


def resized_position(net: nn.Module, position: Tensor) -> Tensor | None:
    """A position embedding on the square grid of another resolution, on that of `net`; None where it is no such."""
    grid = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    here = net.state_dict()["pos_embed"]
    if not grid or here.ndim != 3 or position.ndim != 3 or position.shape[2] != here.shape[2]:
        return None
    tokens = here.shape[1] - prod(grid)
    if tokens < 0 or isqrt(patches := max(position.shape[1] - tokens, 0)) ** 2 != patches or not patches:
        return None
    return resample_abs_pos_embed(position, new_size=[*grid], num_prefix_tokens=tokens, antialias=False)


def parameter_count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def dimensions(net: nn.Module) -> dict[str, int]:
    """Width, heads and layers of a transformer (Table 1's columns); empty for a convnet."""
    if not isinstance(net, VisionTransformer):
        return {}
    heads = next((part.num_heads for part in net.blocks[0].modules() if hasattr(part, "num_heads")), None)
    found = {"embedding_dimension": net.embed_dim, "heads": heads, "layers": len(net.blocks)}
    return {name: value for name, value in found.items() if value}


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict]:
    """Groups for an optimiser, by timm's rule.

    No decay on biases, norms and what the network itself names: of a ViT its position embedding, class and distillation
    token; the released code decays the last.
    """
    undecayed = getattr(net, "no_weight_decay", set)()
    return param_groups_weight_decay(net, weight_decay, no_weight_decay_list=undecayed)


def input_tokens(net: nn.Module) -> tuple[Tensor, Tensor]:
    """The learned class and distillation token, each (D,), without their positions."""
    if isinstance(net, Translated):
        return input_tokens(net.net)
    if not isinstance(net, VisionTransformerDistilled):
        raise ValueError(f"a {type(net).__name__} has no distillation token to compare with its class token.")
    return net.cls_token[0, 0], net.dist_token[0, 0]


def layer_tokens(net: nn.Module, views: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Embeddings of the class and of the distillation token after every block, each (B, D).

    The last pair too is its block's output, before the final norm: all layers are read in the same place.
    """
    if isinstance(net, Translated):
        return layer_tokens(net.net, net.seen(views))
    if not isinstance(net, VisionTransformerDistilled):
        raise ValueError(f"a {type(net).__name__} has no distillation token to compare with its class token.")
    layers = net.forward_intermediates(views, return_prefix_tokens=True, intermediates_only=True, output_fmt="NLC")
    return [(prefix[:, 0], prefix[:, 1]) for _patches, prefix in layers]

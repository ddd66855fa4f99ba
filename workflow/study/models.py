"""The section `models` of a params file: its keys, and what can be wrong in them."""

import re
from collections.abc import Iterator
from typing import Literal

from deit.bounds import Argument, Name, Probability, Recipe
from deit.networks.recipes import Source, Weights, unknown_to_digests
from study.problem import Problem, listed, short, unknown
from study.views import Resolutions

COUNTS = ("embed_dim", "num_heads", "depth", "patch_size")
"""Arguments of timm's transformers that are whole numbers from 1."""
MOST_OF_A_COUNT = 100_000
PATCH = re.compile(r"(?:vit|deit3?|beit(?:v2)?)_(?:\w+_)?patch(\d+)_")
"""How timm's names of plain transformers begin, which see patches of so many pixels."""


class ModelParams(Recipe):
    """An architecture."""

    kind: Literal["convnet", "transformer"]
    """`convnet`: trained by `teachers` and `adaptation`, with one seed, unless `seeds.teachers` is per-seed.
    `transformer`: trained by `students` and `finetuning`, also where it is a teacher."""
    timm: str
    """timm's name, without weights: these are initialised here, unless `weights` or `initial` give some."""
    timm_distilled: str = ""
    """timm's name of the variant with a distillation token; needed by the losses token and two-class-tokens."""
    arguments: dict[str, Argument] = {}
    """Arguments over timm's own for that name: `embed_dim`, `num_heads`, `depth`, `patch_size` of a transformer, those
    of timm's RegNetCfg of a RegNet, lists a stage as `layers` and `channels` of a ResNet. Resolution, classes and
    channels of images come from elsewhere."""
    stochastic_depth: Probability = 0.1
    """Drop-path rate of the last block; it grows linearly with depth. The paper's 0.1 at all sizes (code:
    `--drop-path`); its DeiT-B diverged without. A convnet should name its own: no teacher's is published."""
    uniform_stochastic_depth: bool = False
    """Every block of a vision transformer has the rate `stochastic_depth`, as in DeiT III."""
    weights: Weights | None = None
    """Weights in place of a training: the model's runs from labels at the lower resolution are this one network, of one
    seed, and all that learns or starts from them is made as if they were trained here. It is shown the study's own
    views, in its own resolution and normalisation, and answers in the study's classes."""
    initial: Source | None = None
    """Weights from which every training of the model at the lower resolution starts. A head of another number of
    classes begins anew, and so does a distillation token that they lack; position embeddings are resized. Trap:
    trainings see views of `data.mean` and `data.std`, whatever the weights were trained with."""

    def changed(self, changes: dict) -> "ModelParams":
        """With a variant's changes; arguments are added to those that are there. Raises ValidationError."""
        arguments = self.arguments | changes.get("arguments", {})
        return ModelParams.model_validate(self.model_dump() | changes | {"arguments": arguments})


Models = dict[Name, ModelParams]


def unknown_model(models: Models, key: str, name: str) -> Iterator[Problem]:
    return unknown(key, name, models, "model", "models")


def model_problems(name: str, model: ModelParams) -> Iterator[Problem]:
    key = f"models.{name}"
    if "-from-" in name:
        yield Problem(key, "'-from-' separates supervision and teacher in names of runs", "rename it.")
    if name.endswith(("-token", "-finetuned")) or name == "convnets":
        text = "tables add -token and -finetuned to names, and convnets are predicted as 'convnets'"
        yield Problem(key, text, "rename it.")
    names = {part: getattr(model, part) for part in ("timm", "timm_distilled")}
    for part, text, remedy in unknown_to_digests(names, model.arguments):
        yield Problem(f"{key}.{part}", text, remedy)
    if model.kind == "transformer":
        yield from transformer_problems(f"{key}.arguments", model.arguments)
    elif model.timm_distilled:
        text = "a convnet has no distillation token"
        yield Problem(f"{key}.timm_distilled", text, "remove the key.", (f"{key}.kind",))


def transformer_problems(key: str, arguments: dict[str, Argument]) -> Iterator[Problem]:
    wrong = [part for part in COUNTS if part in arguments and not is_count(arguments[part])]
    for part in wrong:
        text = f"must be a whole number from 1 to {MOST_OF_A_COUNT:,}, found {short(arguments[part])}"
        yield Problem(f"{key}.{part}", text, "correct the value.")
    width, heads = arguments.get("embed_dim"), arguments.get("num_heads")
    if wrong:
        return
    if (width is None) != (heads is None):
        yield Problem(key, "has one of embed_dim and num_heads", "give them together.")
    elif isinstance(width, int) and isinstance(heads, int) and width % heads:
        text = f"{heads} heads do not divide the width {width}"
        yield Problem(f"{key}.num_heads", text, "choose a divisor.", (f"{key}.embed_dim",))


def is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MOST_OF_A_COUNT


def patch_problems(models: Models, resolutions: Resolutions) -> Iterator[Problem]:
    """Resolutions that patches do not fill, once for all transformers of a patch size; given ones may see others.

    Of families whose names tell no patch size, `check_networks` tries each resolution before anything is trained.
    """
    sizes: dict[int, list[str]] = {}
    for name, model in models.items():
        if model.kind == "transformer" and not model.weights and (patch := patch_of(model)):
            sizes.setdefault(patch, []).append(name)
    for patch, names in sizes.items():
        keys = tuple(f"models.{name}.{part}" for name in names for part in ("arguments.patch_size", "timm"))
        for phase in ("pretraining", "finetuning"):
            pixels = getattr(resolutions, phase)
            if below := pixels % patch:
                text = f"{pixels} pixels are no multiple of the patch size {patch} of {listed(names)}"
                smaller = f"{pixels - below} or " if pixels > patch else ""
                remedy = f"choose {smaller}{pixels - below + patch}, or another patch_size."
                yield Problem(f"resolutions.{phase}", text, remedy, keys)


def patch_of(model: ModelParams) -> int:
    """Pixels a side of a plain transformer's patches; 0 where neither its arguments nor timm's name say them."""
    if "patch_size" in model.arguments:
        own = model.arguments["patch_size"]
        return own if isinstance(own, int) and is_count(own) else 0
    named = PATCH.match(model.timm)
    return int(named[1]) if named else 0

"""How tables and figures call rows and columns; a recipe's option `titles` goes first."""

import re
from collections.abc import Mapping
from typing import Any

TABLES = {
    "table_1": ("Table 1", "Variants of the architecture"),
    "table_2": ("Table 2", "The teacher matters: students of different teachers"),
    "table_3": ("Table 3", "The distillation method"),
    "table_4": ("Table 4", "Disagreement: how often two classifiers decide differently"),
    "table_5": ("Table 5", "Throughput and accuracy"),
    "token_analysis": ("Token analysis", "Cosine between the class and the distillation token"),
    "ablation": ("Ablation", "The training recipe, one ingredient changed a row"),
    "epochs": ("Epochs", "Accuracy over the length of the training"),
    "accuracy_throughput": ("Figure", "Accuracy over throughput"),
}

TITLES = {
    "embedding_dimension": "embedding dimension",
    "parameters_with_distillation_token": "parameters ⚗",
    "multiply_adds": "multiply-adds",
    "images_per_second": "images/s",
    "teacher": "teacher’s accuracy",
    "pretrained": "student",
    "finetuned": "student ↑",
    "labels": "no distillation",
    "soft": "usual distillation",
    "soft_mean": "usual distillation, KL averaged over classes",
    "hard": "hard distillation",
    "token_class": "⚗ class embedding",
    "token_distillation": "⚗ distil. embedding",
    "token_fusion": "⚗ class + distil.",
    "token_fusion_logits": "⚗ class + distil., by logits",
    "ground_truth": "ground truth",
    "convnet": "convnet",
    "deit": "DeiT",
    "deit-distilled": "DeiT⚗",
    "baseline": "the study’s recipe",
    "sgd_pretraining": "SGD for pre-training",
    "sgd_finetuning": "SGD for fine-tuning",
    "no_randaugment": "no RandAugment",
    "autoaugment": "AutoAugment for RandAugment",
    "no_mixup": "no mixup",
    "no_cutmix": "no cutmix",
    "no_mixup_cutmix": "neither mixup nor cutmix",
    "no_erasing": "no random erasing",
    "no_stochastic_depth": "no stochastic depth",
    "stochastic_depth": "stochastic depth",
    "no_repeats": "no repeated augmentation",
    "repeats": "repeated augmentation",
    "dropout": "dropout",
    "ema": "exponential moving average",
    "input": "input tokens",
    "imagenet": "ImageNet",
    "real": "ImageNet-ReaL",
    "v2": "ImageNet-V2",
    "two_class_tokens": "two class tokens (control)",
    "token": "",
}

OF_TABLES = {"ablation": {"pretrained": "accuracy", "finetuned": "accuracy ↑"}}
"""What a table calls otherwise than the rest."""

BRANDS = {"deit": "DeiT", "regnety": "RegNetY", "ti": "Ti", "s": "S", "b": "B", "token": "⚗", "finetuned": "↑"}


def title(key: str, titles: Mapping[str, str] | None = None) -> str:
    """A key as people read it: `deit-b-token-finetuned` -> DeiT-B⚗ ↑."""
    known = TITLES | dict(titles or {})
    if key in known:
        return known[key]
    if re.fullmatch(r"[1-9]\d*", key):  # a column of the epochs figure
        return f"{int(key):,} epoch{'' if key == '1' else 's'}"
    if "/" in key:
        return ", ".join(filter(None, (title(part, titles) for part in key.split("/"))))
    if longer := re.fullmatch(r"(.+)-(\d+)-epochs", key):
        return f"{title(longer[1], titles)}, {longer[2]} epochs"
    if key.startswith("layer_"):
        return key.replace("_", " ")
    parts = [BRANDS.get(part, part.upper() if re.fullmatch(r"\d+[gm]f", part) else part) for part in key.split("-")]
    return "-".join(parts).replace("-⚗", "⚗").replace("-↑", " ↑")


def titles_of(table: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Titles of a table that go before the common ones: its own, then those of the recipe's options."""
    return OF_TABLES.get(table, {}) | options.get("titles", {})


def caption(table: str, text: str) -> tuple[str, str]:
    """(number, caption) of a table; `text` is the study's own caption, if it has one."""
    number, own = TABLES[table]
    return number, text or own

"""How tables and figures call rows and columns; a table's own titles, and those of its recipe, go first."""

import re
from collections.abc import Mapping

TITLES = {
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
    "convnet": "convnet",
    "deit": "DeiT",
    "deit-distilled": "DeiT⚗",
    "imagenet": "ImageNet",
    "real": "ImageNet-ReaL",
    "v2": "ImageNet-V2",
}

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

"""Params files that are wrong somewhere, and what a user is told of them: a line a mistake, file, key, remedy."""

import re
from pathlib import Path

from plan.studies import plan_study
from ruamel.yaml import YAML
from study.params import ParamsError

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ("fashion", "smoke", "cifar10", "imagenet", "released")
LINE = re.compile(r"(?P<file>\S*(params|\.yaml)): (?P<key>.+?): (?P<text>.{10,})")
SECONDS = 5
"""In which a message comes: one, on a machine that has nothing else to do."""
FOREIGN = (
    "a/b",
    "../x",
    "..",
    "",
    " ",
    "a b",
    "a'b",
    'a"b',
    "$(id)",
    "a;b",
    "a.b",
    "a\nb",
    "a\0b",
    "-a",
    "ä",
    "機",
    "*",
    "{a}",
)
"""Names that are no names of files, of wildcards or of the shell."""


def refusal(study: str, params: Path) -> str:
    """What the user is told; empty where the study is planned. Fails where it is not one clear message."""
    try:
        assert plan_study(study, params).jobs
    except ParamsError as error:
        for line in str(error).split("\n"):
            assert LINE.fullmatch(line) and line.isprintable() and len(line) < 1000, repr(line)
        return str(error)
    return ""


def write(params: Path, layer: dict, base: str = "fashion") -> None:
    """mutant.yaml: `layer` over a study."""
    yaml = YAML(typ="safe", pure=True)
    with (params / "mutant.yaml").open("w", encoding="utf-8") as file:
        yaml.dump({"extends": base} | layer, file)


def nested(path: tuple[str, ...], value: object) -> dict:
    for part in reversed(path):
        value = {part: value}
    return value

"""Reading a study: its files, merged with what they extend, and one clear message for whatever is wrong in them."""

import argparse
import difflib
import re
from pathlib import Path

from pydantic import ValidationError

from planning.checks import problems
from planning.files_here import file_problems, weight_problems
from planning.params_file import read_yaml
from planning.problem import Layers, ParamsError, listed, refusal, short
from planning.study import NAME, NAMES, Study
from planning.types_told import explained
from planning.variant_checks import variant_problems

LONGEST_CHAIN = 10
"""Files, each of which extends the next; more are a mistake."""


def load_study(name: str, folder: Path = Path("params")) -> Study:
    """The validated study in `params/<name>.yaml`.

    Raises ParamsError with one line a mistake: file, key, what is wrong, remedy.
    """
    layers = read_layers(name, Path(folder))
    content: dict = {}
    for _, layer in layers:
        content = merged(content, layer)
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise refusal(explained(error, content), layers) from None
    if mistakes := [*problems(study), *variant_problems(study), *file_problems(study), *weight_problems(study)]:
        raise refusal(mistakes, layers)
    return study


def chosen_study(folder: Path = Path("params")) -> str:
    """The study that is planned where none is named: what params/study.yaml says."""
    path = Path(folder, "study.yaml")
    name = read_yaml(path).get("study")
    if not isinstance(name, str):
        raise ParamsError(f"{path}: study: must be the name of a study; there are {listed(known_studies(folder))}.")
    return name


def known_studies(folder: Path) -> list[str]:
    return sorted(path.stem for path in Path(folder).glob("*.yaml") if path.stem != "study")


def study_name(name: str) -> str:
    """What a command is given as a study: one that has a params file, or results or a report here."""
    if re.fullmatch(NAME, name) and any(Path(root, name).is_dir() for root in ("results", "reports")):
        return name
    try:
        check_exists(name, Path("params"), "params", "Name one of them.")
    except ParamsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def read_layers(name: str, folder: Path) -> Layers:
    """The files of a study, the most general first: `extends:` names the study that a file builds on."""
    check_exists(name, folder, f"{folder}: study", "Choose one with --config study=NAME.")
    chain, layers = [name], []
    while True:
        path = folder / f"{chain[-1]}.yaml"
        layer = read_yaml(path)
        layers.insert(0, (path, layer))
        if (parent := layer.pop("extends", None)) is None:
            return layers
        check_exists(parent, folder, f"{path}: extends", "Name one of them, or remove the key.")
        chain.append(parent)
        if parent in chain[:-1]:
            raise ParamsError(f"{path}: extends: {' -> '.join(chain)} is a circle; name a study outside it.")
        if len(chain) > LONGEST_CHAIN:
            raise ParamsError(f"{path}: extends: is file {LONGEST_CHAIN} of a chain from {name}; join some of them.")


def check_exists(name: object, folder: Path, where: str, remedy: str) -> None:
    """Refuses what is not the name of a study in the folder."""
    known = known_studies(folder)
    if not isinstance(name, str):
        raise ParamsError(f"{where}: must be the name of one study, found {short(name)}; there are {listed(known)}.")
    if not re.fullmatch(NAME, name):
        raise ParamsError(f"{where}: {short(name)} is no name of a study: {NAMES}. {remedy}")
    if name == "published":
        raise ParamsError(f"{where}: reports/published/ is for reports that are committed; rename params/{name}.yaml.")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'? There" if near else "there"
        raise ParamsError(f"{where}: there is no study '{name}'; {hint} are {listed(known)}. {remedy}")


def merged(base: dict, layer: dict) -> dict:
    """`layer` over `base`, key by key; null takes a key away."""
    result = dict(base)
    for key, value in layer.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result

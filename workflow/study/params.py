"""Reading a study: its files, merged with what they extend, and one clear message for whatever is wrong in them."""

from pathlib import Path

from pydantic import ValidationError

from study.files_here import file_problems, weight_problems
from study.names import check_exists, known_studies
from study.params_file import read_yaml
from study.problem import Layers, ParamsError, listed, refusal
from study.study import Study, problems
from study.table_checks import table_problems
from study.types_told import explained

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
        raise refusal(explained(error, content, "", Study), layers) from None
    if mistakes := [*problems(study), *table_problems(study), *file_problems(study), *weight_problems(study)]:
        raise refusal(mistakes, layers)
    return study


def chosen_study(folder: Path = Path("params")) -> str:
    """The study that is planned where none is named: what params/study.yaml says."""
    path = Path(folder, "study.yaml")
    name = read_yaml(path).get("study")
    if not isinstance(name, str):
        raise ParamsError(f"{path}: study: must be the name of a study; there are {listed(known_studies(folder))}.")
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

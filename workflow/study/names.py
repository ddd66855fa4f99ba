"""Names in params/, and the studies that there are; known to commands that need no installed package."""

import argparse
import re
from pathlib import Path

from deit.names import NAME
from study.problem import ParamsError, listed, meant, short

NAMES = "names hold letters, digits, - and _, at most 64, and begin with a letter or digit"


def known_studies(folder: Path) -> list[str]:
    return sorted(path.stem for path in Path(folder).glob("*.yaml") if path.stem != "study")


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
        question = meant(name, known)
        there = f"{question} There" if question else "there"
        raise ParamsError(f"{where}: there is no study '{name}'; {there} are {listed(known)}. {remedy}")


def study_name(name: str) -> str:
    """What a command is given as a study: one that has a params file, or results or a report here."""
    if re.fullmatch(NAME, name) and any(Path(root, name).is_dir() for root in ("results", "reports")):
        return name
    try:
        check_exists(name, Path("params"), "params", "Name one of them.")
    except ParamsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name

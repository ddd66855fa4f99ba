"""STUDY, as every command is asked about one: its name, or nothing for the one in params/study.yaml."""

import argparse
import sys

from study.names import study_name
from study.problem import ParamsError


def add_study(parser: argparse.ArgumentParser) -> None:
    about = "name of its file in params/; default: the one in params/study.yaml"
    parser.add_argument("study", metavar="STUDY", nargs="?", type=study_name, help=about)


def named_or_chosen(study: str | None) -> str:
    """The study that was named, or the one in params/study.yaml. SystemExit where that file names none."""
    if study is not None:
        return study
    try:
        from study.params import chosen_study  # late: a named study needs no installed package

        return study_name(chosen_study())
    except ModuleNotFoundError as error:
        here = f"{error.name} is not installed for {sys.executable}"
        raise SystemExit(f"{here}: name the study, or activate the project's environment.") from None
    except (ParamsError, argparse.ArgumentTypeError) as error:
        raise SystemExit(f"Nothing was done, because of params/:\n{error}") from None

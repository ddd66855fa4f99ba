"""The door to the user's commands, python workflow COMMAND: its help, its page in docs/, and calls that are wrong."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
NEED_NOTHING = ("progress", "event-files", "publish-report")
"""Of what is installed."""
FLAG = re.compile(r"--[a-z]+(?:-[a-z]+)*")
door = importlib.util.module_from_spec(
    spec := importlib.util.spec_from_file_location("door", ROOT / "workflow/__main__.py")
)
spec.loader.exec_module(door)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def called(monkeypatch, capsys) -> Callable[..., Ended]:
    """`python workflow WORDS` in a folder, in this process."""

    def call(words: str, folder: Path = ROOT) -> Ended:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["workflow", *shlex.split(words)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        code, message = 0, ""
        try:
            door.main()
        except SystemExit as end:
            code, message = (1, f"{end}\n") if isinstance(end.code, str) else (end.code or 0, "")
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err + message)

    return call


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """An empty one: nothing was ever started in it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("params", "src", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


# Help -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["--help", "-h", ""])
def test_the_door_lists_every_command_with_what_it_is_for(words, called):
    lines = called(words).out.splitlines()
    assert lines[0] == "python workflow COMMAND [--help]"
    files = sorted((ROOT / "workflow/commands").glob("[!_]*.py"))
    assert [line.split()[0] for line in lines[2:]] == [path.stem.replace("_", "-") for path in files]
    assert all(
        line.endswith(door.summary(path)) and door.summary(path) for line, path in zip(lines[2:], files, strict=True)
    )


@pytest.mark.parametrize("name", door.COMMANDS)
def test_a_command_tells_its_arguments_and_an_example(name, called):
    text = called(f"{name} --help").out
    assert text.startswith(f"usage: python workflow {name} [-h]") and f"\n    python workflow {name}" in text
    for flag, about in arguments(text).items():
        assert about, f"{flag} says nothing of itself"


def arguments(text: str) -> dict[str, str]:
    """Argument -> its description, of a help text."""
    _, *parts = re.split(r"^(?:positional arguments|options):\n", text, flags=re.MULTILINE)
    entries = [entry for part in parts for entry in re.split(r"^  (?=\S)", part, flags=re.MULTILINE) if entry.strip()]
    pairs = [re.split(r"\s{2,}", f"{entry.strip()}  ", maxsplit=1) for entry in entries]
    return {words.split()[0]: about.strip() for words, about in pairs}


# The page -------------------------------------------------------------------------------------------------------------


def test_the_page_has_a_section_for_every_command():
    assert re.findall(r"^## (\S+)$", PAGE, re.MULTILINE) == list(door.COMMANDS)


@pytest.mark.parametrize("name", door.COMMANDS)
def test_a_section_says_what_the_command_does_how_it_is_called_and_with_what(name, called):
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    assert door.summary(door.COMMANDS[name]) in " ".join(section.split())
    examples = re.findall(rf"^python workflow {name}\b[^&\n]*", section, re.MULTILINE)
    flags = {flag for flag in arguments(called(f"{name} --help").out) if flag.startswith("--")}
    assert examples and flags <= set(FLAG.findall(section)), "flags that the section leaves out"
    assert set(FLAG.findall(" ".join(examples))) <= flags, "flags that the command does not have"


# Wrong calls ----------------------------------------------------------------------------------------------------------

WRONG = {
    "keeep": "keeep: no such command. Did you mean keep? ",
    "plot": "plot: no such command. They are: ",
    "progress smok": "there is no study 'smok'; did you mean 'smoke'?",
    "progress smoke": "results/smoke/plan.csv is missing: nothing was started yet",
    "event-files smok": "there is no study 'smok'; did you mean 'smoke'?",
    "cost nosuch": "there is no study 'nosuch'; there are cifar10, cifar10-binary, cifar10-dial, cifar10-gpu, ",
    "cost ../smoke": "'../smoke' is no name of a study",
    "cost smoke --speeds none.csv": "none.csv: not a table of speeds",
    "cost smoke --card B7": "--card B7: the speeds are of H100",
    "cost smoke --gpus 0": "argument --gpus: 0 is no number of GPUs",
    "cost smoke --gpus many": "argument --gpus: many is no number of GPUs",
    "cost imagenet --gpus 1": "asks for more than 1 GPUs",
    "keep nosuch": "there is no study 'nosuch'; there are cifar10, cifar10-binary, cifar10-dial, cifar10-gpu, ",
    "adopt nosuch": "there is no study 'nosuch'; there are cifar10, cifar10-binary, cifar10-dial, cifar10-gpu, ",
    "publish nosuch --output new": "nosuch: no finished result",
    "publish params --output new": "params: no finished result",
    "publish nosuch --output params": "params: is there already. Name a new folder",
    "publish nosuch": "the following arguments are required: --output",
    "progress": "results/fashion/plan.csv is missing: nothing was started yet",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_call_gets_one_clear_error(clone, words, called):
    run = called(words, clone)
    assert run.code and not run.out
    *before, last = run.err.strip().splitlines()
    assert WRONG[words] in last
    assert not before or before[0].startswith(("usage: ", "Nothing was ")), run.err


OF_A_STUDY = [name for name in door.COMMANDS if name not in ("publish", "new")]


@pytest.mark.parametrize("name", OF_A_STUDY)
def test_every_command_takes_a_study_first_or_the_chosen_one(tmp_path, name, called):
    assert re.match(rf"usage: .* {name} \[-h\].* \[STUDY\]", " ".join(called(f"{name} --help").out.split()))
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/__main__.py").touch()
    (tmp_path / "params").mkdir()
    (tmp_path / "params/smoke.yaml").touch()
    (tmp_path / "params/study.yaml").write_text("study: smok\n", encoding="utf-8")
    run = called(name, tmp_path)
    assert run.code and "there is no study 'smok'; did you mean 'smoke'?" in run.err
    assert run.err.startswith("Nothing was ")


@pytest.mark.parametrize("name", door.COMMANDS)
def test_a_command_that_is_started_elsewhere_says_where_to_go(tmp_path, name):
    for place in (tmp_path, ROOT / "params"):
        run = subprocess.run(
            [sys.executable, ROOT / "workflow", name], cwd=place, capture_output=True, encoding="utf-8"
        )
        assert run.returncode and run.stderr == (
            f"{place}: is not the project's folder. cd {shlex.quote(str(ROOT))}, and give the command again.\n"
        )


@pytest.mark.parametrize("words", ["keep", "keep --prune --caches", "adopt", 'adopt --because "nothing changed"'])
def test_where_there_are_no_results_nothing_is_done(clone, words, called):
    run = called(words, clone)
    assert run.code == 0 and not run.err
    assert re.search("0 results|Nothing to adopt", run.out)


@pytest.mark.parametrize("name", [name for name in door.COMMANDS if name not in NEED_NOTHING])
def test_another_python_than_the_projects_is_told_so(clone, name):
    command = [sys.executable, "-S", "workflow", name, "--help"]  # -S: without any installed package
    run = subprocess.run(command, cwd=clone, capture_output=True, encoding="utf-8")
    assert run.returncode and re.fullmatch(r"\w+ is not installed for .*: activate .*\n", run.stderr), run.stderr


def test_the_door_opens(clone):
    run = subprocess.run([sys.executable, "workflow", "keep"], cwd=clone, capture_output=True, encoding="utf-8")
    assert run.returncode == 0 and "0 results" in run.stdout, run.stderr

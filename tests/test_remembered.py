"""What is remembered of the code is what following its names finds; an edit, damage or a closed folder forgets it."""

import shutil
from pathlib import Path

import pytest
from plan.plan import NOTEBOOK, RENDER

from deit.store.reach import PACKAGE, ROOT, Code, Made
from deit.store.remembered import PLACE, Remembered, texts_of

ROOTS = ("deit.commands.train", "deit.learn.objectives.hard")
TABLE = (*RENDER, NOTEBOOK)


@pytest.fixture
def clone(tmp_path) -> Path:
    for file in TABLE:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    return Path(shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))).parent


def code(clone: Path) -> Code:
    """As a process has it that has just begun."""
    texts = texts_of(clone, PACKAGE)
    return Code(clone, texts, Remembered(clone, texts))


def followed(clone: Path, roots: tuple[str, ...]) -> Made:
    return Code(clone).made_by(roots)


def recalled(clone: Path, roots: tuple[str, ...], monkeypatch) -> Made:
    with monkeypatch.context() as patch:
        patch.setattr(Code, "follow", lambda self, roots: pytest.fail(f"{roots} are followed"))
        return code(clone).made_by(roots)


@pytest.mark.parametrize("roots", [ROOTS, TABLE], ids=["a training", "a table"])
def test_the_next_process_recalls_what_following_finds(clone, roots, monkeypatch):
    assert code(clone).made_by(roots) == followed(clone, roots) == recalled(clone, roots, monkeypatch)


def test_what_two_processes_find_is_kept_of_both(clone, monkeypatch):
    one, other = code(clone), code(clone)
    one.made_by(ROOTS), other.made_by(TABLE)
    assert recalled(clone, ROOTS, monkeypatch) == followed(clone, ROOTS)
    assert recalled(clone, TABLE, monkeypatch) == followed(clone, TABLE)


@pytest.mark.parametrize(
    ("file", "roots"), [("src/deit/learn/objectives/hard.py", ROOTS), (TABLE[0], TABLE)], ids=["package", "beside it"]
)
def test_an_edit_is_seen_and_so_is_its_end(clone, file, roots):
    before = code(clone).made_by(roots)
    text = (clone / file).read_text(encoding="utf-8")
    (clone / file).write_text(text + "\nEDITED = print('edited')\n", encoding="utf-8")
    assert code(clone).made_by(roots) == followed(clone, roots) != before
    (clone / file).write_text(text, encoding="utf-8")
    assert code(clone).made_by(roots) == followed(clone, roots) == before


def test_an_edit_while_a_process_runs_is_not_remembered_for_the_code_of_before(clone):
    begun, file = code(clone), clone / "src/deit/learn/objectives/hard.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "\nEDITED = print('edited')\n", encoding="utf-8")
    made = begun.made_by(ROOTS)
    file.write_text(text, encoding="utf-8")
    assert made == followed(clone, ROOTS) == code(clone).made_by(ROOTS)


@pytest.mark.parametrize("place", [0, 100, -3], ids=["seal", "content", "end"])
def test_a_damaged_memory_is_none(clone, place):
    expected = code(clone).made_by(ROOTS)
    content = bytearray((clone / PLACE).read_bytes())
    content[place] ^= 1
    (clone / PLACE).write_bytes(content)
    assert code(clone).made_by(ROOTS) == expected
    (clone / PLACE).write_bytes(b"\xff")
    assert code(clone).made_by(ROOTS) == expected


def test_where_nothing_can_be_written_nothing_is_remembered(clone):
    (clone / ".snakemake").write_text("no folder", encoding="utf-8")
    assert code(clone).made_by(ROOTS) == followed(clone, ROOTS)

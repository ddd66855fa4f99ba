"""Texts are UTF-8 wherever they are read or written, and our CSV files keep names that look like no text."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from deit.store.frames import read_frame

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("src", "workflow", "benchmarks", "tests", "docs")
ALWAYS_TEXT = {"read_text", "write_text", "FileHandler", "RotatingFileHandler", "fdopen", "TextIOWrapper", "FileInput"}
FILES = {"open", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"}
PROCESSES = {"run", "Popen", "check_output", "check_call", "call"}
AS_TEXT = {"text", "universal_newlines", "errors"}
UTF_8 = {"utf-8", "utf8", "utf-8-sig"}
NO_TEXT = ("Image", "os", "tarfile", "gzip", "self")
"""What has an `open` of other things than texts."""
FRAMES = {"read_csv", "to_csv", "to_json", "to_html", "to_latex"}
"""Of pandas, which writes UTF-8 where nothing else is said."""
READS_NAMES = {"read_csv", "read_fwf"}
OWN_READER = "src/deit/store/frames.py"
SNAKEMAKE = re.compile(r"\b(?:open|read_text|write_text|read_csv)\(")
NAMES = ("NA", "None", "nan", "null", "-", "1e5", "007", "true", "inf", "", " ", "#N/A", "⚗", 'a,"b"', "é\nè")


def sources() -> Iterator[tuple[str, str]]:
    """(path, Python) of every module and notebook."""
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        for path in sorted((ROOT / place).rglob("*.ipynb")):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
            yield str(path.relative_to(ROOT)), code


def locale_dependent(source: str) -> list[str]:
    """Every call that would read or write text in the locale's encoding, or in another than UTF-8."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [f"line {call.lineno}: {ast.unparse(call)[:100]}" for call in calls if is_locale_dependent(call)]


def is_locale_dependent(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name not in ALWAYS_TEXT | FILES | PROCESSES | FRAMES:
        return False
    if isinstance(encoding := given.get("encoding"), ast.Constant):
        return encoding.value not in UTF_8
    if encoding is not None or None in given:  # **options, which the caller of a helper gives
        return False
    if name in PROCESSES:
        return any(isinstance(given.get(key), ast.Constant) and given[key].value for key in AS_TEXT)
    return name in ALWAYS_TEXT or (name in FILES and not is_binary(call, name, given))


def is_binary(call: ast.Call, name: str, given: dict) -> bool:
    """Whether a file is opened for bytes; what is no file of text (Image.open, os.open) counts as such."""
    if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in NO_TEXT:
        return True
    is_function = name == "open" and isinstance(call.func, ast.Name)
    at = 1 if is_function else 0  # open(path, mode); path.open(mode); NamedTemporaryFile(mode), which is for bytes
    mode = given.get("mode", call.args[at] if len(call.args) > at else None)
    if isinstance(mode, ast.Constant):
        return "b" in str(mode.value)
    return name != "open" if mode is None else False


def test_every_text_is_read_and_written_as_utf_8():
    found = [f"{path}: {line}" for path, source in sources() for line in locale_dependent(source)]
    assert found == []


def test_rules_read_no_files_themselves():
    files = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
    assert [path.name for path in files if SNAKEMAKE.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "path.write_text(text)",
        "open(path)",
        "open(path, 'w')",
        "path.open()",
        "path.open('w', newline='')",
        "subprocess.run(words, capture_output=True, text=True)",
        "subprocess.Popen(words, universal_newlines=True)",
        "logging.FileHandler(path)",
        "tempfile.NamedTemporaryFile('w')",
        "path.read_text(encoding='latin-1')",
        "frame.to_csv(path, encoding='cp1252')",
        "os.fdopen(1, 'w')",
    ],
)
def test_each_call_that_asks_the_locale_is_found(call):
    assert locale_dependent(call)


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text(encoding='utf-8')",
        "open(path, 'rb')",
        "path.open('wb')",
        "path.open(encoding='utf-8')",
        "subprocess.run(words, capture_output=True)",
        "subprocess.run(words, encoding='utf-8')",
        "Image.open(path)",
        "tempfile.NamedTemporaryFile()",
        "frame.to_csv(path)",
    ],
)
def test_bytes_and_utf_8_pass(call):
    assert not locale_dependent(call)


# CSV ------------------------------------------------------------------------------------------------------------------


def test_pandas_reads_our_files_in_one_place():
    """Read without it, a network named `NA` is no network, and one named `1e5` is a number."""
    called = re.compile(rf"\b({'|'.join(READS_NAMES)})\(")  # or by another name of pandas
    assert [path for path, source in sources() if called.search(source) and path != OWN_READER] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_read_as_it_was_written(tmp_path, name):
    written = pd.DataFrame({"row": [name, "deit-s"], "ours": [81.5, None], "n": [3, 0], "shared": [True, False]})
    written.to_csv(tmp_path / "table.csv", index=False, lineterminator="\n")
    read = read_frame(tmp_path / "table.csv", text=["row", "column"])
    assert list(read["row"]) == [name, "deit-s"] and all(type(row) is str for row in read["row"])
    assert read["ours"][0] == 81.5 and pd.isna(read["ours"][1])
    assert read["n"].dtype == int and read["shared"].dtype == bool


def test_a_column_of_names_that_look_like_numbers_stays_text(tmp_path):
    pd.DataFrame({"row": ["1e5", "007"], "ours": [1.0, 2.0]}).to_csv(tmp_path / "table.csv", index=False)
    assert list(read_frame(tmp_path / "table.csv", text=["row"])["row"]) == ["1e5", "007"]


def test_published_tables_are_read_as_before():
    """Where no name is special, the frame is that of pandas alone."""
    tables = sorted((ROOT / "reports/published").glob("*/table_*.csv"))
    assert tables
    for path in (path for path in tables if "comparisons" not in path.name):
        plain = getattr(pd, "read" + "_csv")(path, dtype={"row": str, "column": str})
        pd.testing.assert_frame_equal(read_frame(path, text=["row", "column"]), plain)

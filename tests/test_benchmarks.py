"""Benchmarks fit the code that they measure."""

import csv
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = sorted(
    path.name for path in (ROOT / "benchmarks").glob("*.py") if "argparse" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_finds_what_it_imports(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "benchmarks" / name), run_name="__main__")
    assert not ended.value.code and "usage: " in capsys.readouterr().out


def rows_of_a_gpu(output: Path, *flags: str) -> list[dict[str, str]]:
    """What benchmarks/gpu.py measures in miniature."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}/workflow:{ROOT}/tests"}
    command = [sys.executable, "benchmarks/gpu.py", "--output", str(output), "--device", "cpu", *flags]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    (table,) = output.glob("gpu-*-miniature.csv")
    assert table.with_suffix(".md").read_text(encoding="utf-8").count("\n| ") > 1
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_each_section_of_a_gpu_s_table_is_filled(tmp_path):
    rows = rows_of_a_gpu(tmp_path, "--minutes", "60")
    variants = {section: [] for section in ("steps", "small", "pass", "cache", "compiled", "networks", "study")}
    for row in rows:
        assert float(row["value"]) > 0, row
        variants[row["section"]].append(row["variant"])
    assert variants["steps"] == ["eager", "graph"]
    ways = ["compiled", "compiled, graph", "compiled, reduce-overhead"]
    assert [each for each in variants["compiled"] if ":" not in each] == ways
    assert variants["small"] == ["eager", "graph", "eager, 2 in a pass", "graph, 2 in a pass"]
    assert {"separate", "in a pass, eager", "in a pass, graph"} < set(variants["pass"])
    assert all(variants.values())


@pytest.mark.long
def test_what_does_not_fit_in_the_time_is_told(tmp_path):
    rows = rows_of_a_gpu(tmp_path, "--minutes", "0", "--sections", "small", "cache")
    assert [row["section"] for row in rows] == ["small"] * 4 + ["cache"]
    assert all("left out" in row["variant"] and "do not fit" in row["variant"] for row in rows)


def test_what_fails_takes_its_section_along_and_no_other(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    gpu = runpy.run_path(str(ROOT / "benchmarks/gpu.py"))
    row = gpu["Row"]("small", "a step", "eager", 1.0, "images/s")

    def failing(bench):
        yield row
        raise RuntimeError("out of memory\nof the card")

    monkeypatch.setitem(gpu["SECTIONS"], "small", failing)
    first, second = gpu["rows_of"]("small", None)
    assert first == row
    assert second[:4] == ("small", "", "failed, RuntimeError: out of memory", 0)

"""A run's own report is no concern of git's; published ones are, and a fresh run is compared with them."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from commands import publish_report, replicate

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ["row", "column", "ours", "std", "n", "images", "paper", "difference"]


def report(
    folder: Path,
    accuracies: dict[str, tuple[float, float, int]],
    verdict: str = "holds",
    machines: tuple[str, ...] = (),
) -> Path:
    """A report with a Table 3 of one column: row -> mean, standard deviation and number of seeds."""
    folder.mkdir(parents=True)
    cells = [
        (row, "deit-ti", mean, std if n > 1 else None, n, 1000, 70, 0) for row, (mean, std, n) in accuracies.items()
    ]
    pd.DataFrame(cells, columns=COLUMNS).to_csv(folder / "table_3.csv", index=False)
    (folder / "metrics.json").write_text("{}", encoding="utf-8")
    made = {"study": "demo", "digest": "0123456789", "runs": 2, "commits": [], "machines": machines, "python": []}
    (folder / "provenance-0123456789.json").write_text(json.dumps(made | {"versions": {}}), encoding="utf-8")
    claim = {
        "table": "table_3",
        "key": "hard_over_soft",
        "claim": "Hard beats soft.",
        "rule": "mean over sizes: above 0",
    }
    (folder / "claims.json").write_text(json.dumps([claim | {"verdict": verdict}]), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("published", "fresh", "state"),
    [
        ((70.0, 1.0, 3), (70.0, 9.0, 3), "equal"),
        ((70.0, 1.0, 3), (73.5, 1.0, 3), "within"),  # 4.303 * sqrt(2 / 3) = 3.513
        ((70.0, 1.0, 3), (73.52, 1.0, 3), "beyond"),
        ((70.0, 1.0, 3), (80.0, 1.0, 3), "outside"),
        ((70.0, 0.0, 1), (70.1, 0.0, 1), "one seed"),
    ],
)
def test_a_cell_is_judged_by_the_interval_of_two_independent_runs(tmp_path, published, fresh, state):
    other = {"soft": (60.0, 1.0, 3)}
    theirs, ours = report(tmp_path / "a", {"hard": published} | other), report(tmp_path / "b", {"hard": fresh} | other)
    cells = {cell.row: cell for cell in replicate.compare(ours, theirs)}
    assert cells["hard"].state == state and cells["soft"].state == "equal"


def test_the_command_tells_cells_and_verdicts_and_fails_where_a_cell_is_outside(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    report(tmp_path / "reports/published/demo", {"hard": (70.0, 1.0, 3), "soft": (60.0, 0.5, 1)})
    report(tmp_path / "reports/demo", {"hard": (90.0, 1.0, 3), "soft": (62.0, 0.5, 1)}, "undecided")
    monkeypatch.setattr("sys.argv", ["replicate", "demo"])
    with pytest.raises(SystemExit) as ended:
        replicate.main()
    said = capsys.readouterr().out
    assert ended.value.code == 1
    assert "1  outside" in said and "1  one seed" in said and "+20" in said
    assert "1 of 1 verdicts changed" in said and "published: holds; fresh: undecided" in said


def test_verdicts_by_another_rule_are_not_compared(tmp_path):
    fresh = report(tmp_path / "fresh", {"hard": (70.0, 1.0, 3)}, "undecided")
    published = report(tmp_path / "published", {"hard": (70.0, 1.0, 3)})
    path = published / "claims.json"
    path.write_text(path.read_text(encoding="utf-8").replace("mean over sizes", "every comparison"), encoding="utf-8")
    said = replicate.verdicts_that_changed(fresh, published)
    assert said[0] == "0 of 0 verdicts changed." and "1 claims are judged by another rule" in said[1]


def test_machines_are_told_where_their_models_differ(tmp_path):
    published = report(tmp_path / "a", {}, machines=("a Xeon, 2 cores",))
    assert not replicate.other_machines(report(tmp_path / "b", {}, machines=("a Xeon, 64 cores",)), published)
    machines = ("an EPYC, 2 cores, 8 × a GPU", "a Xeon, 4 cores")
    [line] = replicate.other_machines(report(tmp_path / "c", {}, machines=machines), published)
    assert line.startswith("Published: a Xeon; fresh: a Xeon and an EPYC, 8 × a GPU. ")
    file, heading = replicate.KERNELS.split("#")
    assert f"### {heading.replace('-', ' ')}\n" in (ROOT / file).read_text(encoding="utf-8").lower()


def test_without_a_report_the_command_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports/demo").mkdir(parents=True)
    monkeypatch.setattr("sys.argv", ["replicate", "demo"])
    with pytest.raises(SystemExit, match="reports/demo: no report there. Run snakemake all_tables first"):
        replicate.main()


def test_publishing_replaces_the_former_report_and_refuses_an_unfinished_one(tmp_path):
    fresh, published = report(tmp_path / "reports/demo", {"hard": (70.0, 1.0, 3)}), tmp_path / "published/demo"
    published.mkdir(parents=True)
    (published / "old.csv").write_text("", encoding="utf-8")
    publish_report.publish_report(fresh, published)
    files = {path.name for path in fresh.iterdir()}
    assert {path.name for path in published.iterdir()} == files | {"ro-crate-metadata.json"}
    (fresh / "provenance-0123456789.json").unlink()
    with pytest.raises(SystemExit, match="no complete report"):
        publish_report.publish_report(fresh, published)


@pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="no clone")
def test_git_ignores_a_runs_own_report_and_keeps_the_published_ones():
    def ignored(path: str) -> bool:
        return not subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=ROOT).returncode

    assert ignored("reports/fashion/index.html") and ignored("reports/smoke/metrics.json")
    assert not ignored("reports/published/fashion/index.html")
    tracked = subprocess.run(
        ["git", "ls-files", "reports"], cwd=ROOT, capture_output=True, encoding="utf-8"
    ).stdout.split()
    assert tracked and all(path.startswith("reports/published/") for path in tracked)

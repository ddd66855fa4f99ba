"""No variable, setting or locale of a user's changes a name, a number or a page: the smoke study under hostile ones."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_surroundings import ascii_locale, hostile, latin_1
from jobs import surroundings as module
from jobs.surroundings import surroundings
from smoke_study import COMMAND, ENVIRONMENT, ROOT, copy_of_project

from deit.store.frames import read_frame

PLANNED = ("phase", "kind", "name", "digest", "folder")
DIFFER = ("provenance.json", "log.txt", "recipe.json")
"""Times, hosts and the paths of this clone."""
TIMED = ["images_per_second", "seconds"]
AGAIN = {
    "data": "evaluation",
    "networks": "all",
    "views": "25/stream0-epochs1",
    "teachers": "regnety-4gf",
    "adapted": "regnety-4gf",
    "teacher_logits": "regnety-16gf/labels/15/seed0/stream0-epochs1",
    "students": "deit-ti/token",
    "finetuned": "deit-b/hard-from-deit-b",
    "predictions": "deit-ti/15",
    "tokens": "deit-ti/token",
    "tables": "token_analysis table_3 accuracy_throughput",
}
"""Section -> the beginnings of those names that are made once more under hostile surroundings; beside the report."""


def under_hostile_surroundings(clone: Path, folder: Path, locale: dict[str, str]) -> str:
    """What `snakemake all_tables` says; the clone is made complete by it."""
    calm = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    environment = calm | hostile(folder / "home") | locale
    words = [*COMMAND, "--", "all_tables"]
    run = subprocess.run(words, cwd=clone, capture_output=True, env=environment, umask=0o077)
    text = (run.stdout + run.stderr).decode("utf-8", "replace")
    assert run.returncode == 0, text[-6000:]
    return text


def differences(project: Path, clone: Path, folders: list[str]) -> list[str]:
    """The files of these results that are not in both, or not equal byte for byte."""
    found = []
    for folder in folders:
        files = {path.relative_to(place) for place in (project, clone) for path in (place / folder).rglob("*.*")}
        found += [
            str(name) for name in sorted(files) if name.name not in DIFFER and not same(project / name, clone / name)
        ]
    return found


def same(one: Path, other: Path) -> bool:
    if not (one.exists() and other.exists()):
        return False
    if one.name == "history.csv":
        return read_frame(one).drop(columns=TIMED).equals(read_frame(other).drop(columns=TIMED))
    return one.is_dir() or one.read_bytes() == other.read_bytes()


def report_differences(project: Path, clone: Path) -> list[str]:
    """Of the page: its numbers, tables and figures; the page itself tells times and commits."""
    report = Path("reports/smoke")
    names = {path.name for place in (project, clone) for path in (place / report).iterdir()}
    shown = [name for name in sorted(names) if name != "index.html" and not name.startswith("provenance-")]
    assert {"findings.svg", "training_curves.png", "metrics.json", "table_1.tex"} <= set(shown)
    return [name for name in shown if not same(project / report / name, clone / report / name)]


def plan_of(project: Path) -> str:
    return (project / "results/smoke/plan.csv").read_text(encoding="utf-8")


def test_a_job_is_given_what_its_results_do_not_follow_from(tmp_path):
    kept = {"PATH": "/bin", "HOME": "/home/me", "SLURM_JOB_ID": "7", "OMP_NUM_THREADS": "3", "GIT_CONFIG_COUNT": "0"}
    kept |= {"PYTHONPATH": "src:workflow:mine", "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "MPLCONFIGDIR": "/scratch"}
    given = surroundings(hostile(tmp_path) | {"PYTHONWARNINGS": "error", "PYTHONINSPECT": "1", "COLUMNS": "9"} | kept)
    assert given.items() >= kept.items()
    foreign = ("PYTHONSTARTUP", "PYTHONOPTIMIZE", "PYTHONIOENCODING", "PYTHONWARNINGS", "PYTHONINSPECT", "COLUMNS")
    foreign += ("IPYTHONDIR", "JUPYTER_PATH", "TIMM_FUSED_ATTN", "PANDAS_COPY_ON_WRITE", "GIT_DIR", "FORCE_COLOR")
    foreign += ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PET_NNODES")
    foreign += ("TORCHELASTIC_USE_AGENT_STORE",)
    assert not [name for name in foreign if name in given]
    assert given["PYTHONUTF8"] == given["PYTHONNOUSERSITE"] == "1" and given["MPLBACKEND"] == "agg"


def test_packages_of_the_user_count_only_where_the_environment_lacks_some(monkeypatch):
    """Some keep part of their packages in their home: these are seen, and recorded."""
    monkeypatch.setattr(module, "PACKAGES", ("torch", "a-package-that-is-not-installed"))
    assert "PYTHONNOUSERSITE" not in surroundings({})


def test_a_command_speaks_in_every_locale(tmp_path):
    """What the terminal has no letters for is written out: here the ± of a cell that differs."""
    published, fresh = tmp_path / "reports/published/fashion", tmp_path / "reports/fashion"
    shutil.copytree(ROOT / "reports/published/fashion", published)
    shutil.copytree(published, fresh)
    (tmp_path / "params").mkdir()
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    table = read_frame(fresh / "table_3.csv", text=("row", "column"))
    table.assign(ours=table["ours"] + 0.01).to_csv(fresh / "table_3.csv", index=False)
    environment = ENVIRONMENT | ascii_locale() | {"PYTHONOPTIMIZE": "2"}
    words = [sys.executable, "workflow", "replicate", "fashion"]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, env=environment)
    text = (run.stdout + run.stderr).decode("ascii")
    assert "\\xb1" in text and "within the interval" in text and run.returncode == 0, text


@pytest.mark.long
@pytest.mark.parametrize(("locale", "sections"), [("ASCII", AGAIN), ("Latin-1", ("predictions", "tables"))])
def test_a_study_is_made_alike_under_hostile_surroundings(project, tmp_path, locale, sections):
    """A result of every kind in a locale that knows ASCII alone, but for throughput, which no two runs share.

    And of those that write letters where the same bytes mean others.
    """
    variables = ascii_locale() if locale == "ASCII" else latin_1(tmp_path / "locale")
    clone = copy_of_project(tmp_path / "clone")
    unfinished = shutil.ignore_patterns("locks", "resume", "*.partial")
    shutil.copytree(project / "results", clone / "results", symlinks=True, ignore=unfinished)
    plan = read_frame(project / "results/smoke/plan.csv", text=PLANNED)
    assert set(AGAIN) == set(plan["phase"]) - {"throughput", "report"}
    again = {section: tuple(AGAIN[section].split()) for section in sections}
    begins = [row.name.startswith(again.get(row.phase, "-")) for row in plan.itertuples(index=False)]
    folders = list(plan.loc[begins, "folder"])
    assert len(folders) == sum(map(len, again.values()))
    for folder in folders:
        shutil.rmtree(clone / folder)
    under_hostile_surroundings(clone, tmp_path, variables)
    assert plan_of(clone) == plan_of(project)
    assert differences(project, clone, folders) == [] == report_differences(project, clone)

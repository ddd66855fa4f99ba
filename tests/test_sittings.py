"""A study in sittings, as docs/cluster.md tells: told to end within a student, packed, and gone on with elsewhere."""

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from smoke_study import COMMAND, ENVIRONMENT, ROOT, SECONDS, copy_of_project

pytestmark = [pytest.mark.pipeline, pytest.mark.long, pytest.mark.timeout(2400)]

STUDY = """\
extends: smoke
students: {epochs: 20}
teacher_logits: {chunk_epochs: 20}
tables:
  table_1: null
  table_2: null
  table_3:
    teacher: regnety-4gf
    students: [deit-ti]
    finetuned: []
    rows: {labels: labels, soft: null, hard: hard, token: token}
  table_4: null
  table_5: null
  token_analysis: null
  accuracy_throughput: null
"""
RUN = [*COMMAND[:-1], "study=sittings", "--", "all_tables"]


def packing() -> tuple[str, str]:
    """The page's lines for a first and for a later archive."""
    page = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    first, later = re.findall(r"^tar c.*?(?<!\\)$", page, re.MULTILINE | re.DOTALL)
    return first, later


def clone(folder: Path) -> Path:
    copy_of_project(folder)
    (folder / "params/sittings.yaml").write_text(STUDY, encoding="utf-8")
    return folder


def packed(project: Path, line: str) -> str:
    """The names in the archive that the line makes."""
    subprocess.run(["sh", "-ec", line], cwd=project, env=os.environ | {"STUDY": "sittings"}, check=True)
    listing = ["tar", "tzf", line.split()[2]]
    return subprocess.run(listing, cwd=project, check=True, capture_output=True, encoding="utf-8").stdout


def ended_in_a_student(project: Path) -> str:
    """What a sitting says that is told to end, as by `timeout`, while a student learns from its teacher."""
    with subprocess.Popen(
        RUN, cwd=project, env=ENVIRONMENT, start_new_session=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        students = project / "results/sittings/students"
        while process.poll() is None and not list(students.glob("**/hard-*/**/*.partial/history.csv")):
            time.sleep(0.1)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        told, _ = process.communicate(timeout=SECONDS)
    return told


def finished(project: Path) -> dict[str, int]:
    """In which second each training of a clone was finished: what an archive knows of it."""
    sections = [project / "results/sittings" / name for name in ("teachers", "students")]
    found = [path for section in sections for path in section.glob("**/provenance.json")]
    return {str(path.relative_to(project)): int(path.stat().st_mtime) for path in found}


def test_a_study_goes_on_where_another_machine_was_told_to_end(tmp_path):
    first, later = packing()
    one, two = clone(tmp_path / "one"), clone(tmp_path / "two")
    told = ended_in_a_student(one)
    assert "stopped by SIGTERM" in told, told[-6000:]
    before = finished(one)
    names = packed(one, first)
    assert "/resume/" in names and "sittings/teacher_logits" not in names and "/locks/" not in names

    subprocess.run(["tar", "xzf", one / "first.tar.gz"], cwd=two, check=True)
    told = subprocess.run(RUN, cwd=two, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=SECONDS)
    assert told.returncode == 0, (told.stdout + told.stderr)[-6000:]
    after = finished(two)
    assert {name: after[name] for name in before} == before and len(after) == 4
    (log,) = two.glob("results/sittings/students/**/hard-*/**/log.txt")
    assert "resumed after" in log.read_text(encoding="utf-8")
    assert (two / "reports/sittings/index.html").exists()

    shutil.copy2(one / "first.tar.gz", two)
    names = packed(two, later)
    weights = [name for name in names.splitlines() if name.endswith("/weights.safetensors")]
    assert any("/hard-from" in name for name in weights) and not any("/teachers/" in name for name in weights)
    subprocess.run(["tar", "xzf", two / "second.tar.gz"], cwd=one, check=True)
    assert finished(one) == after
    told = subprocess.run([*RUN[:-2], "-n", *RUN[-2:]], cwd=one, env=ENVIRONMENT, capture_output=True, encoding="utf-8")
    assert "publish_report" in told.stdout and "train_" not in told.stdout and "distil" not in told.stdout

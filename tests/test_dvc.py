"""DVC beside Snakemake: what is recorded, what an edit runs, and that the two agree after a clone, failure or checkout.

One smoke study, recorded by `dvc repro`, serves all tests; each works in a copy of its own of a clone that pulled it.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc_clone import (
    CONTROL,
    ENVIRONMENT,
    HIGH,
    LOW,
    ROOT,
    STAGES,
    STUDENT,
    TEACHER,
    agree_that_nothing_is_to_be_done,
    commit,
    edit,
    empty_bucket,
    plan_of,
    ran,
    results,
    run,
    section,
    snakemake,
    trained,
)

pytestmark = pytest.mark.timeout(3000)


@pytest.fixture(scope="module")
def origin(tmp_path_factory, project) -> Path:
    """A repository with the smoke study, which Snakemake made and `dvc repro` recorded, pushed to a folder."""
    folder = tmp_path_factory.mktemp("origin") / "project"
    ignored = shutil.ignore_patterns(
        "__pycache__", ".git", "results", "reports", ".snakemake", ".venv", "cache", "tmp", "config.local", "dvc.lock"
    )
    shutil.copytree(ROOT, folder, symlinks=True, ignore=ignored)
    edit(folder, "params/study.yaml", "study: fashion", "study: smoke")
    for name in ("results", "reports"):
        shutil.copytree(project / name, folder / name)
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "remote", "add", "-d", "store", str(folder.parent / "store"))
    commit(folder, "params")
    run(folder, "dvc", "repro")
    commit(folder, "results")
    run(folder, "dvc", "push")
    return folder


@pytest.fixture
def clone(origin, tmp_path) -> Path:
    """A fresh clone, without results."""
    run(tmp_path, "git", "clone", "-q", str(origin), "clone")
    return tmp_path / "clone"


@pytest.fixture(scope="module")
def pulled_once(origin, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pulled")
    run(folder, "git", "clone", "-q", str(origin), "clone")
    run(folder / "clone", "dvc", "pull")
    run(folder / "clone", sys.executable, "-m", "compileall", "-q", "src", "workflow")
    return folder / "clone"


@pytest.fixture
def pulled(pulled_once, project, tmp_path) -> Path:
    """A clone that pulled the results, with the small views that DVC does not keep: no test need make them anew."""
    clone = shutil.copytree(pulled_once, tmp_path / "clone", symlinks=True)
    shutil.copytree(project / "results/smoke/views", clone / "results/smoke/views")
    return clone


@pytest.mark.dvc
def test_a_pulled_clone_has_nothing_to_do(pulled):
    assert agree_that_nothing_is_to_be_done(pulled)
    before = results(pulled)
    output = run(pulled, "dvc", "repro")
    assert output.count("didn't change, skipping") == len(STAGES)
    assert not ran(pulled, before) and len(before) > 40


@pytest.mark.dvc
def test_only_results_are_pushed(origin, pulled_once):
    assert (origin / "results/smoke/logs").exists() and (origin / "results/smoke/recipes").exists()
    assert {path.name for path in (pulled_once / "results/smoke").iterdir()} == {
        section(next(iter(out))) for content in STAGES.values() for out in content["outs"]
    } - {"reports/${study}"}


@pytest.mark.dvc
def test_a_clone_that_did_not_pull_is_told_to_and_starts_nothing(clone):
    for command in (("dvc", "repro"), ("snakemake", "--profile", "local", "students")):
        output = run(clone, *command, fails=True)
        assert "Nothing was started: dvc.lock records results that are not here" in output
        assert "dvc pull" in output and "COMPUTE_AGAIN=yes" in output
        assert not results(clone) and not list(clone.glob(".snakemake/locks/*"))
    snakemake(clone, "data", COMPUTE_AGAIN="yes")
    assert ran(clone, {}) == ["data/evaluation", "data/training", "networks/all"]
    assert "Nothing was started" in run(clone, "dvc", "repro", fails=True), "the other results are still elsewhere"


@pytest.mark.dvc
def test_an_edited_student_is_trained_alone_and_taking_it_back_trains_nothing(pulled):
    before = results(pulled)
    edit(pulled, "params/smoke.yaml", *STUDENT)
    run(pulled, "dvc", "repro")
    assert ran(pulled, before) == [
        f"predictions/deit-s/{LOW}",
        f"students/deit-s/hard-from-regnety-16gf/{LOW}/seed0",
        "tables/accuracy_throughput",
        "tables/table_3",
        "tables/table_5",
    ]
    assert agree_that_nothing_is_to_be_done(pulled)
    commit(pulled, "another student")
    after = results(pulled)

    run(pulled, "git", "checkout", "-q", "HEAD~1")
    run(pulled, "dvc", "checkout")
    assert results(pulled).keys() == before.keys() and agree_that_nothing_is_to_be_done(pulled)
    run(pulled, "git", "checkout", "-q", "-")
    run(pulled, "dvc", "checkout")
    assert results(pulled).keys() == after.keys() and agree_that_nothing_is_to_be_done(pulled)

    kept = results(pulled)
    edit(pulled, "params/smoke.yaml", *reversed(STUDENT))
    run(pulled, "dvc", "repro", "students")
    assert not ran(pulled, kept) and agree_that_nothing_is_to_be_done(pulled, "students")

    listed = run(pulled, sys.executable, "workflow", "keep")
    assert "in dvc.lock  results/smoke/students/deit-s/hard" in listed and "in 5 results" in listed
    run(pulled, sys.executable, "workflow", "keep", "--prune")
    assert results(pulled).keys() == before.keys()
    run(pulled, "git", "checkout", "-q", "HEAD", "--", "dvc.lock")
    run(pulled, "dvc", "checkout")
    assert results(pulled).keys() == after.keys(), "what DVC has recorded can be had back"
    run(pulled, sys.executable, "workflow", "keep", "--prune")
    run(pulled, "dvc", "repro")
    assert results(pulled).keys() == before.keys() and agree_that_nothing_is_to_be_done(pulled)


OTHER_EDITS = [
    ("params/fashion.yaml", "repeats: 30", "repeats: 31", []),  # smoke says otherwise
    ("params/smoke.yaml", "trainings of seconds", "trainings of a minute", []),  # a comment
    ("src/deit/learn/objectives/labels.py", '"""', '"""Reworded. ', []),
    ("params/fashion.yaml", "minutes: 30}", "minutes: 40}", []),
    ("params/fashion.yaml", "decimals: 3}\n  table_5", "decimals: 2}\n  table_5", ["tables/table_4"]),
    (
        "params/smoke.yaml",
        "images: 100}",
        "images: 90}",
        [
            "tables/token_analysis",
            f"tokens/deit-ti/token-from-regnety-16gf/{LOW}/seed0",
            f"tokens/deit-ti/two-class-tokens/{LOW}/seed0",
        ],
    ),
    (
        "params/smoke.yaml",
        "batch: 8, repeats: 2",
        "batch: 8, repeats: 3",
        ["tables/accuracy_throughput", "tables/table_1", "tables/table_5", "throughput/all"],
    ),
]


@pytest.mark.dvc
def test_other_edits_run_exactly_what_follows_from_them(pulled):
    """Each gives new names to what follows from it; all are then run at once, as they have nothing in common."""
    before, plan = results(pulled), plan_of(pulled)
    for file, old, new, expected in OTHER_EDITS:
        edit(pulled, file, old, new)
        known, plan = plan.keys(), plan_of(pulled)
        rows = (row for digest, row in plan.items() if digest not in known and row["kind"] != "report")
        assert sorted(f"{row['phase']}/{row['name']}" for row in rows) == expected, new
    run(pulled, "dvc", "repro")
    assert ran(pulled, before) == sorted(name for *_, expected in OTHER_EDITS for name in expected)
    assert agree_that_nothing_is_to_be_done(pulled)


@pytest.mark.dvc
def test_an_edited_teacher_reaches_its_cache_students_and_finetunings(pulled):
    before = results(pulled)
    edit(pulled, "params/smoke.yaml", *TEACHER)
    run(pulled, "dvc", "repro", "finetuned")
    assert trained(pulled, before) == [
        f"adapted/regnety-4gf/labels/{HIGH}/seed0",
        f"finetuned/deit-b/hard-from-regnety-4gf/{HIGH}/seed0",
        f"students/deit-b/hard-from-regnety-4gf/{LOW}/seed0",
        f"teacher_logits/regnety-4gf/labels/{LOW}/seed0/stream0-epochs0-0",
        f"teacher_logits/regnety-4gf/labels/{LOW}/seed0/stream0-epochs1-1",
        f"teacher_logits/regnety-4gf/labels/{HIGH}/seed0/stream0-epochs0-0",
        f"teachers/regnety-4gf/labels/{LOW}/seed0",
    ]
    assert agree_that_nothing_is_to_be_done(pulled, "finetuned")


@pytest.mark.dvc
def test_what_snakemake_made_is_recorded_and_not_made_again(pulled):
    edit(pulled, "params/smoke.yaml", *CONTROL)
    snakemake(pulled, "students")
    before = results(pulled)
    assert "Data and pipelines are up to date" not in run(pulled, "dvc", "status", "students")
    run(pulled, "dvc", "repro", "students")
    assert not ran(pulled, before) and agree_that_nothing_is_to_be_done(pulled, "students")


@pytest.mark.dvc
def test_a_failed_training_passes_nothing_older_off_as_its_own(pulled):
    before, shown = results(pulled), sorted(pulled.glob("reports/smoke/provenance-*"))
    edit(pulled, "params/smoke.yaml", STUDENT[0], STUDENT[1].replace("0.001", "1000, weight_decay: 1000"))
    output = run(pulled, "dvc", "repro", fails=True)
    assert "failed to reproduce 'students'" in output and "not finite" in output
    (report,) = shown
    assert f"reports/smoke/ still shows the earlier plan {report.stem[-10:]}" in output
    assert not ran(pulled, before) and sorted(pulled.glob("reports/smoke/provenance-*")) == shown
    assert "distil_student" in snakemake(pulled, "-n", "all_tables")
    assert "Data and pipelines are up to date" not in run(pulled, "dvc", "status")
    run(pulled, "git", "checkout", "-q", "params")
    run(pulled, "dvc", "repro")
    assert not ran(pulled, before) and agree_that_nothing_is_to_be_done(pulled)


@pytest.mark.dvc
def test_a_killed_repro_goes_on_where_it_stopped(pulled):
    before = results(pulled)
    edit(pulled, "params/smoke.yaml", *CONTROL)
    process = subprocess.Popen(
        ["dvc", "repro", "students"],
        cwd=pulled,
        env=ENVIRONMENT,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while f"students/deit-ti/two-class-tokens/{LOW}/seed0" not in ran(pulled, before) and process.poll() is None:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    middle = results(pulled)
    assert ran(pulled, before) == [f"students/deit-ti/two-class-tokens/{LOW}/seed0"]
    assert "Data and pipelines are up to date" not in run(pulled, "dvc", "status", "students")
    snakemake(pulled, "--unlock")
    run(pulled, "dvc", "repro", "students")
    assert not ran(pulled, middle) and agree_that_nothing_is_to_be_done(pulled, "students")


@pytest.mark.dvc
def test_pruned_caches_are_missed_by_none_but_a_new_student(pulled):
    run(pulled, sys.executable, "workflow", "keep", "--caches", "--prune")
    assert not list(pulled.glob("results/smoke/teacher_logits/**/manifest.json"))
    before = results(pulled)
    run(pulled, "dvc", "repro")
    assert not ran(pulled, before) and agree_that_nothing_is_to_be_done(pulled)
    edit(pulled, "params/smoke.yaml", *STUDENT)
    run(pulled, "dvc", "repro", "students")
    assert trained(pulled, before) == [
        f"students/deit-s/hard-from-regnety-16gf/{LOW}/seed0",
        f"teacher_logits/regnety-16gf/labels/{LOW}/seed0/stream0-epochs0-0",
        f"teacher_logits/regnety-16gf/labels/{LOW}/seed0/stream0-epochs1-1",
    ]


@pytest.mark.dvc
def test_a_damaged_object_is_found_on_pull(origin, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(origin.parent / "store", store)
    damaged = max((path for path in store.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    damaged.chmod(0o644)
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    run(tmp_path, "git", "clone", "-q", str(origin), "clone")
    clone = tmp_path / "clone"
    run(clone, "dvc", "remote", "add", "--local", "-d", "-f", "store", str(store))
    run(clone, "dvc", "remote", "modify", "--local", "store", "verify", "true")
    pulled = run(clone, "dvc", "pull", fails=True)
    refused = re.search(r"Checkout failed for following targets:\n(results/smoke/(?:teachers|adapted))\n", pulled)
    assert refused and not (clone / refused[1]).exists(), pulled
    assert "Nothing was started" in run(clone, "dvc", "repro", fails=True)


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    with empty_bucket(monkeypatch) as url:
        yield url


@pytest.mark.dvc
def test_push_to_s3_and_pull_from_it(pulled, origin, tmp_path, bucket):
    """Through an S3 on this machine, from one clone to another that knows no other store."""
    here, there = pulled, tmp_path / "there"
    run(tmp_path, "git", "clone", "-q", str(origin), there.name)
    for clone in (here, there):
        run(clone, "dvc", "remote", "add", "--local", "-d", "-f", "store", "s3://deit/store")
        run(clone, "dvc", "remote", "modify", "--local", "store", "endpointurl", bucket)
    assert re.search(r"\d{3} files pushed", run(here, "dvc", "push"))
    assert not re.search(r"\d files pushed", run(here, "dvc", "push")), "everything is there"
    run(there, "dvc", "pull")
    assert results(there) and agree_that_nothing_is_to_be_done(there)


@pytest.mark.dvc
@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_read_only_links_break_no_rerun(clone, link):
    run(clone, "dvc", "config", "--local", "cache.type", link)
    run(clone, "dvc", "pull")
    (weights,) = clone.glob("results/smoke/teachers/regnety-4gf/labels/*/*/weights.safetensors")
    assert weights.is_symlink() or weights.stat().st_nlink == 2
    before = results(clone)
    edit(clone, "params/smoke.yaml", *STUDENT)
    run(clone, "dvc", "repro", "students")
    assert trained(clone, before) == [f"students/deit-s/hard-from-regnety-16gf/{LOW}/seed0"]
    run(clone, "git", "checkout", "-q", "params")
    run(clone, sys.executable, "workflow", "keep", "--prune")
    run(clone, "dvc", "repro", "students")
    assert results(clone).keys() == before.keys() and agree_that_nothing_is_to_be_done(clone)


# Data and code ------------------------------------------------------------------------------------------------------


@pytest.mark.dvc
def test_an_edited_image_is_refused_until_it_is_declared_and_then_all_is_new(pulled):
    before = plan_of(pulled)
    path = pulled / "workflow/resources/fashion-mnist/train-images-idx3-ubyte.gz"
    pixels = bytearray(gzip.decompress(path.read_bytes()))
    pixels[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(pixels), 1))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    output = run(pulled, "dvc", "repro", fails=True)
    assert f"params/fashion.yaml: data.training.md5.images: {path.relative_to(pulled)} has the MD5 {found}" in output
    assert "all results follow from them, and are made anew" in output
    edit(pulled, "params/fashion.yaml", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", found)
    after = plan_of(pulled)
    kept = before.keys() & after.keys()  # what sees no image
    assert {before[digest]["phase"] + "/" + before[digest]["name"] for digest in kept} == {
        "networks/all",
        "throughput/all",
        "tables/table_1",
    }
    run(pulled, "dvc", "repro", "data")
    manifests = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in pulled.glob("results/smoke/data/training-*/manifest.json")
    ]
    assert len(manifests) == 2 and manifests[0] != manifests[1]


@pytest.mark.dvc
def test_params_edited_during_a_run_reach_neither_its_results_nor_dvcs_record(pulled):
    before = results(pulled)
    edit(pulled, "params/smoke.yaml", *STUDENT)
    with (pulled / "output.txt").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            ["dvc", "repro", "students"], cwd=pulled, env=ENVIRONMENT, stdout=output, stderr=output
        )
        while not list(pulled.glob("results/smoke/logs/students/deit-s/hard*/*/*.log")):
            assert process.poll() is None, (pulled / "output.txt").read_text(encoding="utf-8")
            time.sleep(0.1)
        edit(pulled, "params/smoke.yaml", "learning_rate: 0.001", "learning_rate: 0.002")
        assert process.wait() != 0
    assert "params/ or code were edited meanwhile" in (pulled / "output.txt").read_text(encoding="utf-8")
    (folder,) = (name for name in results(pulled).keys() - before.keys() if name.startswith("students"))
    recipe = json.loads((pulled / "results/smoke" / folder / "recipe.json").read_text(encoding="utf-8"))["recipe"]
    assert recipe["optimisation"]["learning_rate"] == 0.001
    middle = results(pulled)
    run(pulled, "dvc", "repro", "students")
    assert trained(pulled, middle) == [f"students/deit-s/hard-from-regnety-16gf/{LOW}/seed0"]
    assert agree_that_nothing_is_to_be_done(pulled, "students")


@pytest.mark.dvc
def test_adopted_results_are_recorded_and_told_of(pulled):
    edit(pulled, "src/deit/learn/objectives/token.py", "decisions)) / 2", "decisions)) * 0.5")
    assert "  distil DeiT-S" in snakemake(pulled, "-n", "all_tables")
    run(pulled, sys.executable, "workflow", "adopt", "--because", "half is half")
    planned = snakemake(pulled, "-n", "all_tables")
    jobs = re.findall(r"^  (\w+) ", planned, re.MULTILINE)
    assert "render" in jobs and not {"train", "adapt", "cache", "distil", "fine-tune", "predict", "compare"} & set(jobs)
    run(pulled, "dvc", "repro")
    assert agree_that_nothing_is_to_be_done(pulled)
    (record,) = (
        json.loads(path.read_text(encoding="utf-8")) for path in pulled.glob("reports/smoke/provenance-*.json")
    )
    told = {entry["result"]: entry for entry in record["adopted"]}
    student = told[f"students/deit-s/hard-from-regnety-16gf/{LOW}/seed0"]
    assert student["because"] == "half is half" and student["edited"] == ["src/deit/learn/objectives/token.py"]
    assert "half is half" in (pulled / "reports/smoke/index.html").read_text(encoding="utf-8")


# Experiments --------------------------------------------------------------------------------------------------------

SLOWER = "params/smoke.yaml:+students.runs={deit-ti/two-class-tokens:{learning_rate:0.001}}"


@pytest.mark.dvc
def test_experiments(pulled):
    before = results(pulled)
    run(pulled, "dvc", "exp", "run", "-n", "slower", "-S", SLOWER)
    assert trained(pulled, before) == [f"students/deit-ti/two-class-tokens/{LOW}/seed0"]
    assert agree_that_nothing_is_to_be_done(pulled)
    assert "slower" in run(pulled, "dvc", "exp", "show", "--csv")
    assert "learning_rate" in run(pulled, "dvc", "params", "diff", "HEAD")
    assert "table_3" in run(pulled, "dvc", "metrics", "diff", "--all", "HEAD")
    run(pulled, "dvc", "plots", "diff", "HEAD", "-o", "plots")
    page = (pulled / "plots/index.html").read_text(encoding="utf-8")
    assert "Training curves" in page and "Table 3" in page


@pytest.mark.dvc
def test_queued_experiments_run_in_folders_of_their_own_and_are_applied_later(pulled):
    """As `dvc exp run --temp` runs them, which is a queue of one."""
    before = results(pulled)
    run(pulled, "dvc", "exp", "run", "--queue", "-n", "later", "-S", SLOWER)
    run(pulled, "dvc", "queue", "start")
    for _ in range(300):
        status = run(pulled, "dvc", "queue", "status")
        if re.search("Success|Failed", status):
            break
        time.sleep(1)
    assert "Success" in status, status
    assert results(pulled) == before and not run(pulled, "git", "status", "--porcelain")
    run(pulled, "dvc", "exp", "apply", "later")
    assert trained(pulled, before) == [f"students/deit-ti/two-class-tokens/{LOW}/seed0"]
    assert agree_that_nothing_is_to_be_done(pulled)

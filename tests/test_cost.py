"""The simulated cluster, the speeds behind it, and the page that quotes both."""

import csv
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from commands import cost
from cost.speeds import COLUMNS, SPEEDS, Node, model_of, read_speeds
from plan.studies import plan_study

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 1_281_167


@pytest.fixture(scope="module")
def imagenet():
    return cost.plan_with_passes("imagenet", ROOT / "params")


@pytest.fixture(scope="module")
def alone():
    """The same plan without its pass."""
    return plan_study("imagenet", ROOT / "params")


@pytest.fixture(scope="module")
def node():
    return Node(read_speeds(SPEEDS))


@pytest.fixture(scope="module", params=["limits", "expected"])
def minutes(request, imagenet, node):
    return cost.limits(imagenet) if request.param == "limits" else cost.expected_minutes(imagenet, node)


# The cluster ----------------------------------------------------------------------------------------------------------


def test_no_cluster_is_faster_than_the_longest_chain_or_than_its_gpus(imagenet, minutes):
    chain = max(cost.length(chain, minutes) for chain in cost.chain_after(imagenet, minutes).values())
    work = sum(cost.gpus(job) * minutes[digest] for digest, job in imagenet.jobs.items())
    times = {size: cost.makespan(imagenet, size, minutes) for size in (8, 32, 128, 10_000)}
    assert times[10_000] == pytest.approx(chain)
    assert sorted(times.values(), reverse=True) == list(times.values())
    for size, end in times.items():
        assert max(chain, work / size) <= end + 1e-6 <= chain + work / size + 1e-3


def test_the_longest_chain_follows_the_plan(imagenet, minutes):
    chain = cost.longest_chain(imagenet, minutes)
    assert all(maker in cost.needs(imagenet)[user] for maker, user in zip(chain, chain[1:], strict=False))
    assert [imagenet.jobs[digest].kind for digest in chain][-2:] == ["table", "report"]


def test_a_run_larger_than_the_cluster_is_named(imagenet):
    with pytest.raises(SystemExit, match="asks for more than 4 GPUs"):
        cost.makespan(imagenet, 4, cost.limits(imagenet))


# The speeds -----------------------------------------------------------------------------------------------------------


def job_of(plan, name: str):
    return next(job for job in plan.jobs.values() if job.name.startswith(name))


def test_a_run_takes_its_start_and_its_views_over_what_is_slower(alone, node):
    likely = cost.expected_minutes(alone, node)
    views = 300 * (IMAGES // 1024 * 1024)
    start, core = node.speed("start").value, node.speed("views", resolution=224).value
    small, large = (job_of(alone, f"students/{model}/") for model in ("deit-ti", "deit-b"))
    processes = small.execution.gpus * small.execution.workers
    by_loader, by_gpus = views / (processes * core), views / (8 * 1800)
    assert likely[small.digest] * 60 == pytest.approx(start + max(by_loader, views / (8 * 6000)))
    large_pace = node.pace(large)
    assert large_pace.computing_seconds == pytest.approx(by_gpus)
    assert likely[large.digest] * 60 == pytest.approx(start + max(by_loader, by_gpus))


def test_a_run_that_waits_for_its_loader_is_told_how_many_gpus_it_feeds(alone, node):
    pace = node.pace(job_of(alone, "students/deit-ti/"))
    assert pace.limit == "loader" and pace.gpus == 8 and 1 < pace.gpus_fed < 8
    assert pace.gpus_fed == pytest.approx(pace.cores * pace.loader.value / 6000)
    assert "| 5 students/deit-ti 224 | 8 | 6,000 (estimate) |" in cost.report(alone, [128], node)


def test_bilinear_views_have_a_speed_of_their_own(tmp_path, alone, node):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    text = "extends: imagenet\nviews: {interpolation: bilinear}\n"
    (tmp_path / "params/faster.yaml").write_text(text, encoding="utf-8")
    slow, fast = (
        node.pace(job_of(plan, "students/deit-ti/")) for plan in (alone, plan_study("faster", tmp_path / "params"))
    )
    assert fast.loader.model == "bilinear" and 1.3 < fast.gpus_fed / slow.gpus_fed < 1.5


def test_every_training_and_cache_of_the_study_has_a_speed(alone, node):
    kinds = Counter(job.kind for job in alone.jobs.values() if node.pace(job))
    assert kinds == Counter(job.kind for job in alone.jobs.values() if job.kind in ("train", "cache"))


def test_a_limit_stands_in_for_a_speed_that_is_not_there(imagenet, node):
    known = Node([speed for speed in node.speeds if speed.model != "deit-b"])
    likely, most = cost.expected_minutes(imagenet, known), cost.limits(imagenet)
    for digest, job in imagenet.jobs.items():
        if not job.execution.made_by:
            known_kind = job.kind == "pass" or (job.kind in ("train", "cache") and model_of(job) != "deit-b")
            assert (likely[digest] < most[digest]) == known_kind, job.name


def test_a_table_of_ones_own_replaces_the_speeds(tmp_path, imagenet, node):
    factor = {"start": 1, "views": 2, "train": 2, "infer": 2}
    ours = [speed for speed in node.speeds if speed.card != "V100"]
    faster = [speed._replace(card="My card", value=factor[speed.what] * speed.value) for speed in ours]
    own = Node(read_speeds(table_of(tmp_path, faster)))
    assert own.card == "My card"
    before, after = (cost.expected_minutes(imagenet, each) for each in (node, own))
    trained = [digest for digest, job in imagenet.jobs.items() if job.kind in ("train", "pass") and before[digest]]
    assert all(after[digest] < 0.51 * before[digest] for digest in trained)


def table_of(folder: Path, rows: list) -> Path:
    path = folder / "mine.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


GOOD = ("train", "deit-b", "224", "X", "bf16", "1800", "images/s a GPU", "measured", "a command")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((*GOOD[:5], "fast", *GOOD[6:]), "line 2: not 9 columns with a number"),
        (GOOD[:8], "line 2: not 9 columns with a number"),
        ((*GOOD[:5], "0", *GOOD[6:]), "line 2: .*value > 0"),
        (("trains", *GOOD[1:]), "line 2: what and unit"),
        ((*GOOD[:7], "guess", "mine"), "line 2: .*basis one of"),
        ((*GOOD[:8], ""), "line 2: .*with a source"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, row, message):
    with pytest.raises(SystemExit, match=rf"mine\.csv, {message}"):
        read_speeds(table_of(tmp_path, [row]))


def test_a_missing_file_an_empty_one_and_an_unknown_card_are_refused(tmp_path, node):
    with pytest.raises(SystemExit, match=r"none\.csv: not a table of speeds .*measure_speeds"):
        read_speeds(tmp_path / "none.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(SystemExit, match=r"empty\.csv: not a table of speeds"):
        read_speeds(tmp_path / "empty.csv")
    with pytest.raises(SystemExit, match="--card A100: the speeds are of H100, V100"):
        Node(node.speeds, "A100")


# The shipped table ----------------------------------------------------------------------------------------------------


def shipped(what: str, model: str, resolution: int, card: str = "H100") -> float:
    (speed,) = [s for s in read_speeds(SPEEDS) if s[:4] == (what, model, str(resolution), card)]
    return speed.value


def test_what_the_paper_publishes_is_the_papers():
    with (ROOT / "src/deit/paper/table_5.csv").open(encoding="utf-8") as file:
        paper = {
            row["row"]: float(row["images_per_second"]) for row in csv.DictReader(file) if row["images_per_second"]
        }
    for model in ("regnety-4gf", "regnety-8gf", "regnety-16gf", "deit-ti", "deit-s", "deit-b"):
        assert shipped("infer", model, 224, "V100") == paper[model]
    assert shipped("infer", "deit-b", 384, "V100") == paper["deit-b-finetuned"]
    assert shipped("train", "deit-b", 224, "V100") == pytest.approx(300 * IMAGES / (53 * 3600 * 8), rel=1e-4)
    assert shipped("train", "deit-b", 384, "V100") == pytest.approx(25 * IMAGES / (20 * 3600 * 8), rel=1e-4)


def test_an_estimate_is_reckoned_as_its_source_says():
    base = {model: shipped("train", model, 224) for model in ("deit-b", "regnety-16gf")}
    expected = {
        ("deit-b", 384): base["deit-b"] * (53 * 25) / (20 * 300),
        ("regnety-16gf", 224): base["deit-b"] / 1.2,
        ("regnety-4gf", 224): base["regnety-16gf"] * 1156.7 / 334.7,
        ("regnety-8gf", 224): base["regnety-16gf"] * 591.6 / 334.7,
        ("regnety-12gf", 224): base["regnety-16gf"] * 15.91 / 12.09,
    }
    for size in (4, 8, 12, 16):
        expected[f"regnety-{size}gf", 384] = shipped("train", f"regnety-{size}gf", 224) * (224 / 384) ** 2
    for (model, resolution), speed in expected.items():
        assert shipped("train", model, resolution) == pytest.approx(speed, rel=1e-3)
        assert shipped("infer", model, resolution) == pytest.approx(3 * speed, rel=1e-3)


def test_what_is_said_to_be_measured_is_a_start_views_and_a_card_on_a_slow_host():
    assert {speed.basis for speed in read_speeds(SPEEDS) if speed.card == "H100"} == {"estimate"}
    measured = [speed for speed in read_speeds(SPEEDS) if speed.basis == "measured"]
    assert {speed.what for speed in measured if speed.card != "H200"} == {"start", "views"}
    assert all("slow virtual cores" in speed.source for speed in measured if speed.card == "H200")


@pytest.mark.long
def test_a_node_is_measured_by_one_command(tmp_path):
    table = tmp_path / "mine.csv"
    command = [sys.executable, "benchmarks/measure_speeds.py", "smoke", "--seconds", "0", "--workers", "1"]
    environment = {"PYTHONPATH": "src:workflow", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, "--output", table], cwd=ROOT, env=environment, check=True, capture_output=True)
    plan, own = plan_study("smoke", ROOT / "params"), Node(read_speeds(table))
    assert {speed.basis for speed in own.speeds} == {"measured"}
    assert all(own.pace(job) for job in plan.jobs.values() if job.kind in ("train", "cache", "views"))
    assert "Limits stand in for what has no speed: networks, data, predictions" in cost.report(plan, [8], own)


# Passes ---------------------------------------------------------------------------------------------------------------


def test_a_pass_makes_its_views_once_and_takes_the_gpus_for_all_of_its_runs(imagenet, alone, node):
    small = job_of(imagenet, "passes/small")
    pace, runs = cost.paces_of(imagenet, node)[small.digest], [alone.jobs[digest] for digest in small.resolved().runs]
    one = node.pace(runs[0])
    assert len(runs) == 10 and pace.views == one.views and pace.loader_seconds == one.loader_seconds
    assert pace.gpu_seconds == pytest.approx(sum(node.pace(run).gpu_seconds for run in runs))
    assert pace.limit == "GPU" and pace.seconds == pace.computing_seconds == pytest.approx(pace.gpu_seconds / 8)
    rate = 1 / (5 / 6000 + 5 / 3700)
    row = f"| 1 passes/small-0 of 5 students/deit-ti 224, 5 students/deit-s 224 | 8 | {rate:.0f} (estimate) |"
    assert row in cost.report(imagenet, [128], node)


def test_what_a_pass_makes_costs_nothing_itself_and_comes_after_it(imagenet, alone, minutes):
    small = job_of(imagenet, "passes/small")
    for digest in small.resolved().runs:
        job = imagenet.jobs[digest]
        assert minutes[digest] == cost.gpus(job) == 0 and cost.needs(imagenet)[digest] == {small.digest}
    hours = cost.gpu_hours(imagenet, minutes)
    assert hours["passes"] == 8 * minutes[small.digest] / 60
    others = [digest for digest, job in alone.jobs.items() if "students/deit-b" in job.name]
    assert hours["students"] == pytest.approx(sum(8 * minutes[digest] / 60 for digest in others))


def test_at_most_a_pass_takes_its_own_limit(imagenet):
    small = job_of(imagenet, "passes/small")
    assert cost.limits(imagenet)[small.digest] == small.execution.minutes == 4320


def test_a_pass_that_fills_caches_asks_their_teacher(tmp_path, node):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    study = tmp_path / "params/imagenet.yaml"
    study.write_text(study.read_text(encoding="utf-8").replace("caches: false, ", ""), encoding="utf-8")
    plan = cost.plan_with_passes("imagenet", tmp_path / "params")
    small = job_of(plan, "passes/small")
    runs = [plan.jobs[digest] for digest in small.resolved().runs]
    waiting, asking = node.pace(small, runs), cost.paces_of(plan, node)[small.digest]
    assert len(small.resolved().caches) == 30 and asking.views == waiting.views
    assert asking.gpu_seconds == pytest.approx(waiting.gpu_seconds + asking.views / 4500)
    assert ", 5 students/deit-s 224, 30 teacher_logits/regnety-16gf 224 | 8 |" in cost.report(plan, [128], node)


# The page -------------------------------------------------------------------------------------------------------------


def test_a_run_of_another_study_is_no_job_of_this_one(tmp_path):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    weights = "{study: fashion, run: regnety-16gf/labels/20/seed0}"
    text = f"extends: fashion\nmodels: {{regnety-16gf: {{weights: {weights}}}}}\n"
    (tmp_path / "params/taught.yaml").write_text(text, encoding="utf-8")
    plan = plan_study("taught", tmp_path / "params")
    (given,) = [digest for digest, job in plan.jobs.items() if job.kind == "import"]
    needs = cost.needs(plan)
    assert not needs[given] and any(given in makers for makers in needs.values())


def test_a_study_that_does_not_exist_is_one_message():
    command = [sys.executable, "workflow", "cost", "imagenett"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert run.returncode and "did you mean 'imagenet'?" in run.stderr and "Traceback" not in run.stderr


def test_the_page_quotes_the_command():
    command = [sys.executable, "workflow", "cost", "imagenet"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    page = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    assert page.split("<!-- cost: begin -->\n")[1].split("<!-- cost: end -->")[0] == printed

"""Runs that are trained together end as they do alone, bit for bit, whatever happens on the way."""

import json
import os
import re
import shutil
import signal
from itertools import combinations
from pathlib import Path

import pytest
import torch
from plan.passes import ancestors, plan_passes
from plan.studies import plan_study
from smoke_study import ROOT, copy_of_project, snakemake
from study.params import ParamsError
from tiny_runs import (
    CPU,
    REGNETY,
    STEPS,
    caching_of,
    run,
    same,
    stream_of,
    teacher_net,
    training_job,
)
from training_runs import on_two_ranks, with_data

from deit.commands.train_pass import train_members, with_resources
from deit.learn import training
from deit.learn.recipes import Pass
from deit.learn.teacher import cached_teacher
from deit.learn.training import set_up, train_together
from deit.see.views import ViewStream
from deit.store.checkpoints import ResumeState
from deit.store.job import Execution, Job
from deit.store.results import read_result
from deit.teach.recording import PassRecorder, write_epochs
from deit.teach.teacher_logits import PartlyCachedTeacher, TeacherInTheLoop

WEIGHTS = {"weights.safetensors": "a" * 64}
KINDS = {
    "labels": {},
    "soft": {},
    "hard": {},
    "token": {},
    "longer": {"loss": "labels", "seed": 9, "optimisation": {"epochs": 3}},
    "convnet": {"loss": "labels", "model": REGNETY, "optimisation": {"optimizer": "sgd"}},
    "averaged": {"loss": "labels", "seed": 8, "optimisation": {"ema_decay": 0.8}},
}
EXECUTION = {"save_minutes": 1e-9, "groups_per_forward": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def jobs(root) -> dict[str, Job]:
    """Runs of one stream, and of one teacher."""
    jobs = {}
    for kind, changes in KINDS.items():
        loss = changes.get("loss", kind)
        others = {key: value for key, value in changes.items() if key != "loss"}
        job = training_job(root, loss, execution=EXECUTION, **others)
        jobs[kind] = job.model_copy(update={"name": kind})
    return jobs


@pytest.fixture(scope="module")
def alone(jobs, tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each run that was trained alone, by a teacher in the loop."""
    folder = tmp_path_factory.mktemp("alone")
    return {kind: run(job, folder / kind, in_the_loop(job)) for kind, job in jobs.items()}


def in_the_loop(job: Job) -> TeacherInTheLoop:
    return TeacherInTheLoop(teacher_net(REGNETY), job.resolved().optimisation.precision)


def caching_job(job: Job, keep: str, epochs: tuple[int, int], **changes) -> Job:
    recipe = caching_of(job, keep, epochs, **changes).model_dump(mode="json")
    execution = Execution(save_minutes=1e-9)
    return Job(kind="cache", name=f"cache{epochs}", recipe=recipe, inputs={}, behaviour={}, execution=execution)


def together(
    jobs: list[Job],
    folder: Path,
    caches: list[Job] = [],  # noqa: B006
    place=CPU,
    finished: list[Path] = [],  # noqa: B006
    teacher: TeacherInTheLoop | None = None,
) -> dict:
    """Trains runs from where they are; name -> weights, or why a run was given up. Caches go into folders beside."""
    stream = stream_of(jobs[0])
    cached = cached_teacher(finished, jobs[0].resolved(), epochs=()) if finished else None
    partly = PartlyCachedTeacher(cached, teacher or in_the_loop(jobs[0]))
    runs = [set_up(job, stream, ResumeState(folder / job.name, job.digest), place, partly, None) for job in jobs]
    recorders = []
    for cache in caches:
        (folder / cache.name).mkdir(parents=True, exist_ok=True)
        recorders.append(PassRecorder(cache, folder / cache.name, partly, stream, place, WEIGHTS))
    ended = {}
    for one in train_together(runs, recorders):
        if isinstance(one, PassRecorder):
            one.finish()
        else:
            ended[one.name] = one.failure or {name: value.clone() for name, value in one.learned.state_dict().items()}
    return ended


@pytest.mark.long
@pytest.mark.parametrize("pair", combinations(KINDS, 2), ids="+".join)
def test_two_runs_end_as_each_does_alone(jobs, alone, tmp_path, pair):
    weights = together([jobs[kind] for kind in pair], tmp_path)
    assert all(same(weights[kind], alone[kind]) for kind in pair)


def test_all_runs_together_end_as_each_does_alone_and_shared_work_is_done_once(jobs, alone, tmp_path, monkeypatch):
    made, asked = [], []
    rendered, said = ViewStream.finish_all, TeacherInTheLoop.says
    monkeypatch.setattr(ViewStream, "finish_all", lambda *words: made.append(1) or rendered(*words))
    monkeypatch.setattr(TeacherInTheLoop, "says", lambda *words: asked.append(1) or said(*words))
    weights = together(list(jobs.values()), tmp_path)
    assert all(same(weights[kind], alone[kind]) for kind in KINDS)
    assert len(made) == 3 * STEPS and len(asked) == 2 * STEPS


@pytest.mark.parametrize("step", [1, STEPS, 2 * STEPS - 1])
def test_an_interrupted_pass_goes_on_and_a_run_that_was_begun_alone_joins_it(jobs, alone, tmp_path, monkeypatch, step):
    """One run is ahead of the others, one has yet to begin; the pass is stopped, and given again."""
    with monkeypatch.context() as patch:
        stop_before(patch, 2)
        with pytest.raises(SystemExit):
            together([jobs["hard"]], tmp_path)
    with monkeypatch.context() as patch:
        stop_before(patch, step)
        with pytest.raises(SystemExit) as ended:
            together([jobs[kind] for kind in ("labels", "hard", "averaged")], tmp_path)
        assert ended.value.code == 128 + signal.SIGTERM
    kinds = ["labels", "hard", "token", "averaged"]
    weights = together([jobs[kind] for kind in kinds], tmp_path)
    assert all(same(weights[kind], alone[kind]) for kind in kinds)


def stop_before(monkeypatch, step: int, name: str = "") -> None:
    """SIGTERM after so many steps of a run; of any, without a name."""
    inner = training.take_step

    def take_step(a_run, *arguments):
        inner(a_run, *arguments)
        if a_run.step == step and name in ("", a_run.name):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training, "take_step", take_step)


def test_two_processes_train_together_what_they_train_alone(jobs, tmp_path):
    """Against the same runs alone on two processes: those on one sum in another order."""
    kinds = ["labels", "token", "convnet", "averaged"]

    def work(place):
        for kind in kinds:
            job = jobs[kind]
            run(job.model_copy(update={"execution": Execution(data_root=job.execution.data_root)}), tmp_path / kind,
                in_the_loop(job), place=place)  # fmt: skip
        caches = [caching_job(jobs["soft"], "dense", (0, 1))]
        these = [
            jobs[kind].model_copy(update={"execution": Execution(data_root=jobs[kind].execution.data_root)})
            for kind in kinds
        ]
        weights = together(these, tmp_path / "pass", caches, place)
        if place.writes:
            from deit.store.checkpoints import read_weights

            for kind in kinds:
                assert same(weights[kind], read_weights(tmp_path / kind / "weights.safetensors"))

    assert on_two_ranks(tmp_path, work) == ["", ""]
    whole = separate(caching_job(jobs["soft"], "dense", (0, 1)), jobs["soft"], tmp_path / "separate")
    assert_same_cache(tmp_path / "pass/cache(0, 1)", whole)


def separate(cache: Job, job: Job, folder: Path) -> Path:
    """A cache of a run's stream that a job of its own has written."""
    folder.mkdir(parents=True)
    weights = WEIGHTS["weights.safetensors"]
    write_epochs(folder, cache.resolved(), teacher_net(REGNETY), weights, stream_of(job), Execution())
    return folder


def assert_same_cache(one: Path, other: Path) -> None:
    names = sorted(path.name for path in other.iterdir())
    assert sorted(path.name for path in one.iterdir()) == names
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


@pytest.mark.parametrize("stop", [None, 1, 4], ids=["undisturbed", "stopped after 1", "stopped after 4"])
def test_a_pass_writes_the_caches_that_jobs_of_their_own_write(jobs, alone, tmp_path, monkeypatch, stop):
    caches = [caching_job(jobs["soft"], "dense", (epoch, epoch)) for epoch in (0, 1)]
    kinds = ["soft", "hard"]
    if stop:
        with monkeypatch.context() as patch:
            stop_before(patch, stop)
            with pytest.raises(SystemExit):
                together([jobs[kind] for kind in kinds], tmp_path, caches)
    weights = together([jobs[kind] for kind in kinds], tmp_path, caches)
    assert all(same(weights[kind], alone[kind]) for kind in kinds)
    for cache in caches:
        assert_same_cache(tmp_path / cache.name, separate(cache, jobs["soft"], tmp_path / f"separate-{cache.name}"))


def test_what_is_cached_already_is_not_asked_again(jobs, alone, tmp_path, monkeypatch):
    first = separate(caching_job(jobs["soft"], "dense", (0, 0)), jobs["soft"], tmp_path / "first")
    asked, said = [], TeacherInTheLoop.says
    monkeypatch.setattr(
        TeacherInTheLoop, "says", lambda self, epoch, *rest: asked.append(epoch) or said(self, epoch, *rest)
    )
    weights = together(
        [jobs["soft"], jobs["token"]], tmp_path, [caching_job(jobs["soft"], "dense", (1, 1))], finished=[first]
    )
    assert all(same(weights[kind], alone[kind]) for kind in ("soft", "token")) and set(asked) == {1}


def test_a_run_that_diverges_is_given_up_alone(jobs, alone, tmp_path, monkeypatch, caplog):
    inner, now = training.objective_loss, {}

    def take_step(a_run, *arguments):
        now.update(name=a_run.name, step=a_run.step)
        inner_step(a_run, *arguments)

    def objective_loss(*arguments):
        loss = inner(*arguments)
        return loss * float("inf") if now == {"name": "hard", "step": 2} else loss

    inner_step = training.take_step
    monkeypatch.setattr(training, "take_step", take_step)
    monkeypatch.setattr(training, "objective_loss", objective_loss)
    ended = together([jobs["labels"], jobs["hard"], jobs["token"]], tmp_path)
    assert same(ended["labels"], alone["labels"]) and same(ended["token"], alone["token"])
    assert "step 2 (epoch 0)" in ended["hard"] and "hard: step 2" in caplog.text
    assert ResumeState(tmp_path / "hard", jobs["hard"].digest).load()["step"] == 2, "the last good state"


def test_a_run_that_ended_before_the_others_is_not_told_of_what_comes_later(jobs, tmp_path, monkeypatch):
    """The pass is ended after its shorter run was published, whose files are sealed."""
    pass_job, members = pass_of([jobs["labels"], jobs["longer"]], tmp_path)
    stop_before(monkeypatch, 2 * STEPS + 1, "longer")
    with pytest.raises(SystemExit):
        train_members(pass_job, CPU, tmp_path / "recipes", tmp_path / "resume")
    shorter, longer = (Path(job.execution.output) for job in members)
    read_result(shorter).verify()
    assert "stopped by SIGTERM" not in (shorter / "log.txt").read_text(encoding="utf-8")
    assert "stopped by SIGTERM" in longer.with_name("longer.partial").joinpath("log.txt").read_text(encoding="utf-8")


def pass_of(jobs: list[Job], folder: Path) -> tuple[Job, list[Job]]:
    """A pass of these trainings, and they as they stand in recipe files, with folders for their results."""
    (folder / "recipes").mkdir()
    members = []
    for job in jobs:
        place = {"output": str(folder / job.name), "folders": {"data": [str(folder / "prepared")]}}
        with_place = job.model_copy(update={"execution": job.execution.model_copy(update=place)})
        members.append(with_data(with_place, folder))
    for job in members:
        (folder / f"recipes/{job.digest}.json").write_text(job.model_dump_json(), encoding="utf-8")
    recipe = Pass(runs=tuple(job.digest for job in members), caches=())
    return Job(kind="pass", name="passes/two-0", recipe=recipe.model_dump(mode="json"), behaviour={}), members


# Planned --------------------------------------------------------------------------------------------------------------

PASSES = """
execution:
  passes:
    small: {runs: ["deit-ti/*", "deit-s/*"]}
    convnets: {runs: ["regnety-*/labels/15/*"], resources: {minutes: 7}}
"""


@pytest.fixture
def params(tmp_path, monkeypatch) -> Path:
    """A folder of studies in which smoke has passes; no result is there."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("study.params.file_problems", lambda study: iter(()))
    with (tmp_path / "params/smoke.yaml").open("a", encoding="utf-8") as file:
        file.write(PASSES)
    return tmp_path / "params/smoke.yaml"


def runs_of(job: Job, plan) -> set[str]:
    return {plan.jobs[digest].name for digest in job.resolved().runs}


def test_a_pass_holds_the_unfinished_runs_of_a_stream_and_the_caches_that_they_read(params):
    plan = plan_study("smoke")
    passes = {job.name: job for job in plan_passes(plan).values()}
    assert set(passes) == {"passes/small-0", "passes/convnets-0"}
    small = passes["passes/small-0"]
    assert {name.split("/")[1] for name in runs_of(small, plan)} == {"deit-ti", "deit-s"}
    caches = [plan.jobs[digest] for digest in small.resolved().caches]
    assert {job.name.split("/")[1] for job in caches} == {"regnety-16gf"} and len(caches) == 2
    assert "teacher-logits" not in small.execution.folders and small.execution.folders["teacher"]
    made = [job for job in plan.jobs.values() if job.execution.made_by == small.execution.output]
    assert len(made) == len(small.resolved().runs) + 2
    assert passes["passes/convnets-0"].execution.minutes == 7 < small.execution.minutes


def test_a_pass_may_wait_for_its_caches(params):
    params.write_text(
        params.read_text(encoding="utf-8").replace('"deit-s/*"]', '"deit-s/*"], caches: false'), encoding="utf-8"
    )
    plan = plan_study("smoke")
    (small,) = (job for job in plan_passes(plan).values() if job.name == "passes/small-0")
    assert not small.resolved().caches and len(small.execution.folders["teacher-logits"]) == 2
    assert not any(job.execution.made_by for job in plan.jobs.values() if job.kind == "cache")


def test_a_pass_changes_no_name(params):
    with_passes = plan_study("smoke")
    plan_passes(with_passes)
    params.write_text(params.read_text(encoding="utf-8").removesuffix(PASSES), encoding="utf-8")
    assert with_passes.jobs.keys() == plan_study("smoke").jobs.keys()


def test_what_is_finished_is_left_out_and_one_run_is_no_pass(params):
    plan = plan_study("smoke")
    (small,) = (job for job in plan_passes(plan).values() if job.name == "passes/small-0")
    *others, last = small.resolved().runs
    for digest in (*others[1:], *small.resolved().caches):
        folder = Path(plan.jobs[digest].execution.output)
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps({"files": {}}), encoding="utf-8")
    again = plan_study("smoke")
    (rest,) = (job for job in plan_passes(again).values() if job.name == "passes/small-0")
    assert set(rest.resolved().runs) == {others[0], last} and not rest.resolved().caches
    Path(plan.jobs[last].execution.output).mkdir(parents=True, exist_ok=True)
    Path(plan.jobs[last].execution.output, "provenance.json").write_text(json.dumps({"files": {}}), encoding="utf-8")
    assert {job.name for job in plan_passes(plan_study("smoke")).values()} == {"passes/convnets-0"}


def test_what_a_finished_pass_has_made_and_what_was_deleted_since_is_made_by_jobs_of_its_own(params):
    plan = plan_study("smoke")
    (small,) = (job for job in plan_passes(plan).values() if job.name == "passes/small-0")
    given_up, *others = small.resolved().runs
    folder = Path(small.execution.output)
    folder.mkdir(parents=True)
    outcome = dict.fromkeys((*others, *small.resolved().caches), "") | {given_up: "step 2 is not finite"}
    (folder / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")
    (folder / "provenance.json").write_text(json.dumps({"files": {"outcome.json": ""}}), encoding="utf-8")
    again = plan_study("smoke")
    assert small.digest in plan_passes(again)
    assert again.jobs[given_up].execution.made_by == small.execution.output  # which says why it has none
    assert not any(again.jobs[digest].execution.made_by for digest in outcome.keys() - {given_up})
    anew = plan_study("smoke")  # as costs are counted
    plan_passes(anew, everything=True)
    assert all(anew.jobs[digest].execution.made_by == small.execution.output for digest in outcome)


def test_what_the_params_give_a_pass_its_runs_have_and_one_that_may_not_be_reproduced_makes_all_so(params):
    resources = "resources: {groups_per_forward: 1, save_minutes: 3.0, minutes: 9}"
    text = params.read_text(encoding="utf-8").replace('"deit-s/*"]', f'"deit-s/*"], {resources}')
    params.write_text(text.rstrip() + "\n  models: {deit-ti: {deterministic: false}}\n", encoding="utf-8")
    plan = plan_study("smoke")
    (small,) = (job for job in plan_passes(plan).values() if job.name == "passes/small-0")
    assert not small.execution.deterministic
    for digest in small.resolved().runs:
        execution = with_resources(plan.jobs[digest], small).execution
        assert (execution.groups_per_forward, execution.save_minutes, execution.deterministic) == (1, 3, False)


def test_a_run_that_needs_another_of_the_pass_is_trained_later(params):
    params.write_text(
        params.read_text(encoding="utf-8").replace('["deit-ti/*", "deit-s/*"]', '["deit-*"]'), encoding="utf-8"
    )
    plan = plan_study("smoke")
    for job in plan_passes(plan).values():
        names = runs_of(job, plan)
        assert not any("hard-from-deit-b" in name for name in names)
        assert len({plan.jobs[digest].recipe["views"]["resolution"] for digest in job.resolved().runs}) == 1
        runs = [plan.jobs[digest] for digest in job.resolved().runs]
        assert not {run.digest for run in runs} & {digest for run in runs for digest in ancestors(plan, run)}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('small: {runs: ["deit-x/*"]}', "execution.passes.small.runs: 'deit-x/*' matches no run"),
        ('small: {runs: ["deit-ti/*"]}\n    more: {runs: ["*/hard-*"]}', "is in the pass 'small', too"),
        ("small: {runs: []}", "execution.passes.small.runs: must have at least one entry, found []"),
        ('small: {runs: ["deit-ti/*"], resources: {gpu: 1}}', "did you mean 'gpus'?"),
    ],
)
def test_a_mistake_in_passes_is_one_message(params, line, words):
    params.write_text(
        params.read_text(encoding="utf-8").removesuffix(PASSES) + f"\nexecution:\n  passes:\n    {line}\n",
        encoding="utf-8",
    )
    with pytest.raises(ParamsError, match=re.escape(words)):
        plan_passes(plan_study("smoke"))


def test_runs_that_a_study_does_not_have_break_no_pass_that_it_inherits(params):
    fewer = (
        "extends: smoke\ntables: {table_3: {students: [deit-b]}, table_5: {students: [deit-b]}, token_analysis: null}\n"
    )
    params.with_name("fewer.yaml").write_text(fewer, encoding="utf-8")
    plan = plan_study("fewer")
    assert {job.name for job in plan_passes(plan, everything=True).values()} == {"passes/convnets-0"}
    own = "execution: {passes: {mine: {runs: [deit-x/*, deit-y/*]}}}\n"
    params.with_name("fewer.yaml").write_text(fewer + own, encoding="utf-8")
    with pytest.raises(ParamsError) as refused:
        plan_passes(plan_study("fewer"))
    lines = str(refused.value).splitlines()
    assert all(line.startswith("params/fewer.yaml: execution.passes.mine.runs: 'deit-") for line in lines)
    assert len(lines) == 2 and all(line.endswith("; correct it, or take the pass away.") for line in lines)


@pytest.mark.pipeline
@pytest.mark.long
def test_a_study_with_passes_has_the_results_of_one_without(project, tmp_path):
    """Of DeiT-B, which is in no pass, the results are taken from the other."""
    clone = copy_of_project(tmp_path / "clone")
    for section in ("students", "teacher_logits"):
        shutil.copytree(project / f"results/smoke/{section}/deit-b", clone / f"results/smoke/{section}/deit-b")
    with (clone / "params/smoke.yaml").open("a", encoding="utf-8") as file:
        file.write(PASSES)
    output = snakemake(clone, "--", "students")
    for name in ("convnets-0", "small-0"):
        assert re.search(f"ends +[\\d:]+ +train the runs of the pass {name}", output), output[-3000:]
    weights = [
        path.relative_to(clone) for path in clone.glob("results/smoke/**/*.safetensors") if "deit-b" not in path.parts
    ]
    shards = [path.relative_to(clone) for path in clone.glob("results/smoke/teacher_logits/**/*.npy")]
    assert len(weights) > 10 and shards
    for name in (*weights, *shards):
        assert (clone / name).read_bytes() == (project / name).read_bytes(), name
    log = next(clone.glob("results/smoke/logs/students/deit-ti/hard*/**/*.log")).read_text(encoding="utf-8")
    assert "finished by another job" in log
    assert "Nothing to be done" in snakemake(clone, "--", "students")

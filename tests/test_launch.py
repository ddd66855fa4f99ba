"""Alone on a result, and the words that start its processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
from jobs import heartbeat, launch, run_lock
from smoke_study import COMMAND, ROOT, copy_of_project

from deit.store.job import Job
from deit.store.results import new_folder

FAKE = "import time; print('trained', flush=True); time.sleep({seconds})"


def launched(folder: Path, name: str = "a", members: str = "", **options) -> subprocess.Popen:
    """launch.py with a module that prints a word and sleeps, as its own process; `members` are letters, too."""
    (folder / "fake.py").write_text(FAKE.format(**options), encoding="utf-8")
    words = [
        "--lock",
        f"{folder}/locks/{name}",
        *(word for each in members for word in ("--member", f"{folder}/locks/{each}", f"{folder}/{each}/missing")),
        "--finished",
        f"{folder}/output/provenance.json",
        "--processes",
        "1",
        "fake",
    ]
    environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}/workflow:{ROOT}/src"}
    return subprocess.Popen(
        [sys.executable, launch.__file__, *words], env=environment, stdout=subprocess.PIPE, encoding="utf-8"
    )


def test_the_launched_process_is_the_trainer_itself(tmp_path):
    process = launched(tmp_path, seconds=60)
    assert "1 node(s) x 1 process(es)" in process.stdout.readline()
    assert process.stdout.readline() == "trained\n"
    assert json.loads((tmp_path / "locks/a.1.json").read_text(encoding="utf-8"))["pid"] == process.pid
    assert b"fake" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def until_it_ignores_sigterm(pid: int) -> None:
    ignored = "0"
    while not int(ignored, 16) & 1 << signal.SIGTERM - 1:
        ignored = re.search(r"^SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.MULTILINE)[
            1
        ]
        time.sleep(0.01)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_heart_beats_while_the_job_lives_and_no_longer(tmp_path, ending):
    process = launched(tmp_path, seconds=60)
    process.stdout.readline(), process.stdout.readline()
    lock = tmp_path / "locks/a.1.json"
    os.utime(lock, (0, 0))
    (heart,) = children(process.pid)
    until_it_ignores_sigterm(heart)
    assert b"heartbeat.py" in Path(f"/proc/{heart}/cmdline").read_bytes()
    os.kill(heart, signal.SIGTERM)  # as a cluster does that tells a job, all of it, to save and end
    time.sleep(0.3)
    assert children(process.pid) == [heart]
    process.send_signal(ending)
    process.communicate(timeout=60)  # which waits until nobody holds its output
    deadline = time.monotonic() + 20
    while Path(f"/proc/{heart}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not run_lock.start_of(heart), "the heart outlived its job"


def test_a_heartbeat_renews_every_lock_of_a_job(tmp_path, monkeypatch):
    paths = [tmp_path / "a", tmp_path / "removed", tmp_path / "b"]
    for path in (paths[0], paths[2]):
        path.touch()
        os.utime(path, (0, 0))
    parents = iter([7, 7, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(heartbeat.time, "sleep", lambda _: None)
    monkeypatch.setattr(heartbeat.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["heartbeat.py", "7", *map(str, paths)])
    heartbeat.main()
    assert all(time.time() - path.stat().st_mtime < 60 for path in (paths[0], paths[2]))


def words_of(pid: int) -> list[str]:
    """Of a process that began just now: for a moment there are none."""
    for _ in range(500):
        if words := Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8"):
            return words.split("\0")
        time.sleep(0.01)
    raise AssertionError(f"process {pid} has no words")


def test_a_heart_beats_for_the_locks_that_a_pass_has_while_it_waits_for_another(tmp_path):
    other = launched(tmp_path, "b", seconds=60)
    other.stdout.readline(), other.stdout.readline()
    of_all = launched(tmp_path, "p", members="abc", seconds=60)
    assert f"process {other.pid} on" in of_all.stdout.readline()
    (heart,) = children(of_all.pid)
    assert words_of(heart)[-2:-1] == [f"{tmp_path}/locks/a.1.json"]
    other.kill()
    other.wait()
    of_all.stdout.readline(), of_all.stdout.readline()
    (heart,) = children(of_all.pid)
    assert words_of(heart)[-5:-1] == [f"{tmp_path}/locks/{name}.json" for name in ("a.1", "b.2", "c.1", "p.1")]
    of_all.kill()
    of_all.wait()


def test_a_second_start_waits_and_trains_nothing_that_was_finished_meanwhile(tmp_path):
    first = launched(tmp_path, seconds=60)
    first.stdout.readline(), first.stdout.readline()
    second = launched(tmp_path, seconds=0)
    assert f"process {first.pid} on" in second.stdout.readline()
    (tmp_path / "output").mkdir()
    (tmp_path / "output/provenance.json").write_text(json.dumps({"files": {}}), encoding="utf-8")
    first.kill()
    text, _ = second.communicate(timeout=300)
    assert second.returncode == 0 and "finished by another job" in text and "trained" not in text


def test_a_run_that_is_finished_is_not_trained_again(tmp_path):
    """A job that was queued meanwhile comes late; one that was killed while it published left the former result."""
    for name in ("output", "output.former", "output.copy", "another.former"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "provenance.json").write_text(json.dumps({"files": {}}), encoding="utf-8")
    text, _ = launched(tmp_path, seconds=0).communicate(timeout=300)
    assert "finished by another job" in text and "trained" not in text
    assert {path.name for path in tmp_path.iterdir() if path.name != "locks"} == {"fake.py", "output", "another.former"}


def test_a_client_of_nfs_that_remembers_a_name_as_missing_is_made_to_ask_again(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(os, "listdir", opened.append)
    monkeypatch.setattr(launch, "is_due", lambda finished, again: opened != [finished.parent.parent])
    assert launch.is_finished(tmp_path / "locks/a", tmp_path / "output/provenance.json")


def test_a_second_start_goes_on_where_the_first_has_died(tmp_path):
    first = launched(tmp_path, seconds=60)
    first.stdout.readline(), first.stdout.readline()
    second = launched(tmp_path, seconds=0)
    second.stdout.readline()
    first.kill()
    first.wait()
    start = time.monotonic()
    text, _ = second.communicate(timeout=300)
    assert "trained" in text and time.monotonic() - start < 2 * run_lock.WAIT_SECONDS + 20


def test_the_words_for_one_process_and_for_several():
    command = ["deit.commands.train", "--output", "a b"]
    alone = launch.command_of(Namespace(command=command, nodes=1, processes=1, cpus=1))
    assert alone == [sys.executable, "-m", *command]
    script = launch.command_of(Namespace(command=["workflow/jobs/render.py", "x"], nodes=1, processes=1, cpus=1))
    assert script == [sys.executable, "workflow/jobs/render.py", "x"]
    several = launch.command_of(Namespace(command=command, nodes=1, processes=8, cpus=88))
    assert "--nproc-per-node=8" in several and "--standalone" in several and several[-3:] == command


def test_torchrun_leaves_a_training_the_profiles_time_to_save():
    profile = Path(launch.__file__).parents[1] / "profiles/slurm/config.yaml"
    assert set(re.findall(r"--signal=TERM@(\d+)", profile.read_text(encoding="utf-8"))) == {str(launch.SAVE_SECONDS)}
    assert f"--shutdown-timeout={launch.SAVE_SECONDS}" in launch.torchrun(2)


def test_each_node_is_told_of_another_one(monkeypatch):
    answers = {"squeue": "node[3-5]", "hostnames": "node3\nnode4\nnode5", "node3": "A=1 NodeAddr=10.0.0.3 B=2"}
    answers["node4"] = "NodeAddr=10.0.0.4"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(
        launch, "output_of", lambda *words: next(answers[word] for word in (words[-1], *words) if word in answers)
    )
    script = launch.command_of(Namespace(command=["m"], nodes=3, processes=1, cpus=1))[-1]
    assert "--master-addr=10.0.0.3" in script
    for number, other in enumerate(("10.0.0.4", "10.0.0.3", "10.0.0.3")):
        words = ["bash", "-c", f"{script.partition('exec')[0]} echo $OTHER_NODE"]
        settings = {"env": os.environ | {"SLURM_NODEID": str(number)}, "capture_output": True, "encoding": "utf-8"}
        said = subprocess.run(words, **settings)
        assert said.stdout == f"{other}\n"


def test_several_nodes_need_slurm(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(SystemExit, match="--profile slurm"):
        launch.command_of(Namespace(command=["m"], nodes=2, processes=1, cpus=1))


def test_why_a_pass_gave_up_a_run_is_read_as_it_was_published(tmp_path):
    job = Job(kind="pass", name="passes/small-0", recipe={}, behaviour={})
    with new_folder(tmp_path / "pass", job) as folder:
        (folder / "outcome.json").write_text('{"abc": "step 3: not finite"}', encoding="utf-8")
    assert launch.why_not(tmp_path / "pass", "abc").startswith("step 3: not finite. Its pass trained the others")
    (tmp_path / "pass/outcome.json").write_text('{"abc": "all is well"}', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"outcome\.json: damaged"):
        launch.why_not(tmp_path / "pass", "abc")


# The python of a job --------------------------------------------------------------------------------------------------


@pytest.fixture
def not_activated(tmp_path) -> dict[str, str]:
    """The environment of a user who calls .venv/bin/snakemake, and whose `python` knows nothing of this project."""
    other = tmp_path / "bin/python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho ModuleNotFoundError: another python >&2\nexit 1\n", encoding="utf-8")
    other.chmod(0o755)
    hidden = Path(sys.executable).parent
    kept = [folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != hidden]
    return os.environ | {"PATH": os.pathsep.join([str(other.parent), *kept])}


@pytest.mark.long
def test_jobs_run_with_the_python_that_runs_snakemake(tmp_path, not_activated):
    project = copy_of_project(tmp_path / "clone")
    run = subprocess.run(
        [*COMMAND, "--until", "prepare_data", "--", "data"],
        cwd=project,
        env=not_activated,
        capture_output=True,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert list(project.glob("results/smoke/data/*/provenance.json"))


def test_dvcs_records_are_read_with_it_too(tmp_path, not_activated):
    code = "from call.recorded import cache; print(cache())"
    environment = not_activated | {"PYTHONPATH": f"{ROOT}/src:{ROOT}/workflow"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8"
    )
    assert run.stdout == ".dvc/cache\n", run.stderr

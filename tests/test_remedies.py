"""Remedies that messages tell are tried as told: of a damaged result, with and without DVC; of unreadable records."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from call.recorded import RecordsRefused, recorded_folders, refuse_to_compute_again
from hypothesis import given, settings
from hypothesis import strategies as st

from deit.store.job import Execution, Job
from deit.store.results import new_folder, read_result

ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    **{f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}
SECTION = "results/tiny/students"
STAGE = f"stages:\n  students:\n    cmd: echo\n    outs:\n      - {SECTION}:\n          persist: true\n"
WEIGHTS = "weights.safetensors"


def run(*command: str) -> None:
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)
    assert not done.returncode, done.stdout + done.stderr


def made(seed: int) -> Job:
    """A finished result of some bytes."""
    job = Job(kind="data", name=f"students/seed{seed}", recipe={"seed": seed}, behaviour={})
    output = f"{SECTION}/seed{seed}-{job.digest}"
    job = job.model_copy(update={"execution": Execution(output=output)})
    with new_folder(Path(output), job) as folder:
        (folder / WEIGHTS).write_bytes(bytes([seed]) * 1000)
    return job


def delete(path: Path) -> None:
    path.unlink()


def rot(path: Path) -> None:
    """A bit flips on the disk: size and time stay."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_an_extra_file(path: Path) -> None:
    path.rename(path.with_name("extra"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, list[Job]]:
    """A folder with two results that DVC has recorded, and a third that it has not."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        jobs = [made(1), made(2)]
        Path("dvc.yaml").write_text(STAGE, encoding="utf-8")
        run("git", "init", "-q")
        run("dvc", "init", "-q")
        run("dvc", "config", "cache.type", "reflink,copy")
        run("dvc", "repro", "-q")
        return folder, [*jobs, made(3)]


@pytest.mark.parametrize("damage", [delete, rot, replace_by_an_extra_file])
def test_what_a_refusal_tells_brings_a_recorded_result_back(recorded, monkeypatch, damage):
    folder, jobs = recorded
    monkeypatch.chdir(folder)
    output = Path(jobs[0].execution.output)
    damage(output / WEIGHTS)
    with pytest.raises(SystemExit) as error:
        read_result(output).verify()
    (told,) = re.findall(r"Delete (\S+) \(rm -r\), then give the snakemake command again", str(error.value))
    shutil.rmtree(told)
    with pytest.raises(RecordsRefused) as refused:  # what the snakemake command says
        refuse_to_compute_again("tiny", jobs[:1])
    (command,) = re.findall(r"To get them: +(dvc pull .*)", str(refused.value))
    run(*command.split())
    for job in jobs:
        read_result(Path(job.execution.output)).verify()
    refuse_to_compute_again("tiny", [])


def test_a_result_that_was_never_recorded_is_made_again(recorded, monkeypatch):
    folder, jobs = recorded
    monkeypatch.chdir(folder)
    shutil.rmtree(jobs[2].execution.output)
    refuse_to_compute_again("tiny", jobs[2:])
    made(3)


# Records that cannot be read ------------------------------------------------------------------------------------------

LOCK = f"""schema: '2.0'
stages:
  students:
    cmd: echo
    outs:
    - path: {SECTION}
      hash: md5
      md5: 1b1a70b8bb5d8ee2dc5b61d1d5d8f3a1.dir
      size: 10
      nfiles: 1
"""
BROKEN = {
    "empty": "",
    "blank": "\n\n",
    "half a line": LOCK[: LOCK.index("outs") + 2],
    "no stages": "schema: '2.0'\n",
    "a list": "- a\n",
    "a text": "hello",
    "stages that are none": "stages:\n- a\n",
    "outs that are none": "stages:\n  a:\n    outs: 7\n",
    "a conflict": LOCK.replace(
        "      size: 10\n", "<<<<<<< HEAD\n      size: 10\n=======\n      size: 11\n>>>>>>> b\n"
    ),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_records_that_cannot_be_read_are_one_message_with_a_remedy(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(text, encoding="utf-8")
    with pytest.raises(RecordsRefused, match="^dvc.lock: .*git checkout HEAD -- dvc.lock.*or delete it") as error:
        recorded_folders("tiny")
    assert ("marks of a merge" in str(error.value)) == ("<<<" in text)
    Path("dvc.lock").unlink()
    assert recorded_folders("tiny") == {}


@settings(max_examples=300, deadline=None)
@given(cut=st.integers(0, len(LOCK)), at=st.integers(0, len(LOCK)), edit=st.binary(max_size=3))
def test_any_cut_or_edit_of_the_records_is_read_or_refused(tmp_path_factory, cut, at, edit):
    path = tmp_path_factory.getbasetemp() / "dvc.lock"
    content = LOCK.encode()[:cut]
    path.write_bytes(content[:at] + edit + content[at + len(edit) :])
    try:
        folders = recorded_folders("tiny", path)
    except RecordsRefused as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert all(isinstance(word, str) for pair in folders.items() for word in pair)

"""A result is published whole, and read only as it was published."""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deit import commands
from deit.store import attempts, results
from deit.store.attempts import ATTEMPTS
from deit.store.finished import is_due, seal_at
from deit.store.job import Job
from deit.store.results import (
    ADOPTED,
    Unpublished,
    check_input,
    new_folder,
    read_job,
    read_result,
    write_adopted,
)
from deit.store.seals import sealed, unsealed

JOB = Job(kind="data", name="data/tiny", recipe={"one": 1}, behaviour={})
OTHER = Job(kind="data", name="data/tiny", recipe={"one": 2}, behaviour={})
CONTENT = {"weights.safetensors": b"w" * 100, "below/table.parquet": b"p" * 100}


def made(output: Path, job: Job = JOB, content: dict[str, bytes] = CONTENT) -> Path:
    with new_folder(output, job) as folder:
        (folder / "below").mkdir()
        for name, text in content.items():
            (folder / name).write_bytes(text)
    return output


@pytest.fixture
def folder(tmp_path) -> Path:
    return made(tmp_path / "result")


def refusal(call) -> str:
    with pytest.raises(SystemExit) as error:
        call()
    return str(error.value)


def test_what_was_published_is_read(folder):
    result = read_result(folder)
    assert result.job == JOB and {*CONTENT, "recipe.json"} == set(result.sha256)
    assert {name: result.file(name).read_bytes() for name in CONTENT} == CONTENT
    result.verify()


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)


DAMAGE = {
    "a byte flipped": lambda path, other: flip(path, 50),
    "cut in half": lambda path, other: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path, other: path.write_bytes(b""),
    "another result's": lambda path, other: shutil.copyfile(other, path),
    "gone": lambda path, other: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", [*CONTENT, "recipe.json", "provenance.json"])
def test_damage_is_found_before_use_and_named(tmp_path, folder, name, how):
    other = made(tmp_path / "other", OTHER, {name: text.upper() for name, text in CONTENT.items()})
    DAMAGE[how](folder / name, other / name)
    message = refusal(lambda: read_result(folder).verify())
    if (name, how) == ("provenance.json", "gone"):
        assert message == f"{folder}: no finished result (no provenance.json). Give the snakemake command again."
    else:
        at = "recipe.json" if (name, how) == ("provenance.json", "another result's") else name
        assert message.startswith(f"{folder / at}: damaged: ")
        assert f"Delete {folder} (rm -r), then give the snakemake command again" in message


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 2000), bit=st.integers(0, 7))
def test_every_bit_of_the_record_is_under_its_seal(tmp_path_factory, position, bit):
    folder = made(tmp_path_factory.mktemp("sealed") / "result")
    flip(folder / "provenance.json", position, bit)
    assert "provenance.json: damaged" in refusal(lambda: read_result(folder).verify())


def test_a_file_that_was_not_published_is_not_read(folder):
    (folder / "extra.csv").write_text("a\n", encoding="utf-8")
    assert "not among the files that were published" in refusal(lambda: read_result(folder).file("extra.csv"))


def test_a_result_of_another_job_is_refused(folder):
    user = Job(kind="train", name="student", recipe={}, inputs={"data": OTHER.digest}, behaviour={})
    assert f"was planned with the data {OTHER.digest}" in refusal(lambda: check_input(folder, user, "data"))
    assert check_input(folder, user.model_copy(update={"inputs": {"data": JOB.digest}}), "data").job == JOB


def test_nothing_gets_the_name_of_a_result_before_it_is_on_the_disk(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("os.fsync", lambda descriptor: done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name))
    monkeypatch.setattr(Path, "rename", lambda self, target: done.append(f"named {target.name}"))
    made(tmp_path / "result")
    named = done.index("named result")
    assert {*(Path(name).name for name in CONTENT), "recipe.json", "provenance.json", "below"} <= {*done[:named]}
    assert done[named - 1] == "result.partial" and done[named + 1] == tmp_path.name


def test_an_interrupted_folder_begins_anew_unless_it_is_kept(tmp_path):
    def interrupted(keep: bool, job: Job = JOB) -> set[str]:
        with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "result", job, keep=keep) as folder:
            found = {path.name for path in folder.iterdir()} - {ATTEMPTS}
            (folder / "half").touch()
            raise KeyboardInterrupt
        return found

    assert interrupted(keep=True) == {"recipe.json"}
    assert interrupted(keep=True) == {"recipe.json", "half"}
    longer = JOB.model_copy(update={"execution": JOB.execution.model_copy(update={"minutes": 1440, "made_by": "a"})})
    assert interrupted(keep=True, job=longer) == {"recipe.json", "half"}  # it is to go on, by other means
    left = tmp_path / "result.partial/recipe.json"
    assert Job.model_validate_json(left.read_bytes()) == longer
    left.write_text(left.read_text(encoding="utf-8")[:50], encoding="utf-8")
    assert interrupted(keep=True) == {"recipe.json"}
    assert interrupted(keep=True, job=OTHER) == {"recipe.json"}
    assert interrupted(keep=False, job=OTHER) == {"recipe.json"}
    assert not (tmp_path / "result").exists()


def test_what_later_code_tells_of_how_a_result_was_made_is_no_matter(tmp_path):
    """An edit that is taken back leaves such results; their names are the same."""
    output = made(tmp_path / "result")
    for key, refused in (("execution", False), ("unknown", True)):
        record = json.loads((output / "provenance.json").read_bytes())
        recipe = json.loads((output / "recipe.json").read_bytes())
        recipe |= {"execution": recipe["execution"] | {"later": 1}} if key == "execution" else {key: 1}
        (output / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
        record.pop("seal")
        record["files"]["recipe.json"] = hashlib.sha256((output / "recipe.json").read_bytes()).hexdigest()
        (output / "provenance.json").write_text(json.dumps(sealed(record)), encoding="utf-8")
        if not refused:
            assert read_result(output).job.digest == JOB.digest
            continue
        assert "recipe.json: written by other code than this" in refusal(lambda: read_result(output))


def test_a_result_that_was_finished_meanwhile_stays(tmp_path):
    with new_folder(tmp_path / "result", JOB) as folder:
        (folder / "weights.safetensors").write_bytes(b"later")
        folder.rename(tmp_path / "aside")
        made(tmp_path / "result")
        (tmp_path / "aside").rename(folder)
    assert read_result(tmp_path / "result").file("weights.safetensors").read_bytes() == b"w" * 100
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_result_that_stood_there_at_the_beginning_is_replaced_and_whole_until_then(folder):
    before = read_result(folder)
    with new_folder(folder, JOB) as partial:
        (partial / "weights.safetensors").write_bytes(b"again")
        before.verify()
    assert read_result(folder).file("weights.safetensors").read_bytes() == b"again"
    assert [path.name for path in folder.parent.iterdir()] == ["result"]


def test_a_job_that_fails_leaves_the_result_that_it_was_to_replace(folder):
    with pytest.raises(KeyboardInterrupt), new_folder(folder, JOB):
        raise KeyboardInterrupt
    read_result(folder).verify()


def test_a_result_is_due_until_it_is_whole_or_where_it_is_to_be_made_again(folder, tmp_path):
    finished, again = folder / "provenance.json", tmp_path / "a.again"
    assert not is_due(finished, again)
    again.write_text(seal_at(finished), encoding="utf-8")
    assert is_due(finished, again)
    with new_folder(folder, JOB) as partial:
        (partial / "weights.safetensors").write_bytes(b"again")
    assert not is_due(finished, again), "it was made again"
    (folder / "weights.safetensors").unlink()
    assert is_due(finished, again)
    for content in (b"", b"{", b"[]", b"\xff"):
        finished.write_bytes(content)
        assert is_due(finished, again)
    finished.unlink()
    assert is_due(finished, again)


def test_a_folder_that_holds_another_result_than_its_name_says_is_refused(tmp_path):
    named = made(tmp_path / f"tiny-{JOB.digest}")
    read_result(named).verify()
    swapped = made(tmp_path / f"tiny-{OTHER.digest}")
    assert f"{swapped}: damaged: it holds {JOB.name} ({JOB.digest})" in refusal(lambda: read_result(swapped))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_recipe_is_refused_without_a_traceback(tmp_path, content):
    path = tmp_path / f"{JOB.digest}.json"
    assert "no recipe" in refusal(lambda: read_job(path))
    path.write_bytes(content)
    assert f"{path}: no recipe" in refusal(lambda: read_job(path))


def test_a_full_disk_ends_a_command_with_one_message(tmp_path):
    def command() -> None:
        with open("/dev/full", "wb", buffering=0) as file:  # the system's own disk without room
            file.write(b"x")

    with pytest.raises(OSError, match="No space") as full:
        command()
    message, status = commands.ending(full.value)
    assert "make room, and give the same command again" in message and "\n" not in message and status == 1
    assert commands.ending(OSError(errno.EIO, "something else")) == (f"[Errno {errno.EIO}] something else", 1)


@pytest.mark.parametrize("name", [ADOPTED, ATTEMPTS])
def test_a_damaged_record_of_where_a_state_is_from_is_refused_before_the_work(tmp_path, name):
    """Every byte of it, and a key taken away."""
    resume = tmp_path / "resume"
    write_adopted(tmp_path, [{"from": "a" * 10, "to": "b" * 10, "edited": [], "because": "ü", "at": "-"}])
    attempts.begin(tmp_path, {"host": "ü"}, jobs=1)
    resume.mkdir()
    (resume / "resume.pt").touch()
    whole = (tmp_path / name).read_bytes()
    flips = [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(len(whole))]
    path = resume / name
    for content in (*flips, b"", whole[:-9], b"[]", b'{"seal": 1}'):
        path.write_bytes(content)
        try:
            same = unsealed(content) == unsealed(whole)  # where another blank stands between two words
        except ValueError:
            same = False
        if not same:
            with pytest.raises(SystemExit) as refused, new_folder(tmp_path / "run", JOB, resume):
                pytest.fail("the work was begun")
            assert f"{path}: damaged" in str(refused.value) and "delete this file" in str(refused.value)


@pytest.fixture
def clock(monkeypatch) -> Callable[[float, float], None]:
    """Sets what clocks show: seconds of the world, and those in which the machine was awake."""

    def show(world: float, awake: float) -> None:
        monkeypatch.setattr(attempts.time, "time", lambda: world)
        monkeypatch.setattr(attempts.time, "monotonic", lambda: awake)

    return show


def test_a_result_tells_of_all_attempts_that_left_something(tmp_path, clock):
    resume, made_with = tmp_path / "resume", results.provenance()
    clock(1_000_000.0, 50.0)
    attempts.begin(resume, {**made_with, "machine": "the first"}, jobs=2)
    clock(1_000_060.0, 110.0)
    attempts.saved(resume)
    clock(1_003_000.0, 150.0)  # the lid was closed for a while
    attempts.saved(resume)
    (resume / "resume.pt").touch()
    attempts.begin(resume, {**made_with, "machine": "one that was killed before it saved anything"}, jobs=1)
    clock(1_003_600.0, 1.0)  # started anew
    with new_folder(tmp_path / "run", JOB, resume):
        clock(1_003_607.0, 8.0)
    told = read_result(tmp_path / "run").record
    assert told["seconds"] == 100 / 2 + 7
    assert (told["began"], told["finished"]) == ("1970-01-12T13:46:40Z", "1970-01-12T14:46:47Z")
    assert told["machine"] == made_with["machine"] and told["deterministic_kernels"]
    (earlier,) = told["earlier"]
    assert (earlier["machine"], earlier["seconds"], earlier["began"]) == ("the first", 50.0, "1970-01-12T13:46:40Z")
    assert not {"clock", "jobs"} & (told.keys() | earlier.keys())


def test_attempts_whose_state_was_deleted_are_not_told_of(tmp_path):
    """So a message says to begin afresh."""
    attempts.begin(tmp_path / "resume", {}, jobs=1)
    attempts.saved(tmp_path / "resume")
    with new_folder(tmp_path / "run", JOB, tmp_path / "resume"):
        pass
    assert "earlier" not in read_result(tmp_path / "run").record


def test_a_folder_of_states_that_is_removed_meanwhile_fails_no_job(tmp_path):
    with new_folder(tmp_path / "run", JOB, tmp_path / "resume"):
        shutil.rmtree(tmp_path / "resume")
    assert "earlier" not in read_result(tmp_path / "run").record


def test_a_kept_folder_tells_of_its_attempts_and_holds_none_of_their_notes(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "cache", JOB, keep=True) as folder:
        (folder / "epoch-0000.npy").touch()
        attempts.saved(folder)
        raise KeyboardInterrupt
    with new_folder(tmp_path / "cache", JOB, keep=True):
        pass
    result = read_result(tmp_path / "cache")
    assert len(result.record["earlier"]) == 1 and ATTEMPTS not in result.sha256
    assert not list(result.folder.glob(f"{ATTEMPTS}*"))
    with new_folder(tmp_path / "cache", JOB, keep=True):
        pass
    assert "earlier" not in read_result(tmp_path / "cache").record, "made again, from the beginning"


def test_what_an_interrupted_job_left_under_a_damaged_recipe_is_made_anew(tmp_path):
    for content in (b"\xff\xfe", b"", b"{}"):
        folder = Unpublished(tmp_path / "cache", JOB, keep=True).folder
        (folder / "epoch-0000.npy").touch()
        assert (Unpublished(tmp_path / "cache", JOB, keep=True).folder / "epoch-0000.npy").exists()
        (folder / "recipe.json").write_bytes(content)
        anew = Unpublished(tmp_path / "cache", JOB, keep=True).folder
        assert {path.name for path in anew.iterdir()} == {"recipe.json", ATTEMPTS}

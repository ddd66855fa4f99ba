"""Whatever is wrong with a file of params/ as a file, a study is planned or refused by one clear message, soon."""

import os
import socket
import time
from pathlib import Path

import pytest
from mutants import SECONDS, refusal
from plan.studies import plan_study

FILES = {
    "empty": (b"", "expected keys and values"),
    "a comment only": (b"# nothing\n", "expected keys and values"),
    "a list": (b"- a\n- b\n", "expected keys and values"),
    "a word": (b"fashion\n", "expected keys and values"),
    "not UTF-8": (b"extends: fashion\ntitle: caf\xe9\n", "UTF-8"),
    "UTF-16": ("extends: fashion\n".encode("utf-16"), "UTF-8"),
    "a control character": (b"title: \x07\n", "not valid YAML"),
    "an open bracket": (b"a: [1, 2\n", "line 2: not valid YAML"),
    "a tab": (b"views:\n\tflip: 1\n", "line 2: not valid YAML"),
    "two documents": (b"title: a\n---\ntitle: b\n", "line 2: not valid YAML"),
    "a key twice": (b"extends: fashion\ntitle: a\ntitle: b\n", "line 3: the key 'title' stands twice"),
    "a key twice, deep": (b"extends: fashion\nviews:\n  flip: 1\n  flip: 0\n", "line 4: the key 'flip' stands twice"),
    "a merge key twice": (b"a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n", "line 4: two merge keys"),
    "a merge of no mapping": (b"extends: fashion\nviews: {<<: 1}\n", "not valid YAML"),
    "an unknown anchor": (b"extends: fashion\nviews: *nowhere\n", "line 2: not valid YAML"),
    "an anchor in itself": (b"extends: fashion\nmodels: &a {deit-x: *a}\n", "models.deit-x: contains itself"),
    "a tag": (b"extends: fashion\ntitle: !!python/object/apply:os.getcwd []\n", "line 2: the tag !!python/object"),
    "a tag of nobody": (b"extends: fashion\ntitle: !foo a\n", "line 2: the tag !foo means nothing here; remove it"),
    "a tag of YAML's": (b"extends: fashion\nmodels: !!set {a}\n", "line 2: the tag !!set means nothing here"),
    "half a character": (b'extends: fashion\ntitle: "a\\ud800"\n', "title: has half of a character in it"),
    "half a character in a key": (b'extends: fashion\nmodels: {"a\\ud800": {}}\n', "has half of a character in it"),
    "a key of no text": (b"extends: fashion\nmodels: {16: {}}\n", "models.16: a key must be text"),
    "a list as key": (b"extends: fashion\n? [1, 2]\n: 3\n", "a key must be text"),
    "a mapping as key": (b"extends: fashion\n? {a: 1}\n: 3\n", ""),
    "no date": (b"extends: fashion\ntitle: 2020-13-45\n", ""),
    "a date": (b"extends: fashion\ntitle: 2020-12-24\n", "title: is a date to YAML; write it in quotation marks"),
    "a thousand brackets": (b"a: " + 1000 * b"[" + 1000 * b"]" + b"\n", "lie more than 50 deep in each other"),
    "a tag as bare as YAML's": (b"extends: fashion\ntitle: !<str> a\n", "line 2: the tag str means nothing here"),
    "lists as deep as may be": (b"extends: fashion\na: " + 48 * b"[" + b"1" + 48 * b"]" + b"\n", "a: unknown key"),
    "lists too deep": (
        b"extends: fashion\na: " + 49 * b"[" + b"1" + 49 * b"]" + b"\n",
        "lie more than 50 deep in each other",
    ),
    "a number of 5000 digits": (b"extends: fashion\nseeds: {default: [" + 5000 * b"9" + b"]}\n", ""),
    "a hexadecimal number without end": (b"extends: fashion\nseeds: {default: [0x" + 5000 * b"f" + b"]}\n", ""),
    "no number": (b"extends: fashion\nviews: {mixup: .nan}\n", "views.mixup: must be a finite number"),
    "infinity": (b"extends: fashion\nstudents: {learning_rate: .inf}\n", "students.learning_rate: must be a finite"),
    "a checksum like a number": (
        b"extends: fashion\ndata: {training: {listing: 12e45678}}\n",
        "data.training.listing: must be a finite number, found inf; correct it, or write",
    ),
    "infinity in a list": (b"extends: fashion\ndata: {mean: [-.inf]}\n", "data.mean.0: must be a finite number"),
    "extends itself": (b"extends: mutant\n", "extends: mutant -> mutant is a circle"),
    "extends in a circle": (b"extends: other\n", "extends: mutant -> other -> mutant is a circle"),
    "extends a missing study": (b"extends: fashoin\n", "extends: there is no study 'fashoin'"),
    "extends a path": (b"extends: ../params/fashion\n", "extends: '../params/fashion' is no name"),
    "extends a list": (b"extends: [fashion]\n", "extends: must be the name of one study"),
    "extends nothing": (b"extends:\n", "missing; add it"),
    "extends a number": (b"extends: 5\n", "extends: must be the name of one study"),
    "extends the choice of the study": (b"extends: study\n", "extends: there is no study 'study'"),
    "a thousand laughs": (
        b"extends: fashion\na: &a [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join(9 * [b"*%c" % (c - 1)])) for c in range(ord("b"), ord("j")))
        + b"title: *i\n",
        "make more than 20,000 values",
    ),
}


@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES)
def test_a_damaged_file_is_refused(params, content, words):
    (params / "mutant.yaml").write_bytes(content)
    (params / "other.yaml").write_text("extends: mutant\n", encoding="utf-8")
    message = refusal("mutant", params)
    assert message and words in message


def test_a_folder_is_no_study(params):
    (params / "folder.yaml").mkdir(exist_ok=True)
    assert "cannot be read" in refusal("folder", params)


def chain(params: Path, length: int) -> None:
    for number in range(length):
        (params / f"link{number}.yaml").write_text(f"extends: link{number + 1}\n", encoding="utf-8")
    (params / f"link{length}.yaml").write_text("extends: fashion\n", encoding="utf-8")


def test_a_chain_of_files_has_an_end(params):
    chain(params, 1000)
    start = time.perf_counter()
    message = refusal("link0", params)
    for path in params.glob("link*.yaml"):
        path.unlink()
    assert "extends: is file 10 of a chain from link0; join some of them." in message
    assert time.perf_counter() - start < SECONDS


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "/dev/zero", "a dangling link", "a folder", "too large"])
def test_only_a_regular_file_is_opened(params, kind, monkeypatch):
    monkeypatch.chdir(params)  # names of sockets are short
    path = Path("odd.yaml")
    end = path.unlink
    match kind:
        case "a pipe":
            os.mkfifo(path)
        case "a socket":
            socket.socket(socket.AF_UNIX).bind(str(path))
        case "/dev/zero" | "a dangling link":
            path.symlink_to("/dev/zero" if kind == "/dev/zero" else "nowhere")
        case "a folder":
            path.mkdir()
            end = path.rmdir
        case _:
            path.write_text(f"title: {'x' * 70_000}\n", encoding="utf-8")
    start = time.perf_counter()
    message = refusal("odd", Path())
    end()
    assert "odd.yaml: cannot be read: " in message and time.perf_counter() - start < SECONDS


LAUGHS = {
    "merge keys": lambda last: b"<<: [%s]" % b", ".join(9 * [b"*a%d" % last]),
    "aliases": lambda last: b"b: [%s]" % b", ".join(9 * [b"*a%d" % last]),
    "merge keys, each with one more": lambda last: b"<<: *a%d, k%d: 1" % (last, last),
}


@pytest.mark.parametrize("kind", LAUGHS)
def test_aliases_and_merge_keys_do_not_multiply(params, kind):
    lines = [b"a%d: &a%d {%s}\n" % (number, number, LAUGHS[kind](number - 1)) for number in range(1, 300)]
    (params / "mutant.yaml").write_bytes(b"a0: &a0 {k: 1}\n" + b"".join(lines))
    start = time.perf_counter()
    assert "its aliases and merge keys make more than 20,000 values" in refusal("mutant", params)
    assert time.perf_counter() - start < SECONDS


def test_anchors_and_merge_keys_work(params):
    (params / "mutant.yaml").write_text(
        """
extends: fashion
models:
  vit-x: &x
    kind: transformer
    timm: vit_tiny_patch16_224
    arguments: &arguments {embed_dim: 16, num_heads: 1, depth: 1, patch_size: 5}
  vit-y: {<<: *x, stochastic_depth: 1e-1}
  vit-z: {<<: [*x, {timm: a}], arguments: {<<: *arguments, depth: 2}}
""",
        encoding="utf-8",
    )
    models = plan_study("mutant", params).study.models
    assert models["vit-y"].stochastic_depth == 0.1 and models["vit-z"].timm == "vit_tiny_patch16_224"
    assert models["vit-z"].arguments == {**models["vit-x"].arguments, "depth": 2}


def test_a_number_without_a_point_is_a_number(params):
    (params / "mutant.yaml").write_text(
        "extends: fashion\nstudents: {runs: {deit-s/hard: {learning_rate: 1e-3}}}\n", encoding="utf-8"
    )
    assert plan_study("mutant", params).study.students.runs["deit-s/hard"]["learning_rate"] == 0.001

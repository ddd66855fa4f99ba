"""Whatever stands in params/, a study is planned or refused by one ParamsError: a line a mistake, file, key, remedy."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan.passes import plan_passes
from plan.studies import plan_study
from pydantic import ValidationError
from ruamel.yaml import YAML
from study.params import ParamsError
from study.study import Study
from study.types_told import TOLD, explained

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ("fashion", "smoke", "cifar10", "imagenet", "released")
LINE = re.compile(r"(?P<file>\S*(params|\.yaml)): (?P<key>.+?): (?P<text>.{10,})")
SECONDS = 5
"""In which a message comes: one, on a machine that has nothing else to do."""
FOREIGN = (
    "a/b",
    "../x",
    "..",
    "",
    " ",
    "a b",
    "a'b",
    'a"b',
    "$(id)",
    "a;b",
    "a.b",
    "a\nb",
    "a\0b",
    "-a",
    "ä",
    "機",
    "*",
    "{a}",
)
"""Names that are no names of files, of wildcards or of the shell."""


@pytest.fixture(scope="module")
def params(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "params"
    shutil.copytree(ROOT / "params", folder)
    return folder


def refusal(study: str, params: Path) -> str:
    """What the user is told; empty where the study is planned. Fails where it is not one clear message."""
    try:
        assert plan_study(study, params).jobs
    except ParamsError as error:
        for line in str(error).split("\n"):
            assert LINE.fullmatch(line) and line.isprintable() and len(line) < 1000, repr(line)
        return str(error)
    return ""


def write(params: Path, layer: dict, base: str = "fashion") -> None:
    """mutant.yaml: `layer` over a study."""
    yaml = YAML(typ="safe", pure=True)
    with (params / "mutant.yaml").open("w", encoding="utf-8") as file:
        yaml.dump({"extends": base} | layer, file)


def nested(path: tuple[str, ...], value: object) -> dict:
    for part in reversed(path):
        value = {part: value}
    return value


# Files ----------------------------------------------------------------------------------------------------------------

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
    "a thousand brackets": (b"a: " + 1000 * b"[" + 1000 * b"]" + b"\n", "not valid YAML"),
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


# Values ---------------------------------------------------------------------------------------------------------------

VALUES = [
    ("models.deit-ti.arguments.patch_size", 0),
    ("models.deit-ti.arguments.patch_size", -5),
    ("models.deit-ti.arguments.patch_size", "five"),
    ("models.deit-ti.arguments.embed_dim", "x"),
    ("models.deit-ti.arguments.num_heads", 0),
    ("models.deit-ti.arguments.num_heads", 1.5),
    ("models.deit-ti.arguments.depth", [4]),
    ("models.deit-ti.arguments", {"a": {"b": 1}}),
    ("models.deit-ti.arguments.checkpoint_path", "weights.pth"),
    ("models.deit-ti.arguments.pretrained", True),
    ("models.deit-ti.arguments.features_only", True),
    ("models.deit-ti.arguments.img_size", 40),
    ("models.deit-ti.timm", "local-dir:weights"),
    ("models.deit-ti.timm", "../weights"),
    ("models.deit-ti.timm_distilled", "hf-hub:timm/deit_tiny_distilled_patch16_224"),
    ("models.deit-ti", None),
    ("models", None),
    ("models", []),
    ("supervision.labels", None),
    ("supervision.two-class-tokens", None),
    ("supervision", None),
    ("supervision", {"labels": None, "soft": None, "hard": None, "token": None, "two-class-tokens": None}),
    ("students.epochs", 10**12),
    ("students.epochs", 10**400),
    ("students.learning_rate", 1e300),
    ("students.epochs", 2.5),
    ("students.epochs", True),
    ("students.batch", 0),
    ("students.mix_group", 10**30),
    ("students.runs", {"deit-ti": {"epochs": 10**12}}),
    ("students.runs", {"deit-ti": {"learning_rate": "fast"}}),
    ("students.runs", {"deit-ti": {"learning_rate": [1]}}),
    ("students.runs", {"deit-ti": {"runs": 1}}),
    ("students.runs", {"deit-ti/hard-from-regnety-16gf": {"epochs": 1}}),
    ("students.runs", {"regnety-4gf": {"epochs": 1}}),
    ("students.runs", {"deit-ti/": {"epochs": 1}}),
    ("teachers.runs", {"deit-ti": {"epochs": 1}}),
    ("seeds.default", []),
    ("seeds.default", [-1]),
    ("seeds.default", [10**9]),
    ("seeds.default", "0"),
    ("seeds.models.deit-ti", [0.5]),
    ("resolutions.finetuning", 15),
    ("resolutions.pretraining", 10**9),
    ("data.mean", []),
    ("data.std", []),
    ("data.std", ["x"]),
    ("data.classes", 10**9),
    ("data.training.images", 0),
    ("data.training.files.images", "../../README.md"),
    ("data.training.files.images", "."),
    ("data.training.files.images", "a\0b"),
    ("data.root", "$(id)"),
    ("data.root", "~nobody/x"),
    ("data.root", ""),
    ("data.evaluation.test", None),
    ("data.evaluation", {"test": None, "corrupted": None}),
    ("teacher_logits.chunk_epochs", 0),
    ("execution.models", {"deit-ti": {"gpus": "all"}}),
    ("execution.models", {"deit-ti": {"gpus": 7}}),
    ("execution.models", {"deit-ti": {"output": 1}}),
    ("execution.default", {"minutes": 0}),
    ("execution.default", {"folders": 1}),
    ("execution.default.save_minutes", "soon"),
    ("execution.teachers", 5),
    ("tables", None),
    ("tables", dict.fromkeys(
        ("table_1", "table_2", "table_3", "table_4", "table_5", "token_analysis", "accuracy_throughput"))),
    ("tables.table_5", None),
    ("tables.table_1.models", []),
    ("tables.table_2.teachers", []),
    ("tables.table_2.supervision", "nothing"),
    ("tables.table_2.supervision", "token"),
    ("tables.table_3.rows", {"labels": None, "soft": None, "hard": None, "token": None}),
    ("tables.table_3.students", []),
    ("tables.table_3.students", ["deit-ti", "deit-ti"]),
    ("tables.table_3.students", "deit-ti"),
    ("tables.table_5.students", ["../x"]),
    ("tables.table_5.decimals", 99),
    ("tables.token_analysis.students", []),
    ("tables.token_analysis.images", -1),
    ("title", ["a"]),
    ("title", "x" * 60_000),
    ("views.scale", [1.0, 0.5]),
    ("views.scale", [1.0]),
    ("views.repeats", 10**20),
    ("data.evaluation.corrupted.corruption.seed", -5),
]  # fmt: skip

REFUSED = [
    ("students.epochs", True, "students.epochs: must be a whole number, found true"),
    ("students.learning_rate", True, "students.learning_rate: must be a number, found true"),
    ("students.runs", {"deit-ti": {"learning_rate": True}}, "students.runs.deit-ti.learning_rate: must be a number"),
    ("data.mean", [True], "data.mean.0: must be a number, found true"),
    ("data.channels", True, "data.channels: must be a number, found true"),
    ("seeds.default", [False], "seeds.default.0: must be a whole number, found false"),
    ("students.epochs", 4.0, "students.epochs: must be a whole number, found 4.0; write 4."),
    ("students.epochs", "4", "students.epochs: must be a whole number, found '4'"),
    ("tables.table_1.models", ["deit-ti", "deit-s", "deit-ti"], "tables.table_1.models: has 'deit-ti' twice; remove"),
    ("tables.table_2.teachers", ["regnety-4gf"] * 2, "tables.table_2.teachers: has 'regnety-4gf' twice"),
    ("tables.table_3.finetuned", ["deit-s"] * 2, "tables.table_3.finetuned: has 'deit-s' twice"),
    ("tables.table_5.convnets", ["regnety-4gf"] * 2, "tables.table_5.convnets: has 'regnety-4gf' twice"),
    ("tables.token_analysis.control", ["deit-ti"] * 2, "tables.token_analysis.control: has 'deit-ti' twice"),
    (
        "seeds.models",
        {"regnety-4gf": [0, 1]},
        "seeds.models.regnety-4gf: 'regnety-4gf' is a convnet, and a convnet has",
    ),
    ("resolutions.finetuning", 10**9, "resolutions.finetuning: must be at most 4,096"),
    ("evaluation.crop", 1e-9, "evaluation.crop: must be at least 0.1"),
    ("views.scale", [0.5, 1.5], "views.scale.1: must be at most 1"),
    ("views.scale", [1e-30, 1], "views.scale.0: must be at least 0.0001"),
    ("students.weight_decay", 1e308, "students.weight_decay: must be at most 1000"),
    ("supervision.soft.temperature", 1e-300, "supervision.soft.temperature: must be at least 0.01"),
    ("models.regnety-4gf.arguments.wa", 1e300, "models.regnety-4gf.arguments.wa: must be "),
    ("execution.default.mem_mb", 10**15, "execution.default.mem_mb: must be at most 1,000,000,000"),
    *(
        (f"execution.passes.{name}", {"runs": ["*"]}, f"execution.passes.{name}: names hold letters")
        for name in ("a.b", "../x", "{x}")
    ),
]


@pytest.mark.parametrize(("key", "value", "words"), REFUSED, ids=[f"{key}={value}"[:60] for key, value, _ in REFUSED])
def test_a_value_that_nobody_could_mean_is_refused(params, key, value, words):
    *path, last = ("execution", "passes", key[17:]) if key.startswith("execution.passes.") else key.split(".")
    write(params, nested((*path, last), value))
    assert words in refusal("mutant", params)


def test_the_gpus_of_a_pass_share_its_mix_groups(params):
    write(params, {"execution": {"passes": {"ti": {"runs": ["deit-ti/*"], "resources": {"gpus": 4}}}}})
    plan = plan_study("mutant", params)
    with pytest.raises(ParamsError) as refused:
        plan_passes(plan, everything=True)
    text = "mutant.yaml: execution.passes.ti.resources.gpus: 4 GPUs (or CPU nodes) cannot share the 2 mix groups"
    assert text in str(refused.value) and str(refused.value).endswith("choose gpus x nodes that divide 2.")


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("arguments.checkpoint_path", "weights.pth", "remove it"),
        ("arguments.pretrained", True, "remove it"),
        ("arguments.features_only", True, "remove it"),
        ("arguments.img_size", 40, "comes from resolutions; remove it"),
        ("timm", "local-dir:weights", "without source or path"),
        ("timm_distilled", "hf-hub:timm/x", "without source or path"),
    ],
)
def test_weights_that_no_digest_knows_are_refused_with_their_key(params, key, value, remedy):
    write(params, nested(("models", "deit-ti", *key.split(".")), value))
    message = refusal("mutant", params)
    assert f"models.deit-ti.{key}: " in message and remedy in message


@pytest.mark.parametrize(("key", "value"), VALUES, ids=[f"{key}={value}"[:60] for key, value in VALUES])
def test_a_value_is_planned_or_refused(params, key, value):
    write(params, nested(tuple(key.split(".")), value))
    message = refusal("mutant", params)
    assert not message or key.split(".")[0] in message or "tables" in message


# The shapes of the schema, filled with anything ----------------------------------------------------------------------

SCHEMA = Study.model_json_schema()


def places(schema: dict, content: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key that the schema knows, through the names that the study gives to models, supervisions and sets."""
    if path:
        yield path
    for part in [schema, *schema.get("anyOf", [])]:
        part = SCHEMA["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        inside = content if isinstance(content, dict) else {}
        for key, value in part.get("properties", {}).items():
            yield from places(value, inside.get(key), (*path, key))
        named = [*part.get("patternProperties", {}).values(), part.get("additionalProperties")]
        for value in filter(lambda value: isinstance(value, dict), named):
            for key in inside:
                yield from places(value, inside[key], (*path, key))


def parts(schema: dict, place: str = "") -> Iterator[tuple[str, dict]]:
    """Every part of the schema with its place."""
    yield place, schema
    for key, value in schema.items():
        for name, part in (
            value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
        ):
            if isinstance(part, dict):
                yield from parts(part, f"{place}/{key}/{name}")
        if isinstance(value, dict):
            yield from parts(value, f"{place}/{key}")


PARTS = dict(parts(SCHEMA))


def test_every_number_of_the_schema_has_two_bounds():
    numbers = {
        place: part for place, part in PARTS.items() if part.get("type") in ("integer", "number") and "enum" not in part
    }
    assert len(numbers) > 60
    low, high = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
    unbound = [place for place, part in numbers.items() if not (part.keys() & {*low} and part.keys() & {*high})]
    assert unbound == []


def test_no_list_of_the_schema_allows_a_thing_twice():
    """But for those of a number a channel, of a least and a most, of two moments, and of a map of classes.

    In that map no class may stand twice in all lists together, which convention_problems looks at.
    """
    lists = {place: part for place, part in PARTS.items() if part.get("type") == "array" and "uniqueItems" not in part}
    names = {place.removesuffix("/anyOf/0").rpartition("/")[2] for place in lists}
    assert names <= {"mean", "std", "scale", "ratio", "betas", "classes", "items"}


def test_every_name_of_the_schema_has_a_pattern():
    """Keys that the user chooses are names, patterns of runs, or those that another check knows."""
    maps = {place: part for place, part in PARTS.items() if part.get("type") == "object" and "properties" not in part}
    free = [place for place, part in maps.items() if not part.keys() & {"patternProperties", "propertyNames"}]
    known = {"arguments", "views", "model", "students", "finetuning", "runs"}  # checks.py and variant_checks.py
    assert {place.rpartition("/")[2] for place in free} - known <= {"additionalProperties"}, free


PYTHONS = re.compile(
    r"\b(Input|instance|validation|pydantic|valid \w+|None|NoneType|True|False|dict|list_type|tuple|str|int|float)\b"
)
WRONG = (None, True, "x", "", 7, 2.5, -1, 10**12, 1e300, [], [None], [True, "x", "x"], {}, {"x": None}, {"x": {"y": 1}})


def replaced(content: object, path: tuple[str, ...], value: object) -> object:
    """The content with another value at a place."""
    if not path:
        return value
    inside = content if isinstance(content, dict) else {}
    return inside | {path[0]: replaced(inside.get(path[0]), path[1:], value)}


def test_no_word_of_pydantics_reaches_a_user():
    content = plan_study("released", ROOT / "params").study.model_dump(mode="json")
    for section in (content, content["data"], content["released"]):  # one of a kind is enough
        for key in {"models", "supervision", "evaluation", "weights"} & section.keys():
            if "precision" not in section[key]:
                section[key] = dict([*section[key].items()][:1])
    content["variants"] = {"a": {"students": {"epochs": 2}}}
    content["tables"]["ablation"] = {"student": "deit-s", "supervision": "labels", "rows": {"a": "a"}}
    content["execution"]["passes"] = {"a": {"runs": ["*"]}}
    seen = set()
    for path in sorted(set(places(SCHEMA, content))):
        for value in WRONG:
            mutant = replaced(content, path, value)
            try:
                Study.model_validate(mutant)
            except ValidationError as error:
                seen |= {detail["type"] for detail in error.errors()}
                for problem in explained(error, mutant, "", Study):
                    said = f"{problem.text}; {problem.remedy}"
                    assert not PYTHONS.search(said), (path, value, said)
    assert (
        seen - TOLD.keys() <= {"extra_forbidden", "missing", "remedy", "string_pattern_mismatch"} and len(seen) > 15
    ), seen


PLACES = {name: sorted(set(places(SCHEMA, plan_study(name, ROOT / "params").study.model_dump()))) for name in STUDIES}
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 10**9, 10**20, -(10**400), 1e-300, 1e300]))
TEXTS = st.one_of(st.sampled_from(FOREIGN), st.text(st.characters(codec="utf-8"), max_size=8))
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(TEXTS, inside, max_size=2)),
    max_leaves=4,
)
MUTATIONS = st.sampled_from(STUDIES).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(PLACES[name])))


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(MUTATIONS, ANYTHING)
def test_anything_anywhere_is_planned_or_refused(params, mutation, value):
    study, path = mutation
    write(params, nested(path, value), study)
    refusal("mutant", params)


# Names ----------------------------------------------------------------------------------------------------------------


def renamed(kind: str, name: str) -> dict:
    """A layer in which a model, a supervision or an evaluation set of that name is used."""
    content = plan_study("fashion", ROOT / "params").study.model_dump(mode="json")
    return {
        "models": {
            "models": {name: content["models"]["deit-ti"]},
            "tables": {"table_1": {"models": [name]}, "table_3": {"students": [name, "deit-s"]}},
        },
        "supervision": {
            "supervision": {name: content["supervision"]["hard"]},
            "tables": {"table_3": {"rows": {"hard": name}}},
        },
        "evaluation": {
            "data": {"evaluation": {name: content["data"]["evaluation"]["test"]}, "primary": name},
        },
    }[kind]


RESERVED = {
    "models": ("a-from-b", "deit-b-token", "deit-b-finetuned", "convnets", "x" * 65),
    "supervision": ("a-from-b", "x" * 65),
    "evaluation": ("images_per_second", "x" * 65),
}


@pytest.mark.parametrize("kind", RESERVED)
def test_names_that_cannot_work_are_refused(params, kind):
    for name in (*FOREIGN, *RESERVED[kind]):
        write(params, renamed(kind, name))
        message = refusal("mutant", params)
        assert "rename it" in message or "control character in it; remove it" in message, (name, message)


@pytest.mark.parametrize("kind", RESERVED)
def test_other_names_work(params, kind):
    for name in ("vit", "Vit_2-b", "2020", "x" * 64, "fromage"):
        write(params, renamed(kind, name))
        assert not refusal("mutant", params), name


@pytest.mark.parametrize("name", FOREIGN)
def test_a_study_has_a_name_too(params, name):
    assert "is no name of a study" in refusal(name, params)


# Snakemake ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "study", "words"),
    [
        ("extends: fashion\nmodels: {deit.x: {kind: transformer, timm: x}}\n", "mutant", "models.deit.x: "),
        ("extends: mutant\n", "mutant", "mutant -> mutant is a circle"),
        ("", "../x", "'../x' is no name of a study"),
        ("", "2020", "there is no study '2020'"),
    ],
    ids=["a name with a dot", "a circle", "a path", "a number"],
)
def test_snakemake_starts_nothing_and_shows_no_traceback(tmp_path, layer, study, words):
    for name in ("Snakefile", "workflow", "src", "local"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "params/mutant.yaml").write_text(layer, encoding="utf-8")
    command = ["-m", "snakemake", "--profile", "local", "-n", "--config", f"study={study}", "--", "all_tables"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, encoding="utf-8", env=environment
    )
    text = run.stdout + run.stderr
    assert run.returncode and words in text and "Traceback" not in text and "rule " not in text, text
    assert not (tmp_path / "results").exists()

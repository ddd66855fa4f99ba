"""Rules between the keys of a study that types alone cannot say; each broken one gives its key and a remedy."""

import difflib
import re
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from deit.recipes import unknown_to_digests
from planning.study import TRAINING_PHASES, Objective, Optimisation, Phase, PublishedWeights, Split, Study, Table3

Problem = tuple[str, str]  # dotted key, what is wrong and what to do

LONGEST_CACHE = 10_000
"""Caching jobs of one teacher and stream, each a job of the DAG."""
COUNTS = ("embed_dim", "num_heads", "depth", "patch_size")
"""Arguments of timm's transformers that are whole numbers from 1."""


def problems(study: Study) -> Iterator[Problem]:
    """Every broken rule of a study whose types are right."""
    yield from data_problems(study)
    for name in study.models:
        yield from model_problems(study, name)
    for phase in TRAINING_PHASES:
        yield from phase_problems(study, phase)
    yield from supervision_problems(study)
    yield from seed_problems(study)
    yield from execution_problems(study)
    yield from table_problems(study)
    yield from cache_problems(study)
    yield from released_problems(study)
    if study.resolutions.finetuning <= (low := study.resolutions.pretraining):
        yield "resolutions.finetuning", f"must be larger than resolutions.pretraining, {low}; correct one of them."
    for key in ("scale", "ratio"):
        smallest, largest = getattr(study.views, key)
        if smallest > largest:
            yield f"views.{key}", f"runs from {smallest} to {largest}; give the smaller number first."


def unknown(key: str, name: str, known: Iterable[str], what: str) -> Iterator[Problem]:
    """A reference to something that is not defined."""
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"defined are {', '.join(known) or 'none'}."
        yield key, f"there is no {what} '{name}'; {hint}"


def data_problems(study: Study) -> Iterator[Problem]:
    data = study.data
    for key in ("mean", "std"):
        if len(getattr(data, key)) != data.channels:
            yield f"data.{key}", f"needs {data.channels} numbers, one a channel (data.channels)."
    if min(data.std, default=1) <= 0:
        yield "data.std", "must be positive."
    if data.held_out >= data.training.images:
        yield "data.held_out", f"must be less than the {data.training.images} training images."
    yield from split_problems("data.training", data.training, data.reader)
    for name, evaluation in data.evaluation.items():
        if name == "images_per_second":
            yield f"data.evaluation.{name}", "is a column of Table 5 already; rename it."
        yield from split_problems(f"data.evaluation.{name}.split", evaluation.split, evaluation.reader)
        if evaluation.held_out and evaluation.held_out != data.held_out:
            yield f"data.evaluation.{name}.held_out", f"must equal data.held_out ({data.held_out})."
    yield from unknown("data.primary", data.primary, data.evaluation, "evaluation set")


def split_problems(key: str, split: Split, reader: str) -> Iterator[Problem]:
    batches = {f"batch_{number}" for number in range(1, 1 + max(1, len(split.files)))}
    if reader == "timm" and not split.folder:
        yield f"{key}.folder", "the timm reader needs a folder or .tar below data.root."
    elif reader == "idx" and set(split.files) != {"images", "labels"}:
        yield f"{key}.files", "the idx reader needs the file names of 'images' and 'labels'."
    elif reader == "cifar" and set(split.files) != batches:
        yield f"{key}.files", "the cifar reader needs the file names of 'batch_1', 'batch_2' and so on, none left out."
    elif reader != "timm":
        yield from checksum_problems(key, split, reader)
    if reader == "cifar" and split.folder:
        yield f"{key}.folder", "is for the timm reader; set it to null, as the cifar reader has its files."


def checksum_problems(key: str, split: Split, reader: str) -> Iterator[Problem]:
    if stray := sorted(split.md5.keys() - split.files.keys()):
        yield f"{key}.md5", f"{', '.join(stray)}: no such file is below `files`; add it there, or remove the checksum."
    # They are Python pickles: only what is declared is opened.
    if reader == "cifar" and (bare := sorted(part for part in split.files if not split.md5.get(part))):
        yield f"{key}.md5", f"the cifar reader opens declared files only; give the MD5 of {', '.join(bare)}."


def model_problems(study: Study, name: str) -> Iterator[Problem]:
    key, model = f"models.{name}", study.models[name]
    if "-from-" in name:
        yield key, "'-from-' separates supervision and teacher in names of runs; rename it."
    if name.endswith(("-token", "-finetuned")) or name == "convnets":
        yield key, "tables add -token and -finetuned to names, and convnets are predicted as 'convnets'; rename it."
    names = {part: getattr(model, part) for part in ("timm", "timm_distilled")}
    yield from ((f"{key}.{part}", text) for part, text in unknown_to_digests(names, model.arguments))
    if model.kind == "transformer":
        yield from transformer_problems(study, name)
    elif model.timm_distilled:
        yield f"{key}.timm_distilled", "a convnet has no distillation token; remove the key."


def transformer_problems(study: Study, name: str) -> Iterator[Problem]:
    key, arguments = f"models.{name}.arguments", study.models[name].arguments
    given = {part: arguments[part] for part in COUNTS if part in arguments}
    counts = {part: value for part, value in given.items() if type(value) is int and value >= 1}
    for part in given:
        if part not in counts:
            yield f"{key}.{part}", f"must be a whole number from 1, found {given[part]!r}; correct the value."
    if counts != given:
        return
    width, heads = counts.get("embed_dim"), counts.get("num_heads")
    if (width is None) != (heads is None):
        yield key, "give embed_dim and num_heads together."
    elif width and heads and width % heads:
        yield f"{key}.num_heads", f"{heads} heads do not divide the width {width}; choose a divisor."
    patch = counts.get("patch_size", 16)
    for phase in ("pretraining", "finetuning"):
        if (resolution := getattr(study.resolutions, phase)) % patch:
            yield f"resolutions.{phase}", f"{resolution} pixels are no multiple of {name}'s patch size {patch}."


def supervision_problems(study: Study) -> Iterator[Problem]:
    for name in study.supervision:
        if "-from-" in name:
            yield f"supervision.{name}", "'-from-' separates supervision and teacher in names of runs; rename it."
    losses = {objective.loss for objective in study.supervision.values()}
    needed = {"labels": "every teacher learns from labels"}
    if study.tables.token_analysis:
        needed["token"] = "the token analysis reads its runs"
    if study.tables.token_analysis and study.tables.token_analysis.control:
        needed["two-class-tokens"] = "tables.token_analysis.control reads its runs"
    for loss, reason in needed.items():
        if loss not in losses:
            yield "supervision", f"none has the loss {loss}, and {reason}; add {loss}: {{loss: {loss}}}."


def phase_problems(study: Study, name: str) -> Iterator[Problem]:
    phase: Phase = getattr(study, name)
    if phase.batch % phase.mix_group:
        yield f"{name}.batch", f"{phase.batch} is not divisible by mix_group {phase.mix_group}; change one of them."
    elif phase.batch // phase.mix_group < study.views.repeats:
        yield (
            f"{name}.mix_group",
            f"{phase.batch // phase.mix_group} groups a batch let repeats of one image mix with each other; "
            f"make at least views.repeats = {study.views.repeats} groups.",
        )
    if phase.mix_group % 2 and (study.views.mixup or study.views.cutmix):
        yield f"{name}.mix_group", "must be even: views are mixed in pairs."
    images = study.data.training.images - study.data.held_out
    if phase.batch > (phase.epoch_views or images):
        yield f"{name}.batch", f"is larger than the {phase.epoch_views or images} views of an epoch."
    if phase.epoch_views > images * study.views.repeats:
        yield f"{name}.epoch_views", f"is more than {images} training images x {study.views.repeats} repeats."
    for run, override in phase.runs.items():
        yield from override_problems(study, name, run, override)
    yield from schedule_problems(name, phase)


def override_problems(study: Study, phase: str, run: str, override: dict) -> Iterator[Problem]:
    key = f"{phase}.runs.{run}"
    model, slash, supervision = run.partition("/")
    yield from unknown(key, model, study.models, "model")
    if model in study.models and (right := phase_of(study, model, phase)) != phase:
        yield key, f"a {study.models[model].kind} is not trained in this phase; move it to {right}.runs."
    if slash:
        yield from unknown(key, supervision, study.supervision, "supervision")
    for field in override:
        yield from unknown(f"{key}.{field}", field, Optimisation.model_fields, "key of a phase that a run may change,")
    try:
        yield from schedule_problems(key, study.phase(phase, model, supervision))
    except ValidationError as error:
        for detail in error.errors():
            if detail["type"] != "extra_forbidden" and detail["loc"][0] in override:
                yield f"{key}.{detail['loc'][0]}", f"{detail['msg'].lower()}, found {detail['input']!r}; correct it."


def phase_of(study: Study, model: str, other: str) -> str:
    """The phase that trains a model at the resolution of another phase."""
    low, high = ("teachers", "adaptation") if study.models[model].kind == "convnet" else ("students", "finetuning")
    return low if other in ("teachers", "students") else high


def schedule_problems(key: str, phase: Phase) -> Iterator[Problem]:
    if phase.warmup_epochs > phase.epochs:
        yield f"{key}.warmup_epochs", f"warm-up ({phase.warmup_epochs}) is longer than the training ({phase.epochs})."


def released_problems(study: Study) -> Iterator[Problem]:
    """Published weights: of runs that the study may have, and with all that their source needs."""
    if not study.released:
        return
    for name, weights in study.released.weights.items():
        key, sizes = f"released.weights.{name}", [str(size) for _, size in study.resolutions]
        model, supervision, resolution = [*name.split("/"), "", ""][:3]
        if name.count("/") != 2 or resolution not in sizes:
            yield key, f"names no run; write model/supervision/resolution, with a resolution of {' or '.join(sizes)}."
            continue
        yield from unknown(key, model, study.models, "model")
        yield from unknown(key, supervision, study.supervision, "supervision")
        if supervision in study.supervision:
            yield from token_problems(study, [model], study.supervision[supervision], f"released.weights.{name}")
        yield from source_problems(key, study.released.source, weights)
    for name, seeds in {"default": study.seeds.default, **study.seeds.models}.items():
        if len(seeds) != 1:
            key = "seeds.default" if name == "default" else f"seeds.models.{name}"
            yield key, "published weights have no seeds; give one number."


def source_problems(key: str, source: str, weights: PublishedWeights) -> Iterator[Problem]:
    if source == "hub":
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", weights.hub):
            yield (
                f"{key}.hub",
                f"{weights.hub!r} is no owner/name of the hub; correct it, or set source: files.",
            )
        return
    if not weights.file:
        yield f"{key}.file", "missing; name the file below released.root, or set released.source: hub."
    if not re.fullmatch(r"[0-9a-f]{8,64}", weights.sha256):
        yield (
            f"{key}.sha256",
            f"{weights.sha256!r} is not 8 to 64 hex digits; give those of the file.",
        )


def seed_problems(study: Study) -> Iterator[Problem]:
    for name, seeds in {"default": study.seeds.default, **study.seeds.models}.items():
        key = "seeds.default" if name == "default" else f"seeds.models.{name}"
        if len(set(seeds)) != len(seeds):
            yield key, "a seed stands twice; every seed is one run."
    for name in study.seeds.models:
        yield from unknown(f"seeds.models.{name}", name, study.models, "model")


def execution_problems(study: Study) -> Iterator[Problem]:
    for name in study.execution.models:
        yield from unknown(f"execution.models.{name}", name, study.models, "model")
    for phase in TRAINING_PHASES:
        groups = getattr(study, phase).batch // getattr(study, phase).mix_group
        for model in ("", *(name for name in study.execution.models if name in study.models)):
            resources = study.resources(phase, model)
            ranks = max(resources.gpus, 1) * resources.nodes
            key = f"execution.models.{model}" if model else f"execution.{phase}"
            trained = not model or phase_of(study, model, phase) == phase
            if trained and groups % ranks:
                yield f"{key}.gpus", f"{ranks} GPUs (or CPU nodes) cannot share {groups} mix groups a batch evenly."


def cache_problems(study: Study) -> Iterator[Problem]:
    logits, tables = study.teacher_logits, study.tables
    for phase in ("students", "finetuning"):
        every = [getattr(study, phase).epochs, *(run.get("epochs") for run in getattr(study, phase).runs.values())]
        longest = max(epochs for epochs in every if isinstance(epochs, int))
        if longest > LONGEST_CACHE * logits.chunk_epochs:
            text = f"{longest} epochs of {phase} are more than {LONGEST_CACHE} caching jobs; make the chunks larger."
            yield "teacher_logits.chunk_epochs", text
    if logits.soft != "top-k":
        return
    if not 0 < logits.k < study.data.classes:
        yield "teacher_logits.k", f"must lie between 1 and {study.data.classes - 1} (classes - 1) for soft: top-k."
    named = [name for table in (tables.table_3, tables.epochs) if table for name in table.rows.values()]
    named += [tables.table_2.supervision] if tables.table_2 else []
    soft = {name: study.supervision[name] for name in named if name in study.supervision}
    soft = {name: objective.temperature for name, objective in soft.items() if objective.teacher_says == "logits"}
    if len(set(soft.values())) > 1:
        found = ", ".join(f"{name} {temperature:g}" for name, temperature in soft.items())
        text = f"a top-k cache is exact at one temperature only, and there are {found}; keep all logits (soft: dense)."
        yield "teacher_logits.soft", text


def table_problems(study: Study) -> Iterator[Problem]:
    """References from the tables to models, and what these models must be."""
    for table, key, names, kind in table_references(study):
        for name in names:
            yield from unknown(f"tables.{table}.{key}", name, study.models, "model")
            if kind and name in study.models and study.models[name].kind != kind:
                yield f"tables.{table}.{key}", f"'{name}' is a {study.models[name].kind}; name a {kind}."
    tables = study.tables
    if not any(table for _, table in tables):
        yield "tables", "names no table, so nothing would run; add one (docs/params.md describes them)."
    if tables.table_2:
        key, name = "tables.table_2.supervision", tables.table_2.supervision
        yield from unknown(key, name, study.supervision, "supervision")
        if name in study.supervision and not study.supervision[name].teacher_says:
            yield key, "takes no teacher; Table 2 compares teachers (the paper: hard)."
        if name in study.supervision:
            yield from token_problems(study, [tables.table_2.student], study.supervision[name], "Table 2's student")
    if tables.table_3:
        yield from table_3_problems(study, tables.table_3)
    for table in ("table_4", "table_5", "token_analysis", "accuracy_throughput"):
        if getattr(tables, table) and not tables.table_3:
            yield f"tables.{table}", "reads the runs of table_3; add tables.table_3."
    for ending, name in tables.table_5.longer.items() if tables.table_5 else ():
        yield from unknown(f"tables.table_5.longer.{ending}", name, study.supervision, "supervision")
        if name in study.supervision and study.supervision[name].loss != "token":
            yield f"tables.table_5.longer.{ending}", f"'{name}' has the loss {study.supervision[name].loss}, not token."
    if tables.accuracy_throughput and not tables.table_5:
        yield "tables.accuracy_throughput", "draws the networks of table_5; add tables.table_5."


def token_problems(study: Study, models: Iterable[str], objective: Objective, what: str) -> Iterator[Problem]:
    """Models without a variant for an objective of two tokens."""
    for name in models:
        if objective.tokens == 2 and name in study.models and not study.models[name].timm_distilled:
            yield f"models.{name}.timm_distilled", f"missing; {what} needs a distillation token."


def table_3_problems(study: Study, table: Table3) -> Iterator[Problem]:
    needed = {"labels": "labels", "soft": "soft", "soft_mean": "soft", "hard": "hard", "token": "token"}
    for row, name in table.rows.items():
        yield from unknown(f"tables.table_3.rows.{row}", name, study.supervision, "supervision")
        if name in study.supervision and study.supervision[name].loss != needed[row]:
            yield (
                f"tables.table_3.rows.{row}",
                f"'{name}' has the loss {study.supervision[name].loss}, not {needed[row]}.",
            )
    for row in ("labels", "token"):
        if row not in table.rows:
            yield f"tables.table_3.rows.{row}", "missing; Tables 4 and 5 read these runs."
    for name in table.finetuned:
        if name not in table.students:
            yield "tables.table_3.finetuned", f"'{name}' is not among tables.table_3.students."
    if (token := study.supervision.get(table.rows.get("token", ""))) is None:
        return
    yield from token_problems(study, table.students, token, "the token row of Table 3")
    yield from token_problems(study, table.finetuned, token, "the token row of Table 3")
    if study.tables.table_4:
        yield from token_problems(study, [study.tables.table_4.student], token, "Table 4's student")
    if study.tables.table_5:
        yield from token_problems(study, study.tables.table_5.students, token, "Table 5's student")
        yield from token_problems(study, study.tables.table_5.finetuned, token, "Table 5's student")
    if study.tables.token_analysis:
        analysed = [*study.tables.token_analysis.students, *study.tables.token_analysis.control]
        yield from token_problems(study, analysed, token, "the token analysis")


def table_references(study: Study) -> Iterator[tuple[str, str, list[str], str]]:
    tables = study.tables
    if tables.table_1:
        yield "table_1", "models", tables.table_1.models, "transformer"
    if tables.table_2:
        yield "table_2", "student", [tables.table_2.student], "transformer"
        yield "table_2", "teachers", tables.table_2.teachers, ""
    if tables.table_3:
        yield "table_3", "teacher", [tables.table_3.teacher], ""
        yield "table_3", "students", tables.table_3.students, "transformer"
    if tables.table_4:
        yield "table_4", "teacher", [tables.table_4.teacher], ""
        yield "table_4", "student", [tables.table_4.student], "transformer"
    if tables.table_5:
        yield "table_5", "convnets", tables.table_5.convnets, "convnet"
        yield "table_5", "students", tables.table_5.students, "transformer"
        yield "table_5", "finetuned", tables.table_5.finetuned, "transformer"
    if tables.ablation:
        yield "ablation", "student", [tables.ablation.student], "transformer"
    if tables.epochs:
        yield "epochs", "teacher", [tables.epochs.teacher], ""
        yield "epochs", "student", [tables.epochs.student], "transformer"
    if tables.token_analysis:
        yield "token_analysis", "students", tables.token_analysis.students, "transformer"
        yield "token_analysis", "control", tables.token_analysis.control, "transformer"

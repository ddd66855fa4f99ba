"""Rules between the keys of a study that types alone cannot say; each broken one gives its key and a remedy."""

import difflib
from collections.abc import Iterable, Iterator

from pydantic import ValidationError
from study import TRAINING_PHASES, Optimisation, Phase, Study

Problem = tuple[str, str]  # dotted key, what is wrong and what to do


def problems(study: Study) -> Iterator[Problem]:
    """Every broken rule of a study whose types are right."""
    yield from data_problems(study)
    for name in study.models:
        yield from model_problems(study, name)
    for phase in TRAINING_PHASES:
        yield from phase_problems(study, phase)
    for name in study.supervision:
        if "-from-" in name:
            yield f"supervision.{name}", "'-from-' separates supervision and teacher in names of runs; rename it."
    yield from seed_problems(study)
    yield from execution_problems(study)
    yield from table_problems(study)
    if study.teacher_logits.soft == "top-k" and not 0 < study.teacher_logits.k < study.data.classes:
        yield "teacher_logits.k", f"must lie between 1 and {study.data.classes - 1} (classes - 1) for soft: top-k."


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
    if min(data.std) <= 0:
        yield "data.std", "must be positive."
    if data.held_out >= data.training.images:
        yield "data.held_out", f"must be less than the {data.training.images} training images."
    yield from split_problems("data.training", data.training, data.reader)
    for name, evaluation in data.evaluation.items():
        yield from split_problems(f"data.evaluation.{name}.split", evaluation.split, evaluation.reader)
        if evaluation.held_out and evaluation.held_out != data.held_out:
            yield f"data.evaluation.{name}.held_out", f"must equal data.held_out ({data.held_out})."
    yield from unknown("data.primary", data.primary, data.evaluation, "evaluation set")


def split_problems(key: str, split, reader: str) -> Iterator[Problem]:
    if reader == "idx" and set(split.files) != {"images", "labels"}:
        yield f"{key}.files", "the idx reader needs the file names of 'images' and 'labels'."
    if reader == "timm" and not split.folder:
        yield f"{key}.folder", "the timm reader needs a folder or .tar below data.root."


def model_problems(study: Study, name: str) -> Iterator[Problem]:
    key, model = f"models.{name}", study.models[name]
    if "/" in name or "-from-" in name:
        yield key, "names of models hold neither '/' nor '-from-'; rename it."
    width, heads = model.arguments.get("embed_dim"), model.arguments.get("num_heads")
    if (width is None) != (heads is None):
        yield f"{key}.arguments", "give embed_dim and num_heads together."
    elif width and heads and width % heads:
        yield f"{key}.arguments.num_heads", f"{heads} heads do not divide the width {width}; choose a divisor."
    patch = model.arguments.get("patch_size", 16)
    for phase in ("pretraining", "finetuning"):
        resolution = getattr(study.resolutions, phase)
        if model.kind == "transformer" and resolution % patch:
            yield f"resolutions.{phase}", f"{resolution} pixels are no multiple of {name}'s patch size {patch}."
    if model.kind == "convnet" and model.timm_distilled:
        yield f"{key}.timm_distilled", "a convnet has no distillation token; remove the key."


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
    model, _, supervision = run.partition("/")
    yield from unknown(key, model, study.models, "model")
    if supervision:
        yield from unknown(key, supervision.partition("-from-")[0], study.supervision, "supervision")
    for field in override:
        yield from unknown(f"{key}.{field}", field, Optimisation.model_fields, "key of a phase that a run may change,")
    try:
        yield from schedule_problems(key, study.phase(phase, model, supervision))
    except ValidationError as error:
        for detail in error.errors():
            if detail["type"] != "extra_forbidden":
                yield f"{key}.{detail['loc'][0]}", f"{detail['msg'].lower()}, found {detail['input']!r}."


def schedule_problems(key: str, phase: Phase) -> Iterator[Problem]:
    if phase.warmup_epochs > phase.epochs:
        yield f"{key}.warmup_epochs", f"warm-up ({phase.warmup_epochs}) is longer than the training ({phase.epochs})."


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
    for phase in type(study.execution).model_fields:
        if phase in ("default", "models", "passes"):
            continue
        try:
            resources = study.resources(phase)
        except ValidationError as error:
            for detail in error.errors():
                yield f"execution.{phase}.{detail['loc'][0]}", f"{detail['msg'].lower()}; see params/schema.json."
            continue
        if phase in TRAINING_PHASES:
            yield from rank_problems(study, phase, max(resources.gpus, 1) * resources.nodes)


def rank_problems(study: Study, phase: str, ranks: int) -> Iterator[Problem]:
    groups = getattr(study, phase).batch // getattr(study, phase).mix_group
    if groups % ranks:
        yield f"execution.{phase}.gpus", f"{ranks} GPUs (or CPU nodes) cannot share {groups} mix groups a batch evenly."


def table_problems(study: Study) -> Iterator[Problem]:
    """References from the tables to models, and what these models must be."""
    for table, key, names, kind in table_references(study):
        for name in names:
            yield from unknown(f"tables.{table}.{key}", name, study.models, "model")
            if kind and name in study.models and study.models[name].kind != kind:
                yield f"tables.{table}.{key}", f"'{name}' is a {study.models[name].kind}; name a {kind}."
    tables = study.tables
    if tables.table_2:
        yield from unknown("tables.table_2.supervision", tables.table_2.supervision, study.supervision, "supervision")
        if not (
            study.supervision.get(tables.table_2.supervision) or next(iter(study.supervision.values()))
        ).teacher_says:
            yield "tables.table_2.supervision", "takes no teacher; Table 2 compares teachers (the paper: hard)."
    if tables.table_3:
        yield from table_3_problems(study)
    for table in ("table_4", "table_5", "token_analysis", "accuracy_throughput"):
        if getattr(tables, table) and not tables.table_3:
            yield f"tables.{table}", "reads the runs of table_3; add tables.table_3."


def table_3_problems(study: Study) -> Iterator[Problem]:
    table = study.tables.table_3
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
    for name in table.students:
        if name in study.models and "token" in table.rows and not study.models[name].timm_distilled:
            yield f"models.{name}.timm_distilled", "missing; the token row of Table 3 needs a distillation token."


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
    if tables.token_analysis:
        yield "token_analysis", "students", tables.token_analysis.students, "transformer"
        yield "token_analysis", "control", tables.token_analysis.control, "transformer"

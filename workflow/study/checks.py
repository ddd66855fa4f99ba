"""Rules between the keys of a study that types alone cannot say; each broken one gives its key and a remedy."""

import re
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from deit.networks.recipes import unknown_to_digests
from study.data import data_problems
from study.problem import Problem, listed, short, unknown
from study.study import TRAINING_PHASES, Objective, Optimisation, Phase, PublishedWeights, Study, Table3
from study.types_told import explained
from study.views import resolution_problems, view_problems

LONGEST_CACHE = 10_000
"""Caching jobs of one teacher and stream, each a job of the DAG."""
COUNTS = ("embed_dim", "num_heads", "depth", "patch_size")
"""Arguments of timm's transformers that are whole numbers from 1."""
MOST_OF_A_COUNT = 100_000


def problems(study: Study) -> Iterator[Problem]:
    """Every broken rule of a study whose types are right."""
    yield from data_problems(study.data)
    for name in study.models:
        yield from model_problems(study, name)
    yield from patch_problems(study, study.models)
    for phase in TRAINING_PHASES:
        yield from phase_problems(study, phase)
    yield from supervision_problems(study)
    yield from seed_problems(study)
    yield from execution_problems(study)
    yield from table_problems(study)
    yield from cache_problems(study)
    yield from released_problems(study)
    yield from resolution_problems(study.resolutions)
    yield from view_problems(study.views)


def unknown_model(study: Study, key: str, name: str) -> Iterator[Problem]:
    return unknown(key, name, study.models, "model", "models")


def unknown_supervision(study: Study, key: str, name: str) -> Iterator[Problem]:
    return unknown(key, name, study.supervision, "supervision", "supervision")


def model_problems(study: Study, name: str) -> Iterator[Problem]:
    key, model = f"models.{name}", study.models[name]
    if "-from-" in name:
        yield Problem(key, "'-from-' separates supervision and teacher in names of runs", "rename it.")
    if name.endswith(("-token", "-finetuned")) or name == "convnets":
        text = "tables add -token and -finetuned to names, and convnets are predicted as 'convnets'"
        yield Problem(key, text, "rename it.")
    names = {part: getattr(model, part) for part in ("timm", "timm_distilled")}
    for part, text, remedy in unknown_to_digests(names, model.arguments):
        yield Problem(f"{key}.{part}", text, remedy)
    if model.kind == "transformer":
        yield from transformer_problems(study, name)
    elif model.timm_distilled:
        text = "a convnet has no distillation token"
        yield Problem(f"{key}.timm_distilled", text, "remove the key.", (f"{key}.kind",))


def transformer_problems(study: Study, name: str) -> Iterator[Problem]:
    key, arguments = f"models.{name}.arguments", study.models[name].arguments
    wrong = [part for part in COUNTS if part in arguments and not is_count(arguments[part])]
    for part in wrong:
        text = f"must be a whole number from 1 to {MOST_OF_A_COUNT:,}, found {short(arguments[part])}"
        yield Problem(f"{key}.{part}", text, "correct the value.")
    width, heads = arguments.get("embed_dim"), arguments.get("num_heads")
    if wrong:
        return
    if (width is None) != (heads is None):
        yield Problem(key, "has one of embed_dim and num_heads", "give them together.")
    elif isinstance(width, int) and isinstance(heads, int) and width % heads:
        text = f"{heads} heads do not divide the width {width}"
        yield Problem(f"{key}.num_heads", text, "choose a divisor.", (f"{key}.embed_dim",))


def is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MOST_OF_A_COUNT


def patch_problems(study: Study, names: Iterable[str]) -> Iterator[Problem]:
    """Resolutions that patches do not fill, once for all transformers of a patch size."""
    sizes: dict[int, list[str]] = {}
    for name in names:
        patch = study.models[name].arguments.get("patch_size", 16)
        if study.models[name].kind == "transformer" and isinstance(patch, int) and is_count(patch):
            sizes.setdefault(patch, []).append(name)
    for patch, models in sizes.items():
        keys = tuple(f"models.{name}.arguments.patch_size" for name in models)
        for phase in ("pretraining", "finetuning"):
            pixels = getattr(study.resolutions, phase)
            if below := pixels % patch:
                text = f"{pixels} pixels are no multiple of the patch size {patch} of {listed(models)}"
                smaller = f"{pixels - below} or " if pixels > patch else ""
                remedy = f"choose {smaller}{pixels - below + patch}, or another patch_size."
                yield Problem(f"resolutions.{phase}", text, remedy, keys)


def supervision_problems(study: Study) -> Iterator[Problem]:
    for name in study.supervision:
        if "-from-" in name:
            text = "'-from-' separates supervision and teacher in names of runs"
            yield Problem(f"supervision.{name}", text, "rename it.")
    losses = {objective.loss for objective in study.supervision.values()}
    needed: dict[str, tuple[str, tuple[str, ...]]] = {"labels": ("every teacher learns from labels", ())}
    if study.tables.token_analysis:
        needed["token"] = ("the token analysis reads its runs", ("tables.token_analysis",))
    if study.tables.token_analysis and study.tables.token_analysis.control:
        key = "tables.token_analysis.control"
        needed["two-class-tokens"] = (f"{key} reads its runs", (key,))
    for loss, (reason, keys) in needed.items():
        if loss not in losses:
            text = f"none has the loss {loss}, and {reason}"
            yield Problem("supervision", text, f"add {loss}: {{loss: {loss}}}.", keys)


def phase_problems(study: Study, name: str) -> Iterator[Problem]:
    phase: Phase = getattr(study, name)
    batch, group = f"{name}.batch", f"{name}.mix_group"
    if phase.batch % phase.mix_group:
        text = f"{phase.batch} is not divisible by mix_group {phase.mix_group}"
        yield Problem(batch, text, "change one of them.", (group,))
    elif (groups := phase.batch // phase.mix_group) < study.views.repeats:
        text = f"{groups} groups a batch let repeats of one image mix with each other"
        remedy = f"make at least views.repeats = {study.views.repeats} groups: smaller groups, or a larger batch."
        yield Problem(group, text, remedy, (batch, "views.repeats"))
    if phase.mix_group % 2 and (study.views.mixup or study.views.cutmix):
        text = f"{phase.mix_group} is odd, and views are mixed in pairs: it must be even"
        yield Problem(group, text, "choose an even number.", ("views.mixup", "views.cutmix"))
    yield from length_of_epoch_problems(study, name, phase)
    for run, override in phase.runs.items():
        yield from override_problems(study, name, run, override)
    yield from schedule_problems(name, phase)


def length_of_epoch_problems(study: Study, name: str, phase: Phase) -> Iterator[Problem]:
    """An epoch has a batch of views at least, and no more than the images give."""
    images, batch, views = study.data.training.images - study.data.held_out, f"{name}.batch", f"{name}.epoch_views"
    counted = ("data.training.images", "data.held_out")
    if phase.epoch_views > (most := images * study.views.repeats):
        text = f"{phase.epoch_views} is more than {images} training images x {study.views.repeats} repeats"
        yield Problem(views, text, f"set {views} to {most} or less; 0: as many as images.", (*counted, "views.repeats"))
    elif phase.batch > (there := phase.epoch_views or images):
        text = f"{phase.batch} is larger than the {there} views of an epoch"
        others = (views,) if phase.epoch_views else (*counted, views)
        yield Problem(batch, text, f"set {batch} to {there} or less.", others)


def override_problems(study: Study, phase: str, run: str, override: dict) -> Iterator[Problem]:
    key = f"{phase}.runs.{run}"
    model, slash, supervision = run.partition("/")
    yield from unknown_model(study, key, model)
    if model in study.models and (right := phase_of(study, model, phase)) != phase:
        text = f"a {study.models[model].kind} is not trained in this phase"
        yield Problem(key, text, f"move it to {right}.runs.", (f"models.{model}.kind",))
    if slash:
        yield from unknown_supervision(study, key, supervision)
    foreign = [field for field in override if field not in Optimisation.model_fields]
    for field in foreign:
        yield from unknown(f"{key}.{field}", field, Optimisation.model_fields, "key of a phase that a run may change,")
    if foreign:
        return
    try:
        yield from schedule_problems(key, study.phase(phase, model, supervision), phase)
    except ValidationError as error:
        yield from (problem for problem in explained(error, override, key, Phase) if problem.key != key)


def phase_of(study: Study, model: str, other: str) -> str:
    """The phase that trains a model at the resolution of another phase."""
    low, high = ("teachers", "adaptation") if study.models[model].kind == "convnet" else ("students", "finetuning")
    return low if other in ("teachers", "students") else high


def schedule_problems(key: str, phase: Phase, general: str = "") -> Iterator[Problem]:
    """`key` is that of a phase, or of single runs of the `general` phase."""
    if phase.warmup_epochs > phase.epochs:
        text = f"warm-up ({phase.warmup_epochs:g} epochs) is longer than the training ({phase.epochs})"
        others = [f"{key}.epochs", *(f"{general}.{part}" for part in ("warmup_epochs", "epochs") if general)]
        yield Problem(f"{key}.warmup_epochs", text, "shorten it.", tuple(others))


def released_problems(study: Study) -> Iterator[Problem]:
    """Published weights: of runs that the study may have, and with all that their source needs."""
    if not study.released:
        return
    for name, weights in study.released.weights.items():
        key, sizes = f"released.weights.{name}", [str(size) for _, size in study.resolutions]
        model, supervision, resolution = [*name.split("/"), "", ""][:3]
        if name.count("/") != 2 or resolution not in sizes:
            remedy = f"write model/supervision/resolution, with a resolution of {' or '.join(sizes)}."
            yield Problem(key, "names no run", remedy, ("resolutions.pretraining", "resolutions.finetuning"))
            continue
        yield from unknown_model(study, key, model)
        yield from unknown_supervision(study, key, supervision)
        if supervision in study.supervision:
            yield from token_problems(study, [model], study.supervision[supervision], f"released.weights.{name}")
        yield from source_problems(key, study.released.source, weights)
    for key, seeds in seed_lists(study):
        if len(seeds) != 1:
            yield Problem(key, "published weights have no seeds", "give one number.", ("released",))


def source_problems(key: str, source: str, weights: PublishedWeights) -> Iterator[Problem]:
    if source == "hub":
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", weights.hub):
            text = f"{short(weights.hub)} is no owner/name of the hub"
            yield Problem(f"{key}.hub", text, "correct it, or set source: files.", ("released.source",))
        return
    if not weights.file:
        remedy = "name the file below released.root, or set released.source: hub."
        yield Problem(f"{key}.file", "missing", remedy, ("released.source",))
    if not re.fullmatch(r"[0-9a-f]{8,64}", weights.sha256):
        text = f"{short(weights.sha256)} is not 8 to 64 hex digits"
        yield Problem(f"{key}.sha256", text, "give those of the file.", ("released.source",))


def seed_lists(study: Study) -> Iterator[tuple[str, list[int]]]:
    """(key, seeds) of the default and of the models that have others."""
    yield "seeds.default", study.seeds.default
    yield from ((f"seeds.models.{name}", seeds) for name, seeds in study.seeds.models.items())


def seed_problems(study: Study) -> Iterator[Problem]:
    for name, seeds in study.seeds.models.items():
        key = f"seeds.models.{name}"
        yield from unknown_model(study, key, name)
        if name in study.models and study.models[name].kind == "convnet" and seeds != [0]:
            text = f"'{name}' is a convnet, and a convnet has one seed, 0"
            yield Problem(key, text, "remove the key; several seeds are for students.", (f"models.{name}.kind",))


def execution_problems(study: Study) -> Iterator[Problem]:
    for name in study.execution.models:
        yield from unknown_model(study, f"execution.models.{name}", name)
    for phase in TRAINING_PHASES:
        groups = getattr(study, phase).batch // getattr(study, phase).mix_group
        for model in ("", *(name for name in study.execution.models if name in study.models)):
            resources = study.resources(phase, model)
            ranks = max(resources.gpus, 1) * resources.nodes
            trained = not model or phase_of(study, model, phase) == phase
            if trained and groups % ranks:
                yield uneven(study, phase, model, ranks, groups)


def uneven(study: Study, phase: str, model: str, ranks: int, groups: int) -> Problem:
    """GPUs that do not share a batch evenly."""
    sections = [f"execution.{name}" for name in ("default", phase)] + ([f"execution.models.{model}"] if model else [])
    key, *others = [f"{section}.{part}" for section in reversed(sections) for part in ("gpus", "nodes")]
    text = f"{ranks} GPUs (or CPU nodes) cannot share {groups} mix groups a batch evenly"
    remedy = f"choose gpus x nodes that divide {groups}, or another {phase}.mix_group."
    return Problem(key, text, remedy, (*others, f"{phase}.batch", f"{phase}.mix_group"))


def cache_problems(study: Study) -> Iterator[Problem]:
    logits = study.teacher_logits
    for phase in ("students", "finetuning"):
        every = [getattr(study, phase).epochs, *(run.get("epochs") for run in getattr(study, phase).runs.values())]
        longest = max(epochs for epochs in every if type(epochs) is int)
        if longest > LONGEST_CACHE * logits.chunk_epochs:
            text = f"{longest} epochs of {phase} are more than {LONGEST_CACHE} caching jobs"
            others = (f"{phase}.epochs", f"{phase}.runs")
            yield Problem("teacher_logits.chunk_epochs", text, "make the chunks larger.", others)


def table_problems(study: Study) -> Iterator[Problem]:
    """References from the tables to models, and what these models must be."""
    for table, key, names, kind in table_references(study):
        for name in names:
            yield from unknown_model(study, f"tables.{table}.{key}", name)
            if kind and name in study.models and study.models[name].kind != kind:
                text = f"'{name}' is a {study.models[name].kind}"
                yield Problem(f"tables.{table}.{key}", text, f"name a {kind}.", (f"models.{name}.kind",))
    tables = study.tables
    if not any(table for _, table in tables):
        yield Problem("tables", "names no table, so nothing would run", "add one (docs/params.md describes them).")
    if tables.table_2:
        key, name = "tables.table_2.supervision", tables.table_2.supervision
        yield from unknown_supervision(study, key, name)
        if name in study.supervision and not study.supervision[name].teacher_says:
            text = f"'{name}' takes no teacher, and Table 2 compares teachers"
            yield Problem(key, text, "name one that does (the paper: hard).", (f"supervision.{name}.loss",))
        if name in study.supervision:
            yield from token_problems(study, [tables.table_2.student], study.supervision[name], "Table 2's student")
    if tables.table_3:
        yield from table_3_problems(study, tables.table_3)
    for table in ("table_4", "table_5", "token_analysis", "accuracy_throughput"):
        if getattr(tables, table) and not tables.table_3:
            remedy = f"add tables.table_3, or set tables.{table} to null."
            yield Problem(f"tables.{table}", "reads the runs of table_3", remedy, ("tables.table_3",))
    for ending, name in tables.table_5.longer.items() if tables.table_5 else ():
        key = f"tables.table_5.longer.{ending}"
        yield from unknown_supervision(study, key, name)
        yield from loss_problems(study, key, name, "token")
    if tables.accuracy_throughput and not tables.table_5:
        remedy = "add tables.table_5, or set tables.accuracy_throughput to null."
        yield Problem("tables.accuracy_throughput", "draws the networks of table_5", remedy, ("tables.table_5",))


def loss_problems(study: Study, key: str, name: str, needed: str) -> Iterator[Problem]:
    """A supervision of another loss than the row is for."""
    if name in study.supervision and (loss := study.supervision[name].loss) != needed:
        text = f"'{name}' has the loss {loss}, not {needed}"
        yield Problem(key, text, f"name a supervision of the loss {needed}.", (f"supervision.{name}.loss",))


def token_problems(study: Study, models: Iterable[str], objective: Objective, what: str) -> Iterator[Problem]:
    """Models without a variant for an objective of two tokens."""
    for name in models:
        if objective.tokens == 2 and name in study.models and not study.models[name].timm_distilled:
            text = f"missing, and {what} needs a distillation token"
            remedy = "give timm's name of the variant that has one, as deit_tiny_distilled_patch16_224."
            yield Problem(f"models.{name}.timm_distilled", text, remedy)


def table_3_problems(study: Study, table: Table3) -> Iterator[Problem]:
    needed = {"labels": "labels", "soft": "soft", "soft_mean": "soft", "hard": "hard", "token": "token"}
    for row, name in table.rows.items():
        key = f"tables.table_3.rows.{row}"
        yield from unknown_supervision(study, key, name)
        yield from loss_problems(study, key, name, needed[row])
    for row in ("labels", "token"):
        if row not in table.rows:
            text = "missing, and Tables 4 and 5 read these runs"
            yield Problem(f"tables.table_3.rows.{row}", text, f"add {row}: NAME of a supervision.")
    for name in table.finetuned:
        if name not in table.students:
            text = f"'{name}' is not among tables.table_3.students"
            yield Problem("tables.table_3.finetuned", text, "add it there, or remove it.", ("tables.table_3.students",))
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

"""Rules between the keys of a study that types alone cannot say; each broken one gives its key and a remedy."""

import difflib
import re
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from deit.networks.recipes import unknown_to_digests
from deit.tables.checks import Reference, token_variants
from study.problem import Problem, listed, short
from study.study import TRAINING_PHASES, Optimisation, Phase, PublishedWeights, Split, Study
from study.table_checks import found, references
from study.types_told import explained

LONGEST_CACHE = 10_000
"""Caching jobs of one teacher and stream, each a job of the DAG."""
COUNTS = ("embed_dim", "num_heads", "depth", "patch_size")
"""Arguments of timm's transformers that are whole numbers from 1."""
MOST_OF_A_COUNT = 100_000


def problems(study: Study) -> Iterator[Problem]:
    """Every broken rule of a study whose types are right."""
    yield from data_problems(study)
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
    if study.resolutions.finetuning <= (low := study.resolutions.pretraining):
        text = f"{study.resolutions.finetuning} is not larger than resolutions.pretraining, {low}"
        yield Problem("resolutions.finetuning", text, "correct one of them.", ("resolutions.pretraining",))
    for key in ("scale", "ratio"):
        smallest, largest = getattr(study.views, key)
        if smallest > largest:
            yield Problem(f"views.{key}", f"runs from {smallest} to {largest}", "give the smaller number first.")


def unknown(key: str, name: str, known: Iterable[str], what: str, section: str = "") -> Iterator[Problem]:
    """A reference to something that is not defined; `section` is where it would be."""
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"defined are {listed(known)}."
        yield Problem(key, f"there is no {what} {short(name)}", hint, (f"{section}.{name}",) if section else ())


def unknown_model(study: Study, key: str, name: str) -> Iterator[Problem]:
    return unknown(key, name, study.models, "model", "models")


def unknown_supervision(study: Study, key: str, name: str) -> Iterator[Problem]:
    return unknown(key, name, study.supervision, "supervision", "supervision")


def data_problems(study: Study) -> Iterator[Problem]:
    data = study.data
    for key in ("mean", "std"):
        if (given := len(getattr(data, key))) != data.channels:
            text = f"has {given} numbers and data.channels is {data.channels}"
            yield Problem(f"data.{key}", text, "give one a channel.", ("data.channels",))
    images = data.training.images
    if data.held_out >= images:
        text = f"{data.held_out} is not less than the {images} training images"
        yield Problem("data.held_out", text, "hold fewer out.", ("data.training.images",))
    yield from split_problems("data.training", data.training, data.reader)
    for name, evaluation in data.evaluation.items():
        key = f"data.evaluation.{name}"
        if name == "images_per_second":
            yield Problem(key, "is a column of Table 5 already", "rename it.")
        yield from split_problems(f"{key}.split", evaluation.split, evaluation.reader)
        if evaluation.held_out and evaluation.held_out != data.held_out:
            text = f"{evaluation.held_out} is not data.held_out, {data.held_out}"
            yield Problem(f"{key}.held_out", text, "give both the same number.", ("data.held_out",))
    yield from unknown("data.primary", data.primary, data.evaluation, "evaluation set", "data.evaluation")


def split_problems(key: str, split: Split, reader: str) -> Iterator[Problem]:
    batches = {f"batch_{number}" for number in range(1, 1 + max(1, len(split.files)))}
    found = f"has {listed(sorted(split.files))}"
    if reader == "timm" and not split.folder:
        yield Problem(f"{key}.folder", "missing, as the timm reader needs", "name a folder or .tar of data.root.")
    elif reader == "timm" and split.files:
        yield Problem(f"{key}.files", "is for the readers idx and cifar, and the reader is timm", "set it to null.")
    elif reader == "idx" and set(split.files) != {"images", "labels"}:
        yield Problem(f"{key}.files", found, "give the idx reader the file names of 'images' and 'labels'.")
    elif reader == "cifar" and set(split.files) != batches:
        remedy = "give the cifar reader the file names of 'batch_1', 'batch_2' and so on, none left out."
        yield Problem(f"{key}.files", found, remedy)
    elif reader != "timm":
        yield from checksum_problems(key, split, reader)
    if reader != "timm" and split.folder:
        text = f"is for the timm reader, and the {reader} reader has its files"
        yield Problem(f"{key}.folder", text, "set it to null.")


def checksum_problems(key: str, split: Split, reader: str) -> Iterator[Problem]:
    if stray := sorted(split.md5.keys() - split.files.keys()):
        text = f"{listed(stray)}: no such file is below `files`"
        yield Problem(f"{key}.md5", text, "add it there, or remove the checksum.", (f"{key}.files",))
    # They are Python pickles: only what is declared is opened.
    if reader == "cifar" and (bare := sorted(part for part in split.files if not split.md5.get(part))):
        yield Problem(f"{key}.md5", "the cifar reader opens declared files only", f"give the MD5 of {listed(bare)}.")


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
    if not any(objective.loss == "labels" for objective in study.supervision.values()):
        text = "none has the loss labels, and every teacher learns from labels"
        yield Problem("supervision", text, "add labels: {loss: labels}.")


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
        for wrong in token_variants(study, [model], supervision, f"released.weights.{name}"):
            yield Problem(*wrong)
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
    if logits.soft != "top-k":
        return
    if not 0 < logits.k < study.data.classes:
        text = f"{logits.k} does not lie between 1 and {study.data.classes - 1} (classes - 1), as soft: top-k needs"
        yield Problem("teacher_logits.k", text, "correct it.", ("teacher_logits.soft", "data.classes"))
    soft = {name: study.supervision[name] for name in references(study, "supervision") if name in study.supervision}
    soft = {name: objective.temperature for name, objective in soft.items() if objective.teacher_says == "logits"}
    if len(set(soft.values())) > 1:
        found = ", ".join(f"{name} {temperature:g}" for name, temperature in soft.items())
        text = f"a top-k cache is exact at one temperature only, and there are {found}"
        others = tuple(f"supervision.{name}.temperature" for name in soft)
        yield Problem("teacher_logits.soft", text, "keep all logits (soft: dense).", others)


def table_problems(study: Study) -> Iterator[Problem]:
    """What is wrong with the tables, and names of what the study does not have."""
    known = {"model": study.models, "supervision": study.supervision, "variant": study.variants}
    sections = {"model": "models", "supervision": "supervision", "variant": "variants"}
    if not study.tables.asked():
        yield Problem("tables", "names no table, so nothing would run", "add one (docs/params.md describes them).")
    for one in found(study):
        if isinstance(one, Reference):
            yield from unknown(one.key, one.name, known[one.what], one.what, sections[one.what])
        else:
            yield Problem(*one)

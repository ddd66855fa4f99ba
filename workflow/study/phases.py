"""The sections `teachers`, `students`, `adaptation`, `finetuning` of a params file, and what can be wrong in them."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, ValidationError

from deit.bounds import Count, Name, Option, Size
from deit.learn.recipes import Optimisation
from study.changes import change_problems, changed, decay_problems
from study.data import DataParams
from study.models import ModelParams, Models, unknown_model
from study.problem import Problem, unknown
from study.supervision import Supervision, unknown_supervision
from study.types_told import explained
from study.views import ViewParams, view_problems

OF_TRANSFORMERS = ("students", "finetuning")
"""Phases whose runs may learn from teachers."""
TRAINING_PHASES = ("teachers", "students", "adaptation", "finetuning")
Pattern = Annotated[str, Field(min_length=1, max_length=400)]
"""Of names of runs, with the shell's wildcards: `deit-ti/*`."""


class Phase(Optimisation):
    """How the runs of one phase are trained."""

    batch: Count
    """Views per optimiser step over all GPUs, repeats included: it does not change with their number. The paper's 1024,
    512 for fine-tuning (the code's README). A multiple of `mix_group`."""
    mix_group: Count
    """Views that share one mixing draw (kind and lambda) and mix with each other; even. A hidden hyper-parameter of the
    code, where it is one GPU's batch: 16 x 64 for the paper's students, so 64. Strided over the batch, so that repeats
    of an image never meet: at least `views.repeats` groups a batch. Batch norms see one group at a time, too."""
    epoch_views: Size = 0
    """Views an epoch, the incomplete last batch dropped; 0 = as many as there are training images. At most images x
    `views.repeats`."""
    runs: dict[Pattern, dict[str, Option]] = {}
    """What single runs do differently: `model` or `model/supervision` -> keys of this phase, but `batch`, `mix_group`,
    `epoch_views`; the latter wins. Batch and views stay the phase's, as all runs of a stream share them."""
    views: dict[str, Any] = {}
    """Keys of `views` that are others in this phase, as DeiT III fine-tunes with other augmentation than it trains."""
    supervision: dict[Name, Name] = {}
    """Supervision of a run -> another one, from which it learns in this phase: DeiT III fine-tunes with cross-entropy
    what it trained with binary cross-entropy. Of as many tokens, and with a teacher only where the first has one."""

    def of(self, model: str, supervision: str) -> "Phase":
        """The settings for one run: the phase's, the model's, the run's; the last one wins. Raises ValidationError."""
        keys = self.runs.get(model, {}) | self.runs.get(f"{model}/{supervision}", {})
        return Phase.model_validate(self.model_dump(exclude={"runs"}) | keys)

    def sees(self, views: ViewParams) -> ViewParams:
        """The study's views as this phase has them. Raises ValidationError."""
        return changed(views, self.views)


def phase_problems(
    name: str, phase: Phase, data: DataParams, views: ViewParams, of_data: str = "data"
) -> Iterator[Problem]:
    """What a phase, its runs left aside, may not say of these data, which stand at the key `of_data`, and views."""
    if broken := list(change_problems(f"{name}.views", phase.views, "views", views)):
        yield from broken
        return
    views = phase.sees(views)
    if phase.views:
        yield from view_problems(views, f"{name}.views")
    batch, group = f"{name}.batch", f"{name}.mix_group"
    if phase.batch % phase.mix_group:
        text = f"{phase.batch} is not divisible by mix_group {phase.mix_group}"
        yield Problem(batch, text, "change one of them.", (group,))
    elif (groups := phase.batch // phase.mix_group) < views.repeats:
        text = f"{groups} groups a batch let repeats of one image mix with each other"
        remedy = f"make at least views.repeats = {views.repeats} groups: smaller groups, or a larger batch."
        yield Problem(group, text, remedy, (batch, "views.repeats"))
    if phase.mix_group % 2 and (views.mixup or views.cutmix):
        text = f"{phase.mix_group} is odd, and views are mixed in pairs: it must be even"
        yield Problem(group, text, "choose an even number.", ("views.mixup", "views.cutmix"))
    counted = (f"{of_data}.training.images", f"{of_data}.held_out")
    yield from length_of_epoch_problems(name, phase, data.training.images - data.held_out, views.repeats, counted)
    yield from schedule_problems(name, phase)


def length_of_epoch_problems(
    name: str, phase: Phase, images: int, repeats: int, counted: tuple[str, ...]
) -> Iterator[Problem]:
    """An epoch has a batch of views at least, and no more than the images give; `counted`: the keys of their number."""
    batch, views = f"{name}.batch", f"{name}.epoch_views"
    if phase.epoch_views > (most := images * repeats):
        text = f"{phase.epoch_views} is more than {images} training images x {repeats} repeats"
        yield Problem(views, text, f"set {views} to {most} or less; 0: as many as images.", (*counted, "views.repeats"))
    elif phase.batch > (there := phase.epoch_views or images):
        text = f"{phase.batch} is larger than the {there} views of an epoch"
        others = (views,) if phase.epoch_views else (*counted, views)
        yield Problem(batch, text, f"set {batch} to {there} or less.", others)


def objective_problems(name: str, phase: Phase, supervisions: Supervision, views: ViewParams) -> Iterator[Problem]:
    """What the runs of a phase cannot learn from, on views that are as the params demand."""
    for before, after in phase.supervision.items():
        key = f"{name}.supervision.{before}"
        yield from unknown_supervision(supervisions, key, before)
        yield from unknown_supervision(supervisions, key, after)
        if before in supervisions and after in supervisions:
            yield from replacement_problems(key, before, after, supervisions)
    smooths = phase.views.get("label_smoothing", views.label_smoothing)
    for one in dict.fromkeys(phase.supervision.get(each, each) for each in supervisions):
        if smooths and one in supervisions and getattr(supervisions[one], "binary", False):
            text = f"counts every class with a share in a target as there, and in {name} smoothing gives all a share"
            others = ("views.label_smoothing", f"{name}.views.label_smoothing", f"{name}.supervision")
            yield Problem(f"supervision.{one}.binary", text, "set label_smoothing to 0.0.", others)


def replacement_problems(key: str, before: str, after: str, supervisions: Supervision) -> Iterator[Problem]:
    first, second = supervisions[before], supervisions[after]
    if first.tokens != second.tokens:
        text = f"'{after}' is for {second.tokens} token(s), and '{before}' for {first.tokens}"
        yield Problem(key, text, "name a supervision of as many tokens.", (f"supervision.{after}.loss",))
    if second.teacher_says and not first.teacher_says:
        text = f"'{after}' needs a teacher, and runs of '{before}' have none"
        yield Problem(key, text, "name one without a teacher.", (f"supervision.{after}.loss",))


def run_problems(name: str, phase: Phase, models: Models, supervision: Supervision) -> Iterator[Problem]:
    """What the phase may not say of single runs."""
    for run, override in phase.runs.items():
        yield from override_problems(name, phase, run, override, models, supervision)


def override_problems(
    phase: str, general: Phase, run: str, override: dict, models: Models, supervisions: Supervision
) -> Iterator[Problem]:
    key = f"{phase}.runs.{run}"
    model, slash, supervision = run.partition("/")
    yield from unknown_model(models, key, model)
    if phase in TRAINING_PHASES and model in models and (right := phase_of(models[model], phase)) != phase:
        text = f"a {models[model].kind} is not trained in this phase"
        yield Problem(key, text, f"move it to {right}.runs.", (f"models.{model}.kind",))
    if slash:
        yield from unknown_supervision(supervisions, key, supervision)
    if slash and phase in ("teachers", "adaptation") and supervision in supervisions:
        yield from convnet_problems(key, model, supervision, supervisions)
    foreign = [field for field in override if field not in Optimisation.model_fields]
    for field in foreign:
        yield from unknown(f"{key}.{field}", field, Optimisation.model_fields, "key of a phase that a run may change,")
    if foreign:
        return
    of_model = general.runs.get(model, {}) if slash else {}
    yield from decay_problems(key, override, str(of_model.get("optimizer", general.optimizer)))
    try:
        yield from schedule_problems(key, general.of(model, supervision), phase)
    except ValidationError as error:
        for problem in explained(error, general.model_dump() | of_model | override, key, Phase):
            field = problem.key.removeprefix(f"{key}.").partition(".")[0]
            if field in override:
                yield problem
            elif field not in of_model:
                remedy = f"remove {phase}.{field}, or choose another optimizer."
                yield Problem(problem.key, problem.text, remedy, (f"{phase}.{field}",))


def convnet_problems(key: str, model: str, supervision: str, supervisions: Supervision) -> Iterator[Problem]:
    """A run of a convnet that there is none of."""
    labels = next((name for name, objective in supervisions.items() if objective.loss == "labels"), supervision)
    if supervision != labels:
        text = f"convnets learn from '{labels}' alone, so there is no such run"
        yield Problem(key, text, f"write {model} in its place, or remove it.", (f"supervision.{labels}",))


def phase_of(model: ModelParams, other: str) -> str:
    """The phase that trains a model at the resolution of another phase."""
    low, high = ("teachers", "adaptation") if model.kind == "convnet" else ("students", "finetuning")
    return low if other in ("teachers", "students") else high


def schedule_problems(key: str, phase: Phase, general: str = "") -> Iterator[Problem]:
    """`key` is that of a phase, or of single runs of the `general` phase."""
    if phase.warmup_epochs > phase.epochs:
        text = f"warm-up ({phase.warmup_epochs:g} epochs) is longer than the training ({phase.epochs})"
        others = [f"{key}.epochs", *(f"{general}.{part}" for part in ("warmup_epochs", "epochs") if general)]
        yield Problem(f"{key}.warmup_epochs", text, "shorten it.", tuple(others))

"""The rules of views, phases and models: a study has to obey them, and whatever a variant makes of it."""

from collections.abc import Iterable, Iterator
from typing import Any

from study.execution import uneven_problems
from study.models import model_problems, patch_problems
from study.phases import OF_TRANSFORMERS, objective_problems, phase_problems, run_problems
from study.problem import Problem
from study.teacher_logits import cache_problems
from study.views import view_problems


def recipe_problems(study: Any, phases: Iterable[str], models: Iterable[str]) -> Iterator[Problem]:
    """What is wrong with the views, with these phases and with these models."""
    yield from view_problems(study.views)
    for name in phases:
        phase = getattr(study, name)
        yield from phase_problems(name, phase, study.data, study.views)
        yield from run_problems(name, phase, study.models, study.supervision)
        yield from objective_problems(name, phase, study.supervision, study.views)
        yield from uneven_problems(study.execution, name, name, phase, study.models)
        if name in OF_TRANSFORMERS:
            yield from cache_problems(study.teacher_logits, name, phase)
    for name in models:
        yield from model_problems(name, study.models[name])
    yield from patch_problems({name: study.models[name] for name in models}, study.resolutions)

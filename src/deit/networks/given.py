"""Weights that are given: found on the hub or on disk, read without running code, and the network that they are of."""

import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg
from timm.models._hub import download_from_hf, load_model_config_from_hf
from torch import Tensor, nn

from deit.networks.conventions import Translated, conventions_of, differing
from deit.networks.models import create, load_weights
from deit.networks.recipes import Conventions, Importing, Model
from deit.see.recipes import Data
from deit.store.checkpoints import WEIGHTS, read_weights
from deit.store.results import Result, file_digest, first_line

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights. They are kept in 32 bits, in which the values of the 16-bit types are the same."""
COUNTS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of the numbers that batch norms count in."""
SOURCE = "source.json"
"""The file in which an import notes where its weights are from, and what their network sees and says."""
HUB = "hf-hub:"
"""Before the name of a repository that is none of timm's tags, as timm writes it."""
HUB_FILE = "model.safetensors"
"""The name under which repositories of the hub that timm reads keep their weights."""


def located(recipe: Importing, root: str, run: Result | None) -> tuple[Path, str]:
    """The file of given weights and its sha256: below `root`, of another study's `run`, or brought from the hub by
    timm, which keeps a copy.

    Raises SystemExit where there is none, or not the declared one.
    """
    source = recipe.source
    if run:
        return run.file(WEIGHTS), run.sha256[WEIGHTS]
    folder = os.path.expandvars(os.path.expanduser(root))
    path = fetched(source.timm) if source.timm else Path(folder, source.file or "")
    if not path.is_file():
        raise SystemExit(f"{path}: is missing. Put the file there, or correct in params/ where it lies.")
    if not (found := file_digest(path)).startswith(source.sha256 or ""):
        raise SystemExit(
            f"{path}: its sha256 is {found}, and the params declare {source.sha256}. Get the file again, or declare "
            "this one in params/."
        )
    return path, found


def fetched(name: str) -> Path:
    """timm's copy of the weights of a repository of the hub: of a tag, or `hf-hub:owner/name`, `@revision` after it."""
    with hub_told(name):
        return Path(download_from_hf(repository(name), HUB_FILE))


def repository(name: str) -> str:
    return name.removeprefix(HUB) if name.startswith(HUB) else get_pretrained_cfg(name).hf_hub_id


@contextmanager
def hub_told(name: str) -> Iterator[None]:
    """SystemExit for whatever the hub's client, the HTTP library or the system raise; timm, for a tag it lacks."""
    try:
        yield
    except Exception as error:
        raise SystemExit(
            f"{name}: no {HUB_FILE} could be had from the hub ({type(error).__name__}: {first_line(error)[:200]}). "
            "Correct its name in params/; without a network, put the file here and name it by `file`."
        ) from None


def read_published(path: Path) -> dict[str, Tensor]:
    """The state dict of a .safetensors file, or of a .pth that holds one, alone or as its `model`.

    Raises SystemExit for a file that holds anything else, or numbers that are not finite or have no exact place in 32
    bits; nothing that is in it is ever executed.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise SystemExit(
            f"{path}: refused: it is no file of tensors alone, and reading it could run code. Get the authors' own "
            "file; where you trust this one, convert it to safetensors."
        ) from None
    except (SafetensorError, RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise SystemExit(f"{path}: damaged, or no file of weights ({first_line(error)}). Get it again.") from None
    weights = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(weights, dict) or not all(map(is_entry, weights.items())):
        raise SystemExit(f"{path}: holds no state dict, alone or as its 'model'. Get the published weights.")
    for name, tensor in weights.items():
        if wrong := inexact(tensor):
            raise SystemExit(f"{path}: {name} {wrong}. Get the authors' own file; weights are imported as they are.")
    return dict(weights)


def is_entry(entry: tuple[object, object]) -> bool:
    """Whether a key and its value are a name and a tensor."""
    name, tensor = entry
    return isinstance(name, str) and isinstance(tensor, Tensor)


def inexact(tensor: Tensor) -> str:
    """Why a tensor cannot be kept as it is; empty where it can."""
    if tensor.layout != torch.strided or tensor.dtype not in (*FLOATS, *COUNTS):
        return f"is of {tensor.dtype}, {tensor.layout}, of which no network of timm's can be"
    if tensor.dtype in COUNTS:
        return ""
    if bad := int((~torch.isfinite(tensor)).sum()):
        return f"holds {bad} of {tensor.numel()} numbers that are not finite"
    if tensor.dtype == torch.float64 and not torch.equal(tensor.float().double(), tensor):
        return "holds numbers of 64 bits that 32 bits cannot hold exactly"
    return ""


# The network ----------------------------------------------------------------------------------------------------------


def given_network(recipe: Importing, weights: dict[str, Tensor], run: Result | None) -> tuple[Model, Conventions]:
    """The network that weights are of, and what it sees and says.

    As the tag, the run or the file tells; what none of them does is as in the study. Raises SystemExit where the run's
    network is not the one that it is given to.
    """
    source, model = recipe.source, recipe.model
    own = conventions_of(model, recipe.mean, recipe.std).model_dump()
    if recipe.timm_distilled and "dist_token" in weights:
        model = model.model_copy(update={"timm": recipe.timm_distilled})
    if run:
        theirs = run.job.resolved()
        if (theirs.model.timm, theirs.model.arguments) != (model.timm, model.arguments):
            raise SystemExit(
                f"{run.folder}: is of {theirs.model.timm} with arguments {theirs.model.arguments}, and given to "
                f"{model.timm} with {model.arguments}. Name another run, or make the models the same in params/."
            )
        own |= told_by_run(run)
    elif source.timm:
        architecture, told = told_by_timm(source.timm)
        if architecture not in [name and name.partition(".")[0] for name in (model.timm, recipe.timm_distilled)]:
            raise SystemExit(f"{source.timm}: is of {architecture}, and given to {model.timm}. Make them the same.")
        model, own = model.model_copy(update={"timm": architecture}), own | told
    else:
        told = told_by_shapes(model, weights)
        headless = {"classes": 0} if recipe.starts and "channels" in told and "classes" not in told else {}
        own |= told | headless
    own |= {key: of_channels(own[key], own["channels"]) for key in ("mean", "std")}
    own |= source.model_dump(include={"resolution", "mean", "std"}, exclude_none=True)
    if (wrong := [key for key in ("mean", "std") if len(own[key]) != own["channels"]]) and not recipe.starts:
        raise SystemExit(
            f"weights.{wrong[0]}: has {len(own[wrong[0]])} value(s), and the network sees {own['channels']} "
            "channel(s). Give one value for each channel in params/."
        )
    conventions = Conventions.model_validate(own | {"meaning": source.classes})
    return of_sizes(model, conventions), conventions


def of_channels(statistics: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """The study's mean or std for a network of other channels, of which nothing tells its own: of grey, each of RGB."""
    if len(statistics) == 1:
        return statistics * channels
    return (sum(statistics) / len(statistics),) if channels == 1 else statistics


def of_sizes(model: Model, own: Conventions) -> Model:
    return model.model_copy(update=own.model_dump(include={"classes", "channels", "resolution"}))


def told_by_run(run: Result) -> dict:
    """What the network of a run sees and says: of a training's as its data, of an import as it has noted."""
    if noted := conventions_noted(run):
        return noted.model_dump(exclude={"meaning"})
    recipe = run.job.resolved()
    return conventions_of(recipe.model, recipe.data.mean, recipe.data.std).model_dump()


def told_by_timm(name: str) -> tuple[str, dict]:
    """The network of a tag or a repository, by timm's registry or the repository's config, and its conventions."""
    if name.startswith(HUB):
        with hub_told(name):
            told, architecture, _ = load_model_config_from_hf(repository(name))
    else:
        told, architecture = get_pretrained_cfg(name).to_dict(), name
    channels, resolution, _ = told["input_size"]
    sizes = {"classes": told["num_classes"], "channels": channels, "resolution": resolution}
    return architecture.partition(".")[0], sizes | {key: tuple(told[key]) for key in ("mean", "std")}


def told_by_shapes(model: Model, weights: dict[str, Tensor]) -> dict[str, int]:
    """Classes and channels of a file's network, by the shapes of its classifier and first convolution.

    Nothing of weights under other keys than timm's: these are read as of the study's sizes.
    """
    layers = timm_layers(model)
    found = {}
    if (classifier := weights.get(f"{layers['classifier']}.weight")) is not None:
        found["classes"] = classifier.shape[0]
    if (first := weights.get(f"{layers['first_conv']}.weight")) is not None and first.ndim == 4:
        found["channels"] = first.shape[1]
    return found


def timm_layers(model: Model) -> dict[str, str]:
    """timm's names of the classifier and of the first convolution of a network."""
    registered = get_pretrained_cfg(model.timm.partition(".")[0])
    layers = {key: getattr(registered, key, "") or "" for key in ("classifier", "first_conv")}
    return {key: name if isinstance(name, str) else name[0] for key, name in layers.items()}


def refuse_other_classes(recipe: Importing, own: Conventions, what: str) -> None:
    """SystemExit where a network does not say the study's classes, and nothing tells which of its own mean them."""
    if recipe.starts:
        return
    classes = recipe.model.classes
    if not own.classes:
        raise SystemExit(
            f"{what}: has no classifier, and so says no classes. Start trainings from it (`initial`), or give another."
        )
    if own.meaning is None and own.classes != classes:
        raise SystemExit(
            f"{what}: says {own.classes} classes, and the study has {classes}. Tell by the key `classes` of the "
            "weights, for each class of the study, which of the network's mean it, or start trainings from them "
            "(`initial`)."
        )
    if wrong := [number for numbers in own.meaning or () for number in numbers if number >= own.classes]:
        raise SystemExit(f"{what}: has no class {wrong[0]}, as it says {own.classes}. Correct the key `classes`.")
    if own.channels not in (1, 3):
        raise SystemExit(f"{what}: sees {own.channels} channels; views are grey or RGB. Give another network.")


# Asked by other jobs --------------------------------------------------------------------------------------------------


def load_network(run: Result, model: Model, data: Data) -> nn.Module:
    """The network of a run's folder, built as `model`; a given one in its own way, translated to views of `data`."""
    own, study = conventions_noted(run), conventions_of(model, data.mean, data.std)
    net = create(of_sizes(model, own) if own else model)
    load_weights(net, read_weights(run.file(WEIGHTS)))
    return Translated(net, own, study) if own and any(differing(own, study)) else net


def conventions_noted(run: Result) -> Conventions | None:
    """What an import has noted of its network; None for a run that was trained here."""
    return Conventions.model_validate(run.json(SOURCE)["conventions"]) if run.job.kind == "import" else None

"""What a teacher says of every view of a stream: asked in the loop, or read from a cache, with the same answer.

A cache is a folder of consecutive epochs, `epoch-0000.npy` and so on, each a structured array with a record a position
of the epoch, and a `manifest.json` that says of which stream and teacher it is. The teacher always forwards one mix
group at a time in evaluation mode, here and in the loop, so that both give the same numbers, bit for bit on a CPU.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deit.networks import models
from deit.networks.conventions import Translated
from deit.networks.given import load_network
from deit.networks.recipes import Model
from deit.see.recipes import Data, Stream
from deit.see.views import ViewStream, stream_digest, transform_versions
from deit.store.results import Result, file_digest
from deit.store.shards import Form, ShardFolder, shard_name
from deit.teach.recipes import Caching

REMEDY = "Cache this teacher again with the recipe of the present plan, or give the folders that the plan names."


def load_teacher(run: Result, model: Model, data: Data, device: torch.device, precision: str) -> nn.Module:
    """The network of a run, built as `model`, for views of `data`; in evaluation mode and without gradients."""
    return cast_once(load_network(run, model, data).to(device).eval().requires_grad_(False), precision)


def cast_once(net: nn.Module, precision: str) -> nn.Module:
    """A frozen network whose weights have the precision to which autocast would round them in every forward pass.

    Those of torch's own linear and convolutional layers, which use them for nothing else: what is said stays the same.
    """
    for layer in net.modules() if precision == "bf16" else ():
        if type(layer) in (nn.Linear, nn.Conv2d):
            layer.bfloat16()
    return net


@torch.no_grad()
def logits_of(net: nn.Module, views: Tensor, precision: str) -> Tensor:
    """Float32 logits (G, K) of one mix group (G, C, H, W); a teacher with two heads says their mean."""
    with torch.autocast(views.device.type, torch.bfloat16, enabled=precision == "bf16"):
        heads = models.token_logits(net, views)
    return models.fused(heads, "fusion_logits" if len(heads) == 2 else "class")


def record_type(caching: Caching) -> np.dtype:
    """The fields of a record: the label, and what is kept of the logits; <u2 are the bits of a bf16 teacher's."""
    fields: list[tuple] = [("label", "<u2")]
    if caching.keep == "dense":
        fields += [("logits", "<u2" if caching.precision == "bf16" else "<f4", (caching.data.classes,))]
    return np.dtype(fields)


def packed(logits: Tensor, caching: Caching) -> Tensor:
    """Logits (G, K) -> the bytes of their records (G, bytes) uint8, where the logits are.

    Of a bf16 teacher's logits, a last byte says whether two bytes hold all of each.
    """
    parts = [
        bytes_of(logits.argmax(1, keepdim=True))[:, :2]
    ]  # the lower two, which come first on every machine of ours
    if caching.keep == "dense" and caching.precision == "bf16":
        halves = logits.bfloat16()
        parts += [bytes_of(halves), (halves.float() == logits).all(1, keepdim=True).byte()]
    elif caching.keep == "dense":
        parts += [bytes_of(logits)]
    return torch.cat(parts, 1)


def bytes_of(numbers: Tensor) -> Tensor:
    """(G, N) -> (G, bytes) uint8."""
    return numbers.contiguous().view(torch.uint8)


def unpacked(content: Tensor, caching: Caching) -> np.ndarray:
    """Records (G,) of their bytes (G, bytes), which are on the CPU.

    Raises SystemExit where two bytes would not hold all of a logit, as where a teacher says the mean of two heads.
    """
    form = record_type(caching)
    if not content[:, form.itemsize :].all():
        raise SystemExit(
            "caching: these logits are no bf16 numbers (a teacher of two heads says their mean), and keep: dense would "
            "round them. Cache a teacher of one head, or with precision: fp32."
        )
    return np.ascontiguousarray(content[:, : form.itemsize].numpy()).view(form).reshape(-1)


class OnItsWay:
    """Bytes on their way from the device to the host: one copy, beside what the device does next."""

    def __init__(self, content: Tensor):
        self.host, self.copied = content, None
        if content.device.type == "cuda":
            self.host = torch.empty(content.shape, dtype=content.dtype, pin_memory=True)
            self.host.copy_(content, non_blocking=True)
            self.copied = torch.cuda.Event()
            self.copied.record()

    def arrived(self) -> Tensor:
        """The bytes, for which the device is waited for."""
        if self.copied:
            self.copied.synchronize()
        return self.host


def logits_from(records: np.ndarray) -> Tensor:
    """Records (B,) of a cache of logits -> float32 logits (B, K)."""
    kept = np.ascontiguousarray(records["logits"])
    if kept.dtype == np.uint16:
        return torch.from_numpy(kept.view(np.int16)).view(torch.bfloat16).float()
    return torch.from_numpy(kept)


def open_shards(
    folder: Path, caching: Caching, teacher: str, stream: ViewStream, differs: Iterable[str] = ()
) -> ShardFolder:
    """The shards of a cache, as far as they are there; `teacher` is the sha256 of its weights.

    `differs` tells in which ways it sees or says something else than the study.
    """
    manifest = manifest_of(caching, teacher, stream.views_per_epoch)
    if differs := list(differs):
        manifest["differs"] = differs
    epochs = range(caching.first_epoch, caching.last_epoch + 1)
    arrays: dict[str, Form] = {"epoch": (record_type(caching), (caching.views.batch,))}
    return ShardFolder(folder, manifest, arrays, stream.steps_per_epoch, epochs)


def differs_of(net: nn.Module) -> list[str]:
    """In words, the ways in which a teacher sees or says something else than the study; none of one trained here."""
    return net.differs if isinstance(net, Translated) else []


def manifest_of(caching: Caching, teacher: str, views: int) -> dict:
    """What a cache is made from; the digests of its shards are added when it is complete."""
    return {
        "stream": stream_digest(caching.data, caching.views, caching.stream_seed),
        "stream_of": stream_parameters(caching),
        "transforms": transform_versions(),
        "teacher": teacher,
        **caching.model_dump(include={"keep", "precision", "first_epoch", "last_epoch"}),
        "views_per_epoch": views,
    }


def stream_parameters(recipe: Stream) -> dict:
    """All that a stream is made from, as JSON keeps it."""
    return recipe.model_dump(mode="json", include={"data", "views", "stream_seed"})


@dataclass
class TeacherAnswer:
    """What a teacher says of V views, for whichever objectives ask."""

    labels: Tensor
    """(V,) int64."""
    decode: Callable[[], Tensor]

    @cached_property
    def logits(self) -> Tensor:
        """(V, K) float32."""
        return self.decode()


class TeacherInTheLoop:
    """A teacher that looks at every view while its students train."""

    def __init__(self, net: nn.Module, precision: str):
        """`net` is in evaluation mode and on the device of the views."""
        self.net, self.precision = net, precision

    def says(self, epoch: int, positions: Tensor, views: Tensor, groups: int = 1) -> TeacherAnswer:
        """Of views (V, C, H, W) of so many mix groups, one after another; each is forwarded alone."""
        of_each = [logits_of(self.net, group, self.precision) for group in views.split(len(views) // groups)]
        logits = torch.cat(of_each)
        return TeacherAnswer(logits.argmax(1), lambda: logits)


class CachedTeacher:
    """The same teacher, read from its caches, one shard an epoch, by memory map."""

    def __init__(
        self, folders: list[Path], stream: Stream, epochs: Iterable[int], asked: str, precision: str, teacher: str = ""
    ):
        """What is `asked` of it, "labels" or "logits", in all `epochs`; `precision` is that in which the teacher is to
        have computed, and `teacher` the sha256 of its weights, empty where they are not at hand.

        Raises SystemExit where a cache is of another stream or teacher, was made by other versions of the transforms,
        does not hold what is asked for, or is incomplete; says what differs.
        """
        self.views_per_epoch = stream.views.steps_per_epoch(stream.data.images) * stream.views.batch
        self.shards: dict[int, tuple[Path, str]] = {}
        self.epoch = -1
        self.records: np.ndarray = np.empty(0)
        manifests = {Path(folder): read_manifest(folder) for folder in folders}
        refuse_several_teachers(manifests)
        for folder, manifest in manifests.items():
            if differences := list(differing(manifest, stream, asked, precision, teacher)):
                raise SystemExit(f"{folder}: not this run's teacher logits: {'; '.join(differences)}. {REMEDY}")
            for epoch in range(manifest["first_epoch"], manifest["last_epoch"] + 1):
                name = shard_name("epoch", epoch)
                self.shards[epoch] = (folder / name, manifest["shards"][name])
        epochs = list(epochs)
        if missing := sorted(set(epochs) - set(self.shards)):
            raise SystemExit(f"{', '.join(map(str, folders))}: no teacher logits of epoch(s) {missing}. {REMEDY}")
        for epoch in epochs:
            self.open(epoch)

    def says(self, epoch: int, positions: Tensor, views: Tensor, groups: int = 1) -> TeacherAnswer:
        """Of the views at these positions (V,) of an epoch, on the CPU.

        Raises SystemExit where the epoch's file is not the one that was written.
        """
        if epoch != self.epoch:
            path, digest = self.shards[epoch]
            if file_digest(path) != digest:
                raise SystemExit(f"{path}: damaged, its sha256 is not the one in manifest.json. {REMEDY}")
            self.epoch, self.records = epoch, self.open(epoch)
        records = self.records[positions.cpu().numpy()]
        labels = torch.from_numpy(records["label"].astype(np.int64))
        return TeacherAnswer(labels, lambda: logits_from(records))

    def open(self, epoch: int) -> np.ndarray:
        """The records (views_per_epoch,) of an epoch, mapped, not read; refuses a shard of another length."""
        path, _ = self.shards[epoch]
        try:
            records = np.load(path, mmap_mode="r").reshape(-1)
        except (OSError, ValueError, EOFError) as error:
            raise SystemExit(f"{path}: missing or damaged ({error}). {REMEDY}") from error
        if records.shape != (self.views_per_epoch,):
            raise SystemExit(
                f"{path}: holds {len(records)} views, but an epoch of this run has {self.views_per_epoch}. {REMEDY}"
            )
        return records


class PartlyCachedTeacher:
    """A teacher that is read from caches where they are there, and looks at the views of the other epochs."""

    def __init__(self, cached: CachedTeacher | None, in_the_loop: TeacherInTheLoop | None):
        self.cached, self.in_the_loop = cached, in_the_loop

    def says(self, epoch: int, positions: Tensor, views: Tensor, groups: int = 1) -> TeacherAnswer:
        """Of views (V, C, H, W) of so many mix groups at these positions (V,) of an epoch."""
        if self.cached and epoch in self.cached.shards:
            return self.cached.says(epoch, positions, views)
        if self.in_the_loop is None:
            raise SystemExit(f"no teacher logits of epoch {epoch}. {REMEDY}")
        return self.in_the_loop.says(epoch, positions, views, groups)


def read_manifest(folder: Path) -> dict:
    path = folder / "manifest.json"
    if not path.exists():
        raise SystemExit(f"{folder}: no manifest.json, so these are no finished teacher logits. {REMEDY}")
    return json.loads(path.read_text(encoding="utf-8"))


def refuse_several_teachers(manifests: dict[Path, dict]) -> None:
    """Raises SystemExit where caches (folder -> manifest) are of different weights, be they of one recipe."""
    (first, manifest), *others = manifests.items() if manifests else [(Path(), {})]
    for folder, other in others:
        if other["teacher"] != manifest["teacher"]:
            raise SystemExit(
                f"{first} and {folder}: logits of two teachers, of weights with the sha256 {manifest['teacher'][:10]} "
                f"and {other['teacher'][:10]}, as where one was trained again. Delete the folder whose teacher is not "
                f"the present one. {REMEDY}"
            )


def differing(manifest: dict, stream: Stream, asked: str, precision: str, teacher: str) -> Iterator[str]:
    """Yields, in words, each way in which a cache is not of a stream and teacher, or says too little."""
    if teacher and manifest["teacher"] != teacher:
        yield f"the teacher's weights have sha256 {manifest['teacher'][:10]}, this run's teacher {teacher[:10]}"
    if manifest["stream"] != stream_digest(stream.data, stream.views, stream.stream_seed):
        ours = {**stream_parameters(stream), "transforms": transform_versions()}
        theirs = {**manifest["stream_of"], "transforms": manifest["transforms"]}
        yield from differing_values(theirs, ours) or ["the code that makes the views"]
    if manifest["precision"] != precision:
        yield f"the teacher computed in {manifest['precision']}, and this run hears it in {precision}"
    if asked == "logits" and manifest["keep"] == "labels":
        yield "it keeps labels only, and the objective needs logits (keep: dense)"


def differing_values(theirs: dict, ours: dict, path: str = "") -> list[str]:
    """The leaves in which two nested dictionaries differ, by name."""
    found = []
    for key in sorted(theirs.keys() | ours.keys()):
        left, right = theirs.get(key), ours.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found += differing_values(left, right, f"{path}{key}.")
        elif left != right:
            found.append(f"{path}{key} is {left} there, {right} here")
    return found

"""Predictions against timm's own outputs and sums by hand; files equal byte for byte."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from deit.commands import compare_tokens as tokens_command
from deit.commands import predict as predict_command
from deit.networks import evaluation
from deit.networks.evaluation import accuracy, predict, prediction_table, top_classes, write_predictions
from deit.networks.models import create
from deit.networks.recipes import Model
from deit.see.recipes import EvaluationView, Split, TrainingData
from deit.store.checkpoints import save_weights
from deit.store.job import Job
from deit.store.results import new_folder, read_result

CPU = torch.device("cpu")
SIZES = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 7}
PLAIN = Model(
    timm="deit_tiny_patch16_224", arguments=SIZES, classes=10, channels=1, resolution=28, stochastic_depth=0.5
)
DISTILLED = PLAIN.model_copy(update={"timm": "deit_tiny_distilled_patch16_224"})
DATA = TrainingData(
    name="noise", reader="idx", classes=10, channels=1, mean=(0.5,), std=(0.25,), split=Split(images=23)
)


class Noise:
    """Grey images of seeded noise; image 3 has no true class, image 5 has two."""

    def __init__(self, images: int = 23):
        pixels = np.random.default_rng(0).integers(0, 256, (images, 28, 28), dtype=np.uint8)
        self.pictures = [Image.fromarray(picture) for picture in pixels]

    def __len__(self) -> int:
        return len(self.pictures)

    def image(self, index: int) -> Image.Image:
        return self.pictures[index]

    def targets(self, index: int) -> tuple[int, ...]:
        return {3: (), 5: (1, 7)}.get(index, (index % 10,))

    def identity(self, index: int) -> str:
        return f"noise-{index:02}"


def show(image: Image.Image) -> torch.Tensor:
    return (torch.from_numpy(np.array(image, dtype=np.float32))[None] / 255 - 0.5) / 0.25


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """23 images in batches of 10, 10 and 3."""
    monkeypatch.setattr(evaluation, "BATCH", 10)


def network(model: Model, seed: int = 0) -> torch.nn.Module:
    """Random weights, large enough for the ten logits to differ clearly."""
    torch.manual_seed(seed)
    net = create(model).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return net


def predicted(net: torch.nn.Module, **options):
    return predict({"run": net}, Noise(), show, precision="fp32", device=CPU, **options)["run"]


def every_view() -> torch.Tensor:
    return torch.stack([show(picture) for picture in Noise().pictures])


@torch.inference_mode()
def test_one_head_is_timms_output():
    net = network(PLAIN)
    expected = net(every_view()).topk(5).indices
    table = predicted(net)
    assert table["class_top5"].to_pylist() == expected.tolist()
    assert table.column_names == ["image", "targets", "class_top5"]


@torch.inference_mode()
def test_two_heads_are_timms_outputs():
    net = network(DISTILLED)
    table = predicted(net)
    # In evaluation mode timm's own forward averages the logits of the two heads.
    assert table["fusion_logits_top5"].to_pylist() == net(every_view()).topk(5).indices.tolist()
    features = net.forward_features(every_view())
    heads = net.head(features[:, 0]), net.head_dist(features[:, 1])
    assert table["class_top5"].to_pylist() == heads[0].topk(5).indices.tolist()
    assert table["distillation_top5"].to_pylist() == heads[1].topk(5).indices.tolist()
    exponentials = [head.double().exp() for head in heads]
    probabilities = [e / e.sum(1, keepdim=True) for e in exponentials]
    assert table["fusion_top5"].to_pylist() == sum(probabilities).topk(5).indices.tolist()
    # The comparison would be empty if all readings decided alike.
    assert len({str(table[f"{how}_top5"].to_pylist()) for how in evaluation.TWO_HEADS}) == 4


def test_a_prediction_does_not_depend_on_training_mode_or_on_the_company():
    one, other = network(DISTILLED, 1), network(PLAIN, 2)
    together = predict({"a": one.train(), "b": other}, Noise(), show, precision="fp32", device=CPU)
    assert together["a"].equals(predicted(one))
    assert together["b"].equals(predicted(other))


def test_workers_change_nothing():
    net = network(DISTILLED)
    assert predicted(net, workers=2).equals(predicted(net))


def test_rows_are_the_images_in_order_with_their_targets():
    table = predicted(network(PLAIN))
    images = Noise()
    assert table["image"].to_pylist() == [images.identity(i) for i in range(23)]
    assert [tuple(targets) for targets in table["targets"].to_pylist()] == [images.targets(i) for i in range(23)]


def test_bf16_is_autocast():
    net = network(PLAIN)
    seen = []
    net.head.register_forward_hook(lambda _, __, logits: seen.append(logits.dtype))
    for precision in ("fp32", "bf16"):
        predict({"run": net}, Noise(1), show, precision=precision, device=CPU)
    assert seen == [torch.float32, torch.bfloat16]


def test_best_classes_are_sorted_and_ties_go_to_the_lower_class():
    scores = torch.tensor([[1.0, 3.0, 3.0, 2.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert top_classes(scores).tolist() == [[1, 2, 5, 3, 0], [0, 1, 2, 3, 4]]
    assert top_classes(scores[:, :3]).tolist() == [[1, 2, 0], [0, 1, 2]]


def test_accuracy_counts_any_true_class_and_skips_images_without():
    images = Noise(6)
    first = torch.tensor([[0], [1], [9], [3], [9], [7]])
    table = prediction_table(images, [{"class": first[:4]}, {"class": first[4:]}])
    # Right: images 0, 1 and 5 (its second class); image 3 has no class; wrong: 2 and 4.
    assert accuracy(table, "class") == 3 / 5


def test_files_have_the_same_bytes_and_come_back(tmp_path):
    net = network(DISTILLED)
    for name in ("one", "other"):
        write_predictions(predicted(net), tmp_path / name / "deep" / "noise.parquet")
    one, other = (tmp_path / name / "deep" / "noise.parquet" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    table = pq.read_table(one)
    assert table.equals(predicted(net))
    assert [str(kind) for kind in table.schema.types[1:]] == ["list<element: int32>"] * 5
    assert table.to_pandas()["class_top5"][0].dtype == np.int32


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Two finished runs, the job that predicts them, and a data set of noise in place of the real reader."""
    monkeypatch.setattr(predict_command, "evaluation_images", lambda *_: Noise())
    monkeypatch.setattr(tokens_command, "evaluation_images", lambda *_, **__: Noise())
    folders, inputs = [], {}
    for seed in (0, 1):
        made = Job(kind="train", name=f"tiny/token/28/seed{seed}", recipe={"seed": seed}, behaviour={})
        with new_folder(tmp_path / f"seed{seed}", made) as folder:
            save_weights(folder / "weights.safetensors", network(DISTILLED, seed).state_dict())
        folders.append(tmp_path / f"seed{seed}")
        inputs[made.name] = made.digest
    runs = [{"run": run, "model": DISTILLED.model_dump()} for run in inputs]
    evaluation_set = {"reader": "idx", "split": {"images": 23}}
    shared = {"data": DATA.model_dump(), "view": EvaluationView(resolution=28, crop=1.0).model_dump()}
    sheet = shared | {"runs": runs, "evaluation_sets": {"noise": evaluation_set}, "precision": "fp32"}
    tokens = shared | {"run": runs[1], "evaluation_set": evaluation_set, "images": 12}
    return folders, sheet, tokens, inputs


@torch.inference_mode()
def test_a_sheet_holds_a_file_a_run_and_set(finished, tmp_path):
    folders, sheet, _, inputs = finished
    job = Job(kind="predict", name="sheet", recipe=sheet, inputs=inputs, behaviour={})
    predict_command.predict_sheet(job, folders, tmp_path / "sheet")
    for seed, run in enumerate(inputs):
        table = pq.read_table(tmp_path / "sheet" / run / "noise.parquet")
        transform = create_transform((1, 28, 28), mean=(0.5,), std=(0.25,), interpolation="bicubic", crop_pct=1.0)
        views = torch.stack([transform(picture) for picture in Noise().pictures])
        expected = network(DISTILLED, seed)(views).topk(5).indices
        assert table["fusion_logits_top5"].to_pylist() == expected.tolist()


def test_a_foreign_or_missing_run_is_refused(finished, tmp_path):
    folders, sheet, _, inputs = finished
    job = Job(kind="predict", name="sheet", recipe=sheet, inputs=inputs, behaviour={})
    with pytest.raises(SystemExit, match="planned with"):
        predict_command.predict_sheet(job, folders[::-1], tmp_path / "sheet")
    with pytest.raises(SystemExit, match="Give one each"):
        predict_command.predict_sheet(job, folders[:1], tmp_path / "sheet")
    assert not (tmp_path / "sheet").exists()


def test_tokens_are_compared_on_the_first_images(finished, tmp_path):
    folders, _, tokens, inputs = finished
    job = Job(kind="tokens", name="tokens", recipe=tokens, inputs=inputs, behaviour={})
    tokens_command.compare_tokens(job, read_result(folders[1]), tmp_path / "tokens")
    said = json.loads((tmp_path / "tokens" / "tokens.json").read_text(encoding="utf-8"))
    net = network(DISTILLED, 1)
    expected = torch.cosine_similarity(net.cls_token[0, 0], net.dist_token[0, 0], dim=0).item()
    assert said["input_cosine"] == pytest.approx(expected, abs=1e-6)
    assert (said["run"], said["images"], len(said["layers"])) == ("tiny/token/28/seed1", 12, 2)

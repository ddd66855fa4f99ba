from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from timm.loss import SoftTargetCrossEntropy
from timm.task import TokenDistillationTask
from torch.nn.functional import cross_entropy, kl_div, one_hot

from deit.learn.objectives import Objective, names, objective_class, objective_loss

LOGITS = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]).log()
"""Of the probabilities shown."""
TARGETS = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.0, 1.0]])
LABELS_BY_HAND = (0.8 * log(2) + 0.2 * log(4) - log(0.7)) / 2


def draw(seed, views=5, classes=7):
    """Student logits, second head's logits, mixed targets, teacher logits."""
    generator = torch.Generator().manual_seed(seed)
    first, second, targets, teacher = 3 * torch.randn(4, views, classes, generator=generator)
    return first, second, targets.softmax(-1), teacher


seeds = st.integers(0, 2**31)


def loss_of(loss, heads, targets, teacher=None, **params):
    """The loss that params name."""
    return objective_loss(Objective.model_validate({"loss": loss, **params}), heads, targets, teacher)


def labels_loss(logits, targets):
    return loss_of("labels", (logits,), targets)


def hard_distillation_loss(logits, targets, decisions):
    return loss_of("hard", (logits,), targets, decisions)


def token_distillation_loss(first, second, targets, decisions):
    return loss_of("token", (first, second), targets, decisions)


def two_class_tokens_loss(first, second, targets):
    return loss_of("two-class-tokens", (first, second), targets)


def soft_distillation_loss(logits, targets, teacher, weight, temperature, reduction):
    params = {"weight": weight, "temperature": temperature, "reduction": reduction}
    return loss_of("soft", (logits,), targets, teacher, **params)


def test_labels_by_hand():
    assert labels_loss(LOGITS, TARGETS).item() == pytest.approx(LABELS_BY_HAND, rel=1e-6)


def test_hard_by_hand():
    """The teacher says 1 and 2."""
    teacher = (log(4) - log(0.7)) / 2
    loss = hard_distillation_loss(LOGITS, TARGETS, torch.tensor([1, 2]))
    assert loss.item() == pytest.approx((LABELS_BY_HAND + teacher) / 2, rel=1e-6)


def test_token_by_hand():
    """The distillation head is uniform, so its half costs log(3) / 2 whatever the teacher says."""
    loss = token_distillation_loss(LOGITS, torch.zeros(2, 3), TARGETS, torch.tensor([0, 2]))
    assert loss.item() == pytest.approx((LABELS_BY_HAND + log(3)) / 2, rel=1e-6)


def test_two_class_tokens_by_hand():
    loss = two_class_tokens_loss(LOGITS, torch.zeros(2, 3), TARGETS)
    assert loss.item() == pytest.approx((LABELS_BY_HAND + log(3)) / 2, rel=1e-6)


@pytest.mark.parametrize("reduction, divisor", [("batchmean", 1), ("mean", 2)])
def test_soft_by_hand(reduction, divisor):
    """At temperature 2 the student's (16, 1) / 17 becomes (4, 1) / 5; equal logits are (1, 1) / 2 always."""
    student, targets = torch.tensor([[16.0, 1.0]]).log(), torch.tensor([[1.0, 0.0]])
    divergence = 0.5 * log(0.5 / 0.8) + 0.5 * log(0.5 / 0.2)
    expected = 0.75 * log(17 / 16) + 0.25 * 4 * divergence / divisor
    loss = soft_distillation_loss(student, targets, torch.full((1, 2), 3.0), 0.25, 2.0, reduction)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@given(seeds)
def test_against_timm_and_torch(seed):
    first, second, targets, teacher = draw(seed)
    decisions = teacher.argmax(-1)
    labels = SoftTargetCrossEntropy()(first, targets)
    torch.testing.assert_close(labels_loss(first, targets), labels)
    hard = 0.5 * labels + 0.5 * cross_entropy(first, decisions)
    torch.testing.assert_close(hard_distillation_loss(first, targets, decisions), hard)
    token = 0.5 * labels + 0.5 * cross_entropy(second, decisions)
    torch.testing.assert_close(token_distillation_loss(first, second, targets, decisions), token)
    student_log, teacher_log = (first / 3).log_softmax(-1), (teacher / 3).log_softmax(-1)
    # As in the released code's losses.py.
    released = kl_div(student_log, teacher_log, reduction="sum", log_target=True) * 9 / first.numel()
    mean = soft_distillation_loss(first, targets, teacher, 0.1, 3.0, "mean")
    torch.testing.assert_close(mean, 0.9 * labels + 0.1 * released)
    by_sum = ((teacher / 3).softmax(-1) * (teacher_log - student_log)).sum(1).mean()
    batchmean = soft_distillation_loss(first, targets, teacher, 0.1, 3.0, "batchmean")
    torch.testing.assert_close(batchmean, 0.9 * labels + 0.1 * 9 * by_sum)


@given(seeds, st.floats(0, 1), st.sampled_from(["batchmean", "mean"]))
def test_limits(seed, weight, reduction):
    """A teacher that agrees adds nothing; without weight the teacher is not heard."""
    first, _, targets, teacher = draw(seed)
    labels = labels_loss(first, targets)
    agreeing = soft_distillation_loss(first, targets, first + 2.5, weight, 3.0, reduction)
    torch.testing.assert_close(agreeing, (1 - weight) * labels, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(soft_distillation_loss(first, targets, teacher, 0.0, 3.0, reduction), labels)
    truth = targets.argmax(-1)
    sharp = one_hot(truth, 7).float()
    torch.testing.assert_close(hard_distillation_loss(first, sharp, truth), labels_loss(first, sharp))
    torch.testing.assert_close(two_class_tokens_loss(first, first, targets), labels)


@given(seeds)
def test_each_head_learns_from_its_own_target(seed):
    """The gradient of a cross-entropy is (softmax - target) / B, here halved."""
    first, second, targets, teacher = draw(seed)
    first.requires_grad_()
    second.requires_grad_()
    labels = teacher.argmax(-1)
    token_distillation_loss(first, second, targets, labels).backward()
    torch.testing.assert_close(first.grad, (first.detach().softmax(-1) - targets) / 10)
    torch.testing.assert_close(second.grad, (second.detach().softmax(-1) - one_hot(labels, 7)) / 10)


@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
def test_a_teacher_may_exclude_classes(reduction):
    """A logit of minus infinity is a probability of 0, where p log p is 0."""
    first, _, targets, teacher = draw(0)
    teacher[:, 3] = -torch.inf
    loss = soft_distillation_loss(first.requires_grad_(), targets, teacher, 0.1, 3.0, reduction)
    loss.backward()
    assert loss.isfinite() and first.grad.isfinite().all()


def test_bf16_logits_are_computed_in_fp32():
    first, _, targets, teacher = draw(1)
    rounded = first.bfloat16()
    expected = soft_distillation_loss(rounded.float(), targets, teacher, 0.1, 3.0, "batchmean")
    loss = soft_distillation_loss(rounded, targets, teacher, 0.1, 3.0, "batchmean")
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)


@given(seeds, st.sampled_from([1.0, 3.0]))
def test_the_soft_token_is_timms(seed, temperature):
    """timm's TokenDistillationTask, on a student and a teacher whose logits are given."""
    first, second, targets, teacher = draw(seed)
    student = GivenLogits(torch.stack([first, second]))
    task = TokenDistillationTask(
        student, GivenLogits(teacher), SoftTargetCrossEntropy(), temperature=temperature, task_loss_weight=0.5,
        distill_type="soft", verbose=False,
    )  # fmt: skip
    theirs = task(torch.zeros(len(first), 3, 8, 8), targets)["loss"]
    ours = loss_of("soft-token", (first, second), targets, teacher, temperature=temperature)
    torch.testing.assert_close(ours, theirs)


class GivenLogits(torch.nn.Module):
    """A network that says the same of every view, with two heads where it is given two rows of logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.weight = logits, torch.nn.Parameter(torch.zeros(()))
        self.in_chans, self.num_classes, self.pretrained_cfg = (
            3,
            logits.shape[-1],
            {"mean": (0.0,) * 3, "std": (1.0,) * 3},
        )

    def set_distilled_training(self, enable=True):
        self.distilled_training = enable

    def forward(self, views):
        return tuple(self.logits) if self.logits.ndim == 3 else self.logits


def test_the_soft_token_in_plain_torch():
    """Each head has a gradient from its own half alone."""
    first, second, targets, teacher = draw(4)
    first.requires_grad_()
    second.requires_grad_()
    loss = loss_of("soft-token", (first, second), targets, teacher, temperature=2.0, reduction="mean")
    far = ((teacher / 2).softmax(1) * ((teacher / 2).log_softmax(1) - (second / 2).log_softmax(1))).sum(1).mean() / 7
    torch.testing.assert_close(loss, 0.5 * cross_entropy(first, targets) + 0.5 * 4 * far)
    loss.backward()
    torch.testing.assert_close(first.grad, (first.detach().softmax(-1) - targets) / 10)
    torch.testing.assert_close(second.grad, 2 * ((second.detach() / 2).softmax(1) - (teacher / 2).softmax(1)) / 70)


def z_scores(logits):
    """As the paper of Sun et al. writes them: the standard deviation is that of K values, not of K - 1."""
    centred = logits - logits.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt()


@given(seeds, st.floats(0.5, 4), st.floats(0, 10), st.floats(0, 1))
def test_standardised_logits_in_plain_torch(seed, temperature, kl_weight, labels_weight):
    first, _, targets, teacher = draw(seed)
    ours = (z_scores(first) / temperature).log_softmax(1)
    theirs = (z_scores(teacher) / temperature).softmax(1)
    far = kl_div(ours, theirs, reduction="batchmean")
    expected = labels_weight * cross_entropy(first, targets) + kl_weight * temperature**2 * far
    params = {"temperature": temperature, "kl_weight": kl_weight, "labels_weight": labels_weight}
    loss = loss_of("standardised", (first,), targets, teacher, **params)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


@given(seeds, st.floats(0.5, 20), st.floats(-5, 5))
def test_standardised_logits_have_no_range(seed, range_, shift):
    """A student that says the same in another range, from another zero, has nothing left to learn of its teacher."""
    first, _, targets, teacher = draw(seed)
    params = {"labels_weight": 0.0}
    agreeing = loss_of("standardised", (range_ * teacher + shift,), targets, teacher, **params)
    torch.testing.assert_close(agreeing, torch.zeros(()), rtol=0, atol=1e-3)
    other = loss_of("standardised", (range_ * first + shift,), targets, teacher, **params)
    torch.testing.assert_close(
        other, loss_of("standardised", (first,), targets, teacher, **params), rtol=1e-3, atol=1e-3
    )


def test_equal_logits_have_a_gradient_of_a_usual_size():
    """A head of zeros, as timm's `weight_init: jax` makes it, says the same of all classes."""
    _, _, targets, teacher = draw(2)
    equal = torch.zeros_like(teacher).requires_grad_()
    loss_of("standardised", (equal,), targets, teacher).backward()
    assert equal.grad.isfinite().all() and 0.1 < equal.grad.norm() < 1e4


@pytest.mark.parametrize("loss", names())
def test_an_objective_says_what_planning_needs(loss):
    objective = Objective.model_validate({"loss": loss})
    assert type(objective) is objective_class(loss) and objective.loss == loss and objective.title
    assert objective.module == f"deit.learn.objectives.{loss.replace('-', '_')}"
    assert objective.tokens >= (2 if "distillation" in objective.heads else 1) and objective.heads[0] == "class"
    said = {"": None, "labels": torch.tensor([0, 1]), "logits": LOGITS}[objective.teacher_says]
    heads = tuple(LOGITS.clone().requires_grad_() for _ in range(objective.tokens))
    objective_loss(objective, heads, TARGETS, said).backward()
    assert all(head.grad is not None for head in heads)


@pytest.mark.parametrize(
    ("content", "key", "words"),
    [
        (
            {"loss": "hard", "temperature": 2.0},
            "temperature",
            "of the loss soft and soft-token and standardised, and hard has none",
        ),
        ({"loss": "soft-token", "weight": 0.5}, "weight", "a key of the loss soft, and soft-token has none"),
        ({"loss": "soft", "temprature": 2.0}, "temprature", "did you mean 'temperature'"),
        ({"loss": "token", "x": 2.0}, "x", "known here: loss"),
        ({"loss": "sofd"}, "loss", "'hard' or 'labels' or 'soft'"),
        ({"loss": "soft", "temperature": 0}, "temperature", "greater than or equal to 0.01"),
        ({"temperature": 2.0}, "loss", "Field required"),
    ],
)
def test_an_objective_has_its_own_keys_only(content, key, words):
    with pytest.raises(ValidationError) as error:
        Objective.model_validate(content)
    (detail,) = error.value.errors()
    assert detail["loc"] == (key,) and words in detail["msg"]


@pytest.mark.parametrize(
    "loss, heads",
    [
        ("labels", 2),
        ("soft", 2),
        ("hard", 2),
        ("token", 1),
        ("two-class-tokens", 1),
        ("soft-token", 1),
        ("standardised", 2),
    ],
)
def test_objective_and_model_must_agree(loss, heads):
    first, second, targets, _ = draw(3)
    with pytest.raises(ValueError, match=f"'{loss}' trains {3 - heads}"):
        loss_of(loss, (first, second)[:heads], targets)

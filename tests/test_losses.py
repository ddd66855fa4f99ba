from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.loss import SoftTargetCrossEntropy
from torch.nn.functional import cross_entropy, kl_div, one_hot

from deit.learn.losses import (
    hard_distillation_loss,
    labels_loss,
    objective_loss,
    soft_distillation_loss,
    token_distillation_loss,
    two_class_tokens_loss,
)
from deit.learn.recipes import Objective

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


def test_objective_names_its_loss():
    first, second, targets, teacher = draw(2)
    labels = teacher.argmax(-1)
    soft = Objective(loss="soft", weight=0.3, temperature=2.0, reduction="mean")
    heads = (first, second)
    cases = [
        (Objective(loss="labels"), None, labels_loss(first, targets)),
        (soft, teacher, soft_distillation_loss(first, targets, teacher, 0.3, 2.0, "mean")),
        (Objective(loss="hard"), labels, hard_distillation_loss(first, targets, labels)),
        (Objective(loss="token"), labels, token_distillation_loss(*heads, targets, labels)),
        (Objective(loss="two-class-tokens"), None, two_class_tokens_loss(*heads, targets)),
    ]
    for objective, answer, expected in cases:
        loss = objective_loss(objective, heads[: objective.tokens], targets, answer)
        assert torch.equal(loss, expected), objective.loss


@pytest.mark.parametrize(
    "loss, heads", [("labels", 2), ("soft", 2), ("hard", 2), ("token", 1), ("two-class-tokens", 1)]
)
def test_objective_and_model_must_agree(loss, heads):
    first, second, targets, _ = draw(3)
    with pytest.raises(ValueError, match=f"'{loss}' trains {3 - heads}"):
        objective_loss(Objective(loss=loss), (first, second)[:heads], targets, None)

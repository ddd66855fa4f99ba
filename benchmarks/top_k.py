"""What the 20 largest of 1,000 teacher logits hold: of the mass at temperature 3, and of the student's gradient.

Synthetic teachers: normal logits of several spreads, two classes of a mixed view raised above them. The cache keeps the
20 largest and spreads the mass of the rest evenly (deit.teach.teacher_logits, keep: top-k). The gradient of the KL with
respect to the student's logits is softmax(student) - softmax(teacher); the student's are 0, as before training.
"""

from itertools import product

import torch

CLASSES, KEPT, TEMPERATURE, VIEWS = 1000, 20, 3.0, 4000


def synthetic(spread: float, raised: float) -> torch.Tensor:
    """Teacher logits (VIEWS, CLASSES)."""
    logits = spread * torch.randn(VIEWS, CLASSES)
    return logits.scatter(1, torch.randint(CLASSES, (VIEWS, 2)), raised + torch.randn(VIEWS, 2))


def kept(exact: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (VIEWS, CLASSES) -> mass of the largest (VIEWS,), and what a top-k cache makes of them."""
    largest = exact.topk(KEPT)
    mass = largest.values.sum(1)
    rest = (1 - mass) / (CLASSES - KEPT)
    return mass, rest[:, None].repeat(1, CLASSES).scatter(1, largest.indices, largest.values)


def main() -> None:
    torch.manual_seed(0)
    student = torch.full((VIEWS, CLASSES), 1 / CLASSES)
    print("| spread | raised by | mass of the 20 largest | cosine to the exact gradient |\n|---|---|---|---|")
    for spread, raised in product((0.5, 1.0, 1.5, 2.0), (6.0, 8.0, 10.0)):
        exact = torch.softmax(synthetic(spread, raised) / TEMPERATURE, 1)
        mass, cached = kept(exact)
        cosine = torch.cosine_similarity(student - exact, student - cached).mean()
        print(f"| {spread} | {raised:g} | {100 * mass.mean():.1f} % | {cosine:.2f} |")


if __name__ == "__main__":
    main()

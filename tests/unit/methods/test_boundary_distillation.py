"""methods/boundary_distillation.py: where samples come from, in which turn, and what the student learns there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limbeck.attacks.boundary import Boundary, BoundarySearch, DeepFoolBoundary, Output
from limbeck.errors import RecipeError
from limbeck.losses.kd import Kd, softened_kl
from limbeck.methods.boundary_distillation import BoundaryDistillation
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.terms.stored_boundary import StoredBoundary
from limbeck.types import Batch

N = 4


class Affine(nn.Module):
    """Three logits of an image of four pixels; remembers how often it was asked and in which mode."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.image_shape = (1, 2, 2)
        self.weight = nn.Parameter(torch.randn(3, 4, generator=draw))

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1) @ self.weight.T


class Search(BoundarySearch):
    """Adds 0.1 and says which network it was asked about, from where; every third sample reaches nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[Output, Tensor]] = []

    def __call__(self, output: Output, input: Tensor) -> Boundary:
        self.asked.append((output, input.clone()))
        return Boundary(input + 0.1, torch.arange(len(input)) % 3 != 2)


def batch(value: float, which: list[int]) -> Batch:
    image = torch.full((N, 1, 2, 2), value)
    return Batch(image=image, label=torch.arange(N) % 3, drawn={"student.boundary.which": torch.tensor(which)})


def losses(method: BoundaryDistillation, given: Batch, step: int) -> dict[str, Tensor]:
    (update,) = method.updates(given, step)
    found = {name: loss() if callable(loss) else loss for name, loss in update.losses.items()}
    method.moved("student", step)
    return found


def test_teacher_then_student_then_teacher_again() -> None:
    student, teacher, search = Affine(0), Affine(1), Search()
    method = BoundaryDistillation(student, teacher, search=search, stored=2 * N, interval=2)
    for step, value in enumerate([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, -0.9]):
        losses(method, batch(value, [0] * N), step)
    assert len(search.asked) == 5  # steps 0, 2, 4, 6 and 8
    assert [output is student for output, _ in search.asked] == [False, False, True, True, False]
    starts = [float(start.flatten()[0]) for _, start in search.asked]
    # Images of steps 0 and 2; what was stored of them, moved on; the images of step 8.
    assert starts == pytest.approx([0.1, 0.3, 0.2, 0.4, -0.9])
    assert method.store.samples[:, 0, 0, 0].tolist() == pytest.approx([-0.8] * N + [0.5] * N)
    assert int(method.store.written) == 5 * N


def test_the_student_learns_the_teachers_answers_at_stored_samples_that_reached_a_boundary() -> None:
    student, teacher = Affine(0), Affine(1)
    terms = {"student.boundary": StoredBoundary(2.0), "student.logits": Kd(2.0)}
    method = BoundaryDistillation(student, teacher, terms=terms, search=Search(), stored=100)
    which = [0, 2, 5, 7]  # of the four that are stored: 0, 2, 1, 3; number 2 reached nothing
    given = batch(0.3, which)
    assert losses(method, given, 0)["boundary"] == 0  # what was found is learned from the next step on
    found = losses(method, given, 1)
    samples = torch.full((N, 1, 2, 2), 0.4)
    by_hand = softened_kl(student(samples), teacher(samples), 2.0)
    assert found["boundary"].item() == pytest.approx(by_hand.sum().item() * 3 / 4 / N, rel=1e-5)
    assert given.image is not None
    expected = softened_kl(student(given.image), teacher(given.image), 2.0).mean()
    assert found["logits"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_larger_than_the_store_fills_it_once() -> None:
    method = BoundaryDistillation(Affine(0), Affine(1), search=Search(), stored=3)
    losses(method, batch(0.3, [0, 1, 2, 2]), 0)
    assert int(method.store.written) == 3 and method.store.reached.tolist() == [True, True, False]


def test_without_teacher_nothing_is_searched_or_stored() -> None:
    method = BoundaryDistillation(Affine(0), search=Search())
    assert method.draws() == {} and list(losses(method, batch(0.1, []), 0)) == ["cross_entropy"]
    assert not list(method.buffers())


def test_stored_samples_of_a_real_search_lie_where_the_teacher_cannot_decide() -> None:
    torch.manual_seed(0)
    teacher = SmallCnn(8, channels=1, size=8, classes=3)
    optimizer = torch.optim.Adam(teacher.parameters(), 0.02)
    image = torch.rand(96, 1, 8, 8) * 0.4 - 0.2
    label = torch.arange(96) % 3
    image[:, 0, :4] += (label == 1)[:, None, None] * 0.5
    image[:, 0, 4:] += (label == 2)[:, None, None] * 0.5
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(teacher(image), label).backward()
        optimizer.step()
    student = SmallCnn(2, channels=1, size=8, classes=3)
    method = BoundaryDistillation(student, teacher, search=DeepFoolBoundary(margin=0.05, classes=2), stored=96)
    given = Batch(image=image, label=label, drawn={"student.boundary.which": torch.arange(96)})
    before = teacher(image).softmax(1).topk(2).values
    losses(method, given, 0)
    after = teacher(method.store.samples[method.store.reached]).softmax(1).topk(2).values
    assert method.store.reached.float().mean() > 0.95
    assert (before[:, 0] - before[:, 1]).median() > 0.5
    assert (after[:, 0] - after[:, 1]).max() <= 0.051
    assert student.training and not teacher.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stored": 0}, "stored: expected at least 1, found 0"),
        ({"interval": 0}, "interval: expected at least 1, found 0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        BoundaryDistillation(Affine(0), Affine(1), **options)  # type: ignore[arg-type]


def test_a_student_that_does_not_say_which_images_it_takes() -> None:
    with pytest.raises(RecipeError, match="expected Linear to state its image_shape"):
        BoundaryDistillation(nn.Linear(4, 3), Affine(1))


def test_a_teacher_without_gradients_is_refused_in_one_line() -> None:
    class Cut(Affine):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image).detach()

    method = BoundaryDistillation(Affine(0), Cut(1), stored=8)
    with pytest.raises(RecipeError, match="DeepFoolBoundary: expected a loss with a gradient"):
        losses(method, batch(0.2, [0] * N), 0)

"""Segmenters: losses against formulas written here, and students that learn more than without their teacher."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import ToySegmenter, toy_job, trained

from limbeck.attacks.base import Attack, Loss
from limbeck.attacks.objectives import cross_entropy
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import FixedStrength
from limbeck.data.base import InMemory, to_float
from limbeck.errors import DataError, RecipeError
from limbeck.losses.cirkd_memory import CirkdMemory
from limbeck.losses.cwd import Cwd
from limbeck.losses.dkd import Dkd
from limbeck.losses.kd import Kd
from limbeck.methods.adversarial_segment import AdversarialSegment
from limbeck.methods.base import Method
from limbeck.methods.pseudo_label import PseudoLabel
from limbeck.methods.segment import Segment
from limbeck.metrics.segmentation import mean_iou, pixel_confusion
from limbeck.networks.gan.patch_discriminator import PatchDiscriminator
from limbeck.networks.given.external import Wrapped
from limbeck.networks.roles import Segmenter
from limbeck.tasks.segmentation import Segmentation
from limbeck.terms.adversarial import Adversarial, RealFake
from limbeck.terms.base import Term
from limbeck.terms.boundary_weighted_kl import BoundaryWeightedKl
from limbeck.terms.cross_entropy import CrossEntropy
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.penalties import R1
from limbeck.terms.pixel_cross_entropy import PixelCrossEntropy
from limbeck.terms.under_attack import UnderAttack
from limbeck.terms.unlabelled import AgreedLabels, PseudoLabels
from limbeck.terms.worst import Worst
from limbeck.types import VOID, Batch, Draw
from limbeck.weighting.scheduled import Scheduled

N, K, SIDE = 24, 3, 8


class Knows(Segmenter):
    """A teacher that is right: three classes by how bright a pixel is."""

    channels, classes = 1, K

    def __init__(self, sure: float = 40.0) -> None:
        super().__init__()
        self.sure = sure

    def forward(self, image: Tensor) -> Tensor:
        levels = image.new_tensor([-0.66, 0.0, 0.66])[:, None, None]
        return -self.sure * (image - levels).square()


def pictures() -> tuple[Tensor, Tensor]:
    """Return images of three levels with some noise, uint8, and their true masks."""
    draw = torch.Generator().manual_seed(0)
    mask = (
        torch.randint(0, K, (N, SIDE // 2, SIDE // 2), generator=draw).repeat_interleave(2, 1).repeat_interleave(2, 2)
    )
    noise = torch.randint(-25, 26, mask.shape, generator=draw)
    return (43 + 84 * mask + noise).to(torch.uint8)[:, None], mask


def batch(**given: Any) -> Batch:
    image, mask = pictures()
    mask = mask.clone()
    mask[:, 0] = VOID
    values: dict[str, Any] = {"image": to_float(image)[:4], "mask": mask[:4], "drawn": {}}
    return Batch(**values | given)


def losses(method: Method, given: Batch) -> dict[str, float]:
    found = {}
    for update in method.updates(given, 0):
        for name, loss in update.losses.items():
            found[f"{update.player}.{name}"] = float((loss() if callable(loss) else loss).detach())
    return found


def student(seed: int = 0, **options: int) -> ToySegmenter:
    torch.manual_seed(seed)
    return ToySegmenter(6, **options)


def iou(network: nn.Module) -> float:
    image, mask = pictures()
    return mean_iou(pixel_confusion(network.eval()(to_float(image)).argmax(1), mask, K))


def learnt(
    method: Method,
    mask: Tensor,
    folder: Path,
    weights: dict[str, float],
    *,
    steps: int = 60,
    image: Tensor | None = None,
) -> nn.Module:
    images = InMemory(pictures()[0] if image is None else image, None, mask.to(torch.uint8))
    trained(
        toy_job(
            folder,
            method,
            images=images,
            task=Segmentation(),
            steps=steps,
            weighting=Scheduled(weights, method.weights),
            optimizers={"student": partial(torch.optim.Adam, lr=0.02)},
        )
    )
    return method.student


def test_values() -> None:
    given, mine, teacher = batch(), student(), Knows()
    assert given.image is not None and given.mask is not None
    level = BoundaryWeightedKl(2.0, gain=0.0)
    method = Segment(mine, teacher=teacher, terms={"student.logits": Kd(2.0), "student.boundary": level})
    s, t = mine(given.image).double(), teacher(given.image).double()
    log_q, log_p = (z.log_softmax(1) for z in (s, t))
    known = given.mask != VOID
    picked = -log_q.gather(1, given.mask.where(known, 0)[:, None])[:, 0]
    p, soft_p, soft_q = log_p.exp(), (t / 2).softmax(1), (s / 2).log_softmax(1)
    divergence = 4 * (soft_p * ((t / 2).log_softmax(1) - soft_q)).sum(1)
    assert p.sum(1).allclose(torch.ones(()).double())
    found = losses(method, given)
    assert found["student.cross_entropy"] == pytest.approx(float(picked[known].detach().mean()), rel=1e-5)
    assert found["student.logits"] == pytest.approx(
        float(divergence.mean()), rel=1e-5
    )  # void or not: it is the teacher's
    assert found["student.boundary"] == pytest.approx(float(divergence.mean()), rel=1e-5)  # all pixels weigh the same
    steep = {"student.boundary": BoundaryWeightedKl(gain=9.0)}
    near = losses(Segment(mine, teacher=teacher, terms=steep), given)["student.boundary"]
    assert near != pytest.approx(found["student.boundary"], rel=1e-3)


def test_classes_count_by_their_weights() -> None:
    """Two pixels of class 0 and one of class 1 under weights 1 and 4: (a + b + 4 c) / 6."""
    image, mask = torch.zeros(1, 1, 1, 3), torch.tensor([[[0, 0, 1]]])
    network = student(classes=2)
    log = network(image).log_softmax(1)[0, :, 0]
    expected = -(log[0, 0] + log[0, 1] + 4 * log[1, 2]) / 6
    weighed = {"student.cross_entropy": PixelCrossEntropy([1.0, 4.0])}
    found = losses(Segment(network, terms=weighed), Batch(image=image, mask=mask))
    assert found["student.cross_entropy"] == pytest.approx(expected.item(), rel=1e-5)


def test_an_imported_network_says_by_its_image_shape_what_it_takes() -> None:
    theirs = nn.Sequential(OrderedDict(body=nn.Conv2d(1, 4, 3, padding=1), head=nn.Conv2d(4, K, 1)))
    teacher = Wrapped(theirs, "segmenter", classes=K, image_shape=(1, SIDE, SIDE))
    features = {"student.features": Cwd({"body": "body"})}
    found = losses(Segment(student(), teacher=teacher, terms=features), batch())
    assert found["student.features"] > 0
    assert AdversarialSegment(teacher, size=SIDE).input() == ("image", (1, SIDE, SIDE))


def test_a_loss_that_needs_the_class_sees_no_void_pixel() -> None:
    given, mine = batch(), student()
    assert given.image is not None and given.mask is not None
    method = Segment(mine, teacher=Knows(), terms={"student.logits": Dkd()})
    known = given.mask != VOID
    rows = [z.movedim(1, 3)[known] for z in (mine(given.image), Knows()(given.image))]
    expected = Dkd()(*rows, given.mask[known]).mean()
    assert losses(method, given)["student.logits"] == pytest.approx(float(expected), rel=1e-5)


def test_without_a_teacher_the_true_masks_are_real() -> None:
    class Remembers(PatchDiscriminator):  # type: ignore[misc]
        def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
            shown.append(image.detach())
            return super().forward(image, label)

    shown: list[Tensor] = []
    given, mine = batch(), student()
    assert given.image is not None and given.mask is not None
    hinge = {"discriminator.real_fake": RealFake("hinge")}
    losses(Segment(mine, Remembers(2, 1 + K, 8, halvings=1), terms=hinge), given)
    real, fake = shown[0][:, 1:], shown[1][:, 1:]
    known = given.mask != VOID
    assert torch.equal(real.argmax(1)[known], given.mask[known]) and torch.equal(
        real.movedim(1, 3)[known].amax(1), torch.ones(int(known.sum()))
    )
    assert torch.equal(real.movedim(1, 3)[~known], fake.movedim(1, 3)[~known])
    assert torch.allclose(fake, mine(given.image).softmax(1))


def test_only_the_wasserstein_game_comes_with_a_penalty() -> None:
    def of(terms: dict[str, Term | None]) -> Segment:
        return Segment(student(), PatchDiscriminator(2, 1 + K, 8, halvings=1), terms=terms)

    assert "discriminator.penalty" in of({}).terms and of({}).differentiates == "twice"
    hinge = {"discriminator.real_fake": RealFake("hinge")}
    assert "discriminator.penalty" not in of(hinge).terms and of(hinge).differentiates == "once"
    asked = of(hinge | {"discriminator.penalty": R1()})
    assert isinstance(asked.terms["discriminator.penalty"], R1)
    adversarial = asked.terms["student.adversarial"]
    assert isinstance(adversarial, Adversarial) and adversarial.loss == "hinge"


def test_a_score_of_patches_is_their_mean() -> None:
    """hinge(mean of patches), not mean of hinges: a patch at 3 and one at -1 make 1, where a real one costs nothing."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = nn.Parameter(torch.tensor(1.0))

        def forward(self, image: Tensor) -> Tensor:
            return self.level * image.new_tensor([[3.0, -1.0]]).expand(len(image), 2)

    method = Segment(student(), Halves(), terms={"discriminator.real_fake": RealFake("hinge")})
    found = losses(method, batch())
    assert found["discriminator.real_fake"] == pytest.approx(0 + 2)
    assert found["student.adversarial"] == pytest.approx(-1)


def test_what_lacks_a_discriminator_is_left_out_with_the_reason() -> None:
    left = Segment(student(), teacher=Knows()).left_out
    assert left == {
        "discriminator.real_fake": "RealFake needs a discriminator, and there is none",
        "discriminator.penalty": "GradientPenalty needs a discriminator, and there is none",
        "student.adversarial": "Adversarial needs a discriminator, and there is none",
    }


def test_borders_are_followed_where_an_attack_hurts_most() -> None:
    """The divergence at x' is above that at x; without any strength it is that at x."""
    attack = Pgd(0.6, 0.1, 10)
    method = Segment(
        student(), teacher=Knows(4.0), terms={"student.worst": Worst(BoundaryWeightedKl(), attack)}, size=8
    )
    starts = {n: d.sample(4, torch.Generator().manual_seed(0)) for n, d in method.draws().items()}
    found = losses(method.eval(), batch(drawn=starts))
    assert found["student.worst"] > found["student.boundary"] + 0.1
    calm = {"student.worst": Worst(BoundaryWeightedKl(), attack, FixedStrength(0.0))}
    still = losses(Segment(method.student, teacher=Knows(4.0), terms=calm, size=8).eval(), batch(drawn=starts))
    assert still["student.worst"] == pytest.approx(found["student.boundary"], rel=1e-5)


def test_a_memory_takes_in_the_same_in_one_micro_batch_or_two() -> None:
    torch.manual_seed(0)
    whole = CirkdMemory({"body": "body"}, K, pixels=7, regions=3, pixel_anchors=6, stored=2)
    whole.fit_to([(6, SIDE, SIDE)], [(4, SIDE, SIDE)])
    parts = deepcopy(whole)
    mine, goal = torch.randn(4, 6, SIDE, SIDE), torch.randn(4, 4, SIDE, SIDE)
    mask, drawn = batch().mask, {n: d.sample(4, torch.Generator().manual_seed(0)) for n, d in whole.draws().items()}
    assert mask is not None
    before = deepcopy(dict(whole.named_buffers()))
    whole([mine], [goal], mask, None, drawn)
    for part in (slice(0, 2), slice(2, 4)):
        parts([mine[part]], [goal[part]], mask[part], None, {name: value[part] for name, value in drawn.items()})
    for name, value in whole.named_buffers():
        torch.testing.assert_close(dict(parts.named_buffers())[name], value, msg=name)
        assert not torch.equal(value, before[name])
    assert whole.couples


def test_a_teacher_helps_where_masks_are_wrong(tmp_path: Path) -> None:
    """Half of the pixels have any class; the teacher knows better. Three seeds, a margin of 0.1."""
    _, mask = pictures()
    draw = torch.Generator().manual_seed(1)
    noisy = torch.where(
        torch.rand(mask.shape, generator=draw) < 0.6, torch.randint(0, K, mask.shape, generator=draw), mask
    )
    for seed in range(3):
        weights = {"student.cross_entropy": 0.1, "student.logits": 0.9}
        method = Segment(student(seed), teacher=Knows(), terms={"student.logits": Kd(2.0)})
        taught = learnt(method, noisy, tmp_path / f"t{seed}", weights)
        alone = learnt(Segment(student(seed)), noisy, tmp_path / f"a{seed}", {})
        assert iou(taught) > iou(alone) + 0.1 and iou(taught) > 0.8


def test_a_teachers_masks_serve_where_there_are_none(tmp_path: Path) -> None:
    """Of 24 images one has a mask, and that of one class. Three seeds, a margin of 0.2."""
    _, mask = pictures()
    few = torch.full_like(mask, VOID)
    few[0] = mask[0].where(mask[0] == 1, VOID)
    for seed in range(3):
        taught = learnt(PseudoLabel(student(seed), Knows()), few, tmp_path / f"t{seed}", {})
        alone = learnt(PseudoLabel(student(seed)), few, tmp_path / f"a{seed}", {})
        assert iou(taught) > iou(alone) + 0.2


def test_only_what_is_sure_is_learnt_of_images_without_masks() -> None:
    given = batch()
    assert given.image is not None and given.mask is not None
    mask = given.mask.clone()
    mask[2:] = VOID
    mine, teacher = student(), Knows(1.5)
    found = losses(PseudoLabel(mine, teacher, terms={"student.pseudo": PseudoLabels(0.6)}), batch(mask=mask))
    sure, label = teacher(given.image[2:]).softmax(1).max(1)
    values = nn.functional.cross_entropy(mine(given.image[2:]), label, reduction="none")
    kept = sure >= 0.6
    assert 0 < kept.double().mean() < 1
    assert found["student.pseudo"] == pytest.approx(float((values * kept).sum() / kept.numel()), rel=1e-5)
    assert losses(PseudoLabel(mine, teacher), batch())["student.pseudo"] == 0  # every image has a mask
    assert losses(PseudoLabel(mine, teacher), batch(mask=torch.full_like(mask, VOID)))["student.cross_entropy"] == 0


def test_views_that_do_not_agree_teach_nothing() -> None:
    class Left(Segmenter):
        """Says class 1 in the left half, whatever it sees: the mirrored view says the opposite."""

        channels, classes = 1, 2

        def __init__(self, by_place: bool) -> None:
            super().__init__()
            self.by_place, self.weight = by_place, nn.Parameter(torch.tensor(2.0))

        def forward(self, image: Tensor) -> Tensor:
            side = torch.linspace(1, -1, image.shape[3]).sign() if self.by_place else image[:, 0].sign()
            score = self.weight * side.expand(len(image), *image.shape[2:])
            return torch.stack([-score, score], 1)

    plain = torch.ones(2, 1, SIDE, SIDE)
    plain[1] = -1
    nothing = torch.full((2, SIDE, SIDE), VOID)
    given = batch(image=plain, mask=nothing)

    def agreed(by_place: bool, threshold: float) -> float:
        method = PseudoLabel(Left(by_place), terms={"student.agreed": AgreedLabels(threshold)})
        return losses(method, given)["student.agreed"]

    assert agreed(by_place=True, threshold=0.0) == 0
    assert agreed(by_place=False, threshold=0.9) > 0
    assert agreed(by_place=False, threshold=0.99) == 0


def test_under_attack_the_student_is_to_say_what_the_teacher_says_undisturbed() -> None:
    class Brighter(Attack):
        def draws(self, shape: Sequence[int]) -> Mapping[str, Draw]:
            return {}

        def __call__(
            self, loss: Loss, input: Tensor, drawn: Mapping[str, Tensor], strength: float | None = None
        ) -> Tensor:
            assert loss(input).shape == (len(input),)
            return input + 0.2

    given, mine, teacher = batch(), student(), Knows(4.0)
    assert given.image is not None and given.mask is not None
    method = AdversarialSegment(mine, teacher, size=SIDE, attack=Brighter()).eval()
    found = losses(method, given)
    clean, hurt, goal = (z.movedim(1, 3) for z in (mine(given.image), mine(given.image + 0.2), teacher(given.image)))
    known = given.mask != VOID
    for name, logits in {"cross_entropy": clean, "robust": hurt}.items():
        expected = nn.functional.cross_entropy(logits[known], given.mask[known])
        assert found[f"student.{name}"] == pytest.approx(expected.item(), rel=1e-5)
    follow = nn.functional.kl_div(hurt.log_softmax(3), goal.log_softmax(3), log_target=True, reduction="none").sum(3)
    assert found["student.follow"] == pytest.approx(follow.mean().item(), rel=1e-5)
    assert found["student.robust"] != pytest.approx(found["student.cross_entropy"], rel=1e-4)


def test_a_student_that_was_attacked_stands_up_to_attacks(tmp_path: Path) -> None:
    """A strong feature is right nine times in ten, a weak one always: whoever trusts that is wrong under attack.

    The setting of Tsipras et al. 2019. Three seeds, a margin of 0.3.
    """
    mask = pictures()[1] % 2
    draw = torch.Generator().manual_seed(2)
    sign = 2 * mask - 1
    strong = torch.where(torch.rand(mask.shape, generator=draw) < 0.9, sign, -sign)
    image = torch.stack([127.5 + 76 * strong, 127.5 + 13 * sign], 1).to(torch.uint8)
    attack = Pgd(0.25, 0.1, 5)

    def after(method: Method, folder: str) -> float:
        network = learnt(method, mask, tmp_path / folder, {}, steps=100, image=image).eval()
        starts = {n: d.sample(N, torch.Generator().manual_seed(0)) for n, d in attack.draws((2, SIDE, SIDE)).items()}
        attacked = attack(lambda x: cross_entropy(network(x), mask), to_float(image), starts)
        return mean_iou(pixel_confusion(network(attacked).argmax(1), mask, 2))

    for seed in range(3):
        hardened, plain = (student(seed, channels=2, classes=2) for _ in range(2))
        taught = AdversarialSegment(hardened, size=SIDE, attack=attack)
        assert after(taught, f"h{seed}") > after(Segment(plain), f"p{seed}") + 0.3


def worst_borders() -> Worst:
    return Worst(BoundaryWeightedKl(), Pgd())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BoundaryWeightedKl(width=0), "width: expected a whole number of at least 1, found 0"),
        (lambda: BoundaryWeightedKl(0), "temperature: expected a number above 0, found 0"),
        (lambda: BoundaryWeightedKl(gain=-1), "gain: expected a number of at least 0, found -1"),
        (
            lambda: Segment(
                nn.Conv2d(1, 3, 1),
                teacher=Knows(),
                terms={"student.features": Cwd({"body": "body"})},
            ),
            "expected Conv2d to state its number of `channels`, found none",
        ),
        (lambda: PseudoLabels(1), r"threshold: expected a number in \[0, 1\), found 1"),
        (lambda: AgreedLabels(scales=[0.0]), r"scales: expected zooms above 0, found \[0.0\]"),
        (lambda: PixelCrossEntropy([1.0, -1.0]), "class_weights: expected numbers of at least 0"),
        (lambda: Segment(student(), size=0), "Segment.size: expected pixels of at least 1, found 0"),
        (
            lambda: Segment(student(), terms={"student.adversarial": Adversarial()}),
            "terms.student.adversarial: Adversarial needs a discriminator, and there is none",
        ),
        (
            lambda: Segment(student(), teacher=Knows(), terms={"student.output": OutputDistance()}),
            "OutputDistance is about images, and this student says logits of pixels",
        ),
        (
            lambda: list(AdversarialSegment(student(), size=4).updates(batch(), 0)),
            r"size: expected the images' \(1, 8, 8\)",
        ),
        (
            lambda: losses(Segment(student(), teacher=Knows(), terms={"student.worst": worst_borders()}), batch()),
            r"Worst: expected images of the shape \(1, 64, 64\) that the student, or the `size` of the method, states",
        ),
        (
            lambda: AdversarialSegment(student(), terms={"student.robust": UnderAttack(CrossEntropy())}, size=8),
            "CrossEntropy is about logits, and this student says logits of pixels",
        ),
        (
            lambda: AdversarialSegment(
                student(), terms={"student.robust": UnderAttack(UnderAttack(PixelCrossEntropy()))}, size=8
            ),
            "expected a term of any scene, found UnderAttack, which looks at an AttackedScene itself",
        ),
        (
            lambda: Segment(student(), terms={"student.robust": UnderAttack(PixelCrossEntropy())}),
            "UnderAttack is not for Segment: it needs steps of the kind AttackedScene",
        ),
        (lambda: AdversarialSegment(student(), size=0), "size: expected pixels of at least 1, found 0"),
    ],
)
def test_bad_input(make: Any, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        make()


@pytest.mark.parametrize("method", [Segment, PseudoLabel])
def test_without_masks_nothing_is_learnt(method: type[Method]) -> None:
    with pytest.raises(DataError, match=f"{method.__name__}: expected data with masks, found none"):
        losses(method(student()), batch(mask=None))


def test_a_student_is_not_its_own_teacher() -> None:
    one = student()
    for method in (Segment, PseudoLabel, partial(AdversarialSegment, size=8)):
        with pytest.raises(RecipeError, match="expected another network"):
            method(one, teacher=one)

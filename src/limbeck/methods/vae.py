"""Training of a variational autoencoder, alone or from a teacher (Kingma & Welling 2014)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, TypeVar, final

import torch
from torch import Tensor, nn

from limbeck.attacks.base import Attack, per_sample
from limbeck.attacks.latent import on_shell
from limbeck.attacks.strength import Strength
from limbeck.errors import require
from limbeck.losses import gan, vae
from limbeck.losses.features import DISTANCES, feature_matching, l1
from limbeck.losses.gather import gathered
from limbeck.losses.tensors import precise
from limbeck.methods.legacy import Legacy
from limbeck.methods.perceptual import perceptual
from limbeck.networks.autoencoders.latent_map import LatentMap
from limbeck.networks.handling.adapters import adapter, feature_shapes
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.modes import evaluating
from limbeck.networks.handling.tap import Tap
from limbeck.networks.roles import Classifier, Discriminator, VariationalAutoencoder
from limbeck.types import Batch, Draw, Loss, Update

T = TypeVar("T")
Likelihood = Literal["gaussian", "discretized_gaussian", "bernoulli", "l1"]


@final
class Vae(Legacy):
    """One player, the student, and with a patch discriminator a second one (VAE-GAN, Larsen et al. 2016).

    Without a teacher this is plain training, and so its own control arm: what concerns a teacher is then left aside.
    S and T are student and teacher, q their posteriors, x an image, D its number of values, z a latent. Terms of the
    bound are divided by D, so that `reconstruction` and `kl` with weight 1 add up to -ELBO / D in nats. β is the weight
    of `student.kl`, KL warm-up a weight of `{weight: 1, ramp: 0.2}`; the survey's α (hard term) and 1 - α (soft label)
    are the weights of `student.reconstruction` and `student.posterior`.

    * `student.reconstruction`: -log p(x | z) / D, z drawn from q_S(z | x).
    * `student.kl`: KL(q_S(z | x) ‖ N(0, 1)) / D, of each latent dimension at least `free_bits`.
    * `student.perceptual`: L1 distance of the features that `feature_network` has of image and reconstruction.
    * `student.adversarial`, `discriminator.real_fake`: the logistic GAN losses of reconstructions.
    * `student.posterior`: KL(q_T(z | x) ‖ q_S(z | x)) / d, d the values of the student's latent: the teacher's
      parameters as soft label. Where latents differ it is taken through a `LatentMap`.
    * `student.decoder`: distance of S's and T's decoders on the same latents, from q_T(z | x) and from the prior.
    * `student.decoder_perceptual`: the same in the features of `feature_network`.
    * `student.feature`: L1 distance of intermediate features, the student's through learned 1x1 adapters; those of the
      decoders on the same latents as above.
    * `student.encoder_swap`: distance of T's decoder on S's latent from x. Only where both latents have one shape.
    * `student.decoder_swap`: distance of S's decoder on T's latent from x.
    * `student.output`: distance of S's and T's reconstructions of x, each from its own posterior mean.
    * `student.worst_posterior`, `student.worst_output`: as `posterior` and `output`, for images that `attack` changed
      to make it large.
    * `student.worst_decoder`: as `decoder`, for latents of the prior that `latent_attack` changed to make it large.

    Where the latents differ, the teacher's losses begin after `map_steps` steps: the map is fitted to the teacher's
    posterior means of the images of these steps. A training of no more steps than that learns nothing of its teacher.

    Args:
        student: A variational autoencoder of images (N, C, H, W).
        discriminator: Scores (N,) or (N, h, w) of images, or None.
        teacher: Another variational autoencoder.
        likelihood: p(x | z): "gaussian" and "discretized_gaussian" with a learned standard deviation, "bernoulli", or
            "l1", which is a Laplace distribution of scale 1 and no likelihood to compare bounds by.
        free_bits: λ of at least 0, in nats a latent dimension (Kingma et al. 2016).
        output: Distance of images.
        prior_share: Probability with which `decoder` takes a latent of the prior, in [0, 1].
        features: Module path in the student for each module path of the teacher that it has to match, both of the
            encoders or both of the decoders.
        feature_network: A trained classifier for the perceptual losses.
        perceptual_paths: Module paths of it.
        map_steps: Steps that the map of latents is fitted to.
        attack: What changes images for `worst_posterior` and `worst_output`, or None.
        latent_attack: What changes latents for `worst_decoder`, or None. A PGD has `low: null, high: null` and a name
            of its own. Each changed latent is brought back to the length it had.
        strength: Replaces the radius of `attack` in every step: fixed, scheduled, or steered by the loss before and
            after the attack.

    Raises:
        RecipeError: Arguments that are out of range or exclude each other, or networks that do not fit.
    """

    weights: ClassVar[Mapping[str, float]] = {
        "discriminator.real_fake": 1.0,
        "student.reconstruction": 1.0,
        "student.kl": 1.0,
        "student.perceptual": 1.0,
        "student.adversarial": 1.0,
        "student.posterior": 1.0,
        "student.decoder": 1.0,
        "student.decoder_perceptual": 1.0,
        "student.feature": 1.0,
        "student.encoder_swap": 0.0,
        "student.decoder_swap": 0.0,
        "student.output": 0.0,
        "student.worst_posterior": 1.0,
        "student.worst_output": 0.0,
        "student.worst_decoder": 1.0,
    }

    student: VariationalAutoencoder

    def __init__(
        self,
        student: VariationalAutoencoder,
        discriminator: Discriminator | None = None,
        teacher: VariationalAutoencoder | None = None,
        *,
        likelihood: Likelihood = "gaussian",
        free_bits: float = 0.0,
        output: Literal["l1", "l2"] = "l1",
        prior_share: float = 0.5,
        features: Mapping[str, str] | None = None,
        feature_network: Classifier | None = None,
        perceptual_paths: Sequence[str] = (),
        map_steps: int = 50,
        attack: Attack | None = None,
        latent_attack: Attack | None = None,
        strength: Strength | None = None,
    ) -> None:
        super().__init__()
        known = ("gaussian", "discretized_gaussian", "bernoulli", "l1")
        require("vae.likelihood", likelihood in known, f"one of {', '.join(known)}", likelihood)
        require("vae.free_bits", free_bits >= 0, "a number of at least 0", free_bits)
        require("vae.output", output in DISTANCES, f"one of {', '.join(DISTANCES)}", output)
        require("vae.prior_share", 0 <= prior_share <= 1, "a number in [0, 1]", prior_share)
        require("vae.map_steps", map_steps >= 1, "a whole number of at least 1", map_steps)
        require("vae.teacher", teacher is not student, "another network than the student (a copy)", "the same")
        paired = (feature_network is None) == (not perceptual_paths)
        require(
            "vae.perceptual_paths", paired, "paths if and only if there is a feature_network", list(perceptual_paths)
        )
        require("vae.strength", strength is None or attack is not None, "an attack whose strength it is", None)
        for name, network in (("student", student), ("teacher", teacher)):
            varies = network is None or hasattr(network, "posterior")
            require(f"vae.{name}", varies, "a variational autoencoder, which has a posterior", type(network).__name__)
        scaled = "gaussian" not in likelihood or hasattr(student, "log_scale")
        require("vae.likelihood", scaled, "bernoulli or l1 for a network without log_scale", likelihood)
        if feature_network is not None:
            Tap(feature_network, perceptual_paths)
        self.student, self.discriminator = student, discriminator
        self.teacher = None if teacher is None else Frozen(teacher)
        self.feature_network = None if feature_network is None else Frozen(feature_network)
        self.likelihood, self.free_bits, self.output, self.prior_share = likelihood, free_bits, output, prior_share
        self.perceptual_paths, self.map_steps = list(perceptual_paths), map_steps
        self.attack = None if teacher is None else attack
        self.latent_attack = None if teacher is None else latent_attack
        self.strength = None if teacher is None else strength
        self.map = None if teacher is None else LatentMap(teacher.latent_shape, student.latent_shape)
        self.features = dict(features or {}) if teacher is not None else {}
        for mine, goal in self.features.items():
            alike = not goal.startswith("decoder" if _of_encoder(mine) else "encoder")
            require("vae.features", alike, "paths of the same part, encoder or decoder, in both", {mine: goal})
        self.adapters = nn.ModuleList() if teacher is None else _adapters(student, teacher, self.features)

    def draws(self) -> Mapping[str, Draw]:
        """Return the noise of both posteriors, latents of the prior and who gets them, and what the attacks draw."""
        drawn = {"vae.noise": Draw(self.student.latent_shape)}
        if self.teacher is None:
            return drawn
        latent = self.told.latent_shape
        drawn |= {"vae.teacher_noise": Draw(latent), "vae.prior": Draw(latent), "vae.share": Draw((), "uniform")}
        of_images = {} if self.attack is None else dict(self.attack.draws(self.student.image_shape))
        of_latents = {} if self.latent_attack is None else dict(self.latent_attack.draws(latent))
        both = sorted(of_images.keys() & of_latents.keys())
        require("vae.latent_attack", not both, "a name of its own, such as `name: latent`", both)
        return drawn | of_images | of_latents

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student together with its adapters, where it has any, and the discriminator, if there is one."""
        student = nn.ModuleList([self.student, self.adapters]) if self.adapters else self.student
        critic = {} if self.discriminator is None else {"discriminator": self.discriminator}
        return {**critic, "student": student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the discriminator's update, if there is one, and the student's."""
        require("vae.data", batch.image is not None, "batches with images", None)
        lesson = _Lesson(self, batch, step)
        if self.discriminator is not None:
            yield Update("discriminator", {"real_fake": lesson.real_fake})
        losses: dict[str, Loss] = {"reconstruction": lesson.reconstruction, "kl": lesson.kl}
        if self.discriminator is not None:
            losses["adversarial"] = lesson.adversarial
        if self.feature_network is not None:
            losses["perceptual"] = lambda: lesson.seen(lesson.reconstructed, lesson.image)
        if self.map is not None:
            losses |= self._followed(lesson, self.map, step)
        yield Update("student", losses)

    def _followed(self, lesson: _Lesson, mapped: LatentMap, step: int) -> dict[str, Loss]:
        if not mapped.ready and step < self.map_steps:
            mapped.observe(gathered(lesson.taught.mean))
            return {}
        mapped.fit()
        losses: dict[str, Loss] = {
            "posterior": lambda: lesson.divergence(lesson.taught, lesson.mine).mean(),
            "decoder": lambda: DISTANCES[self.output](lesson.decoded, lesson.goal).mean(),
            "decoder_swap": lambda: DISTANCES[self.output](lesson.swapped, lesson.image).mean(),
            "output": lesson.imitated,
        }
        if mapped.identity:
            losses["encoder_swap"] = lesson.encoder_swap
        if self.feature_network is not None:
            losses["decoder_perceptual"] = lambda: lesson.seen(lesson.decoded, lesson.goal)
        if self.features:
            losses["feature"] = lesson.feature
        if self.attack is not None:
            losses["worst_posterior"] = lambda: lesson.at_worst(lesson.surprise)
            losses["worst_output"] = lambda: lesson.at_worst(lesson.apart)
        if self.latent_attack is not None:
            losses["worst_decoder"] = lesson.worst_decoder
        return losses

    @property
    def told(self) -> VariationalAutoencoder:
        """The teacher's network."""
        assert self.teacher is not None
        network: VariationalAutoencoder = self.teacher.network  # type: ignore[assignment]
        return network


class _Posterior(NamedTuple):
    mean: Tensor
    log_variance: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Return μ + σ ε (Kingma & Welling 2014, section 2.4)."""
        return self.mean + (self.log_variance / 2).exp() * noise


class _Lesson:
    """What the losses of one step share, each computed when it is first asked for."""

    def __init__(self, method: Vae, batch: Batch, step: int) -> None:
        assert batch.image is not None
        self.method, self.drawn, self.step = method, batch.drawn, step
        self.image: Tensor = batch.image
        pairs = list(method.features.items())
        self.in_encoder = dict(pair for pair in pairs if _of_encoder(pair[0]))
        self.in_decoder = dict(pair for pair in pairs if pair[0] not in self.in_encoder)
        self.mine_at: dict[str, Tensor] = {}  # features of the student by its paths
        self.goal_at: dict[str, Tensor] = {}  # features of the teacher by its paths

    @cached_property
    def mine(self) -> _Posterior:
        """q_S(z | x)."""
        student = self.method.student
        return _Posterior(*_tapped(student, list(self.in_encoder), self.mine_at, student.posterior, self.image))

    @cached_property
    def taught(self) -> _Posterior:
        """q_T(z | x)."""
        teacher, paths = self.method.told, list(self.in_encoder.values())
        with torch.no_grad():
            return _Posterior(*_tapped(teacher, paths, self.goal_at, teacher.posterior, self.image))

    @cached_property
    def reconstructed(self) -> Tensor:
        """S's reconstruction at a draw of its posterior, (N, C, H, W)."""
        return self.method.student.decode(self.mine.at(self.drawn["vae.noise"]))

    @cached_property
    def latent(self) -> Tensor:
        """Latents of the teacher (N, ...): of the prior with the probability `prior_share`, else of q_T(z | x)."""
        own = self.taught.at(self.drawn["vae.teacher_noise"])
        of_prior = per_sample(self.drawn["vae.share"] < self.method.prior_share, own)
        return torch.where(of_prior, self.drawn["vae.prior"].to(own), own)

    @cached_property
    def goal(self) -> Tensor:
        """What T's decoder makes of `latent`."""
        teacher, paths = self.method.told, list(self.in_decoder.values())
        with torch.no_grad():
            return _tapped(teacher, paths, self.goal_at, teacher.decode, self.latent)

    @cached_property
    def decoded(self) -> Tensor:
        """What S's decoder makes of `latent`."""
        return _tapped(self.method.student, list(self.in_decoder), self.mine_at, self._decode, self.latent)

    @cached_property
    def swapped(self) -> Tensor:
        """What S's decoder makes of a draw of q_T(z | x)."""
        return self._decode(self.taught.at(self.drawn["vae.teacher_noise"]))

    def reconstruction(self) -> Tensor:
        """Return the negative log-likelihood of the images, by value."""
        likelihood, mean = self.method.likelihood, self.reconstructed
        if likelihood == "l1":
            return l1(mean, self.image).mean()
        if likelihood == "bernoulli":
            nll = vae.bernoulli_nll(self.image, mean)
        else:
            form = vae.gaussian_nll if likelihood == "gaussian" else vae.discretized_gaussian_nll
            nll = form(self.image, mean, self.method.student.log_scale)
        return nll.mean() / self.image[0].numel()

    def kl(self) -> Tensor:
        """Return the divergence from the prior, by value of the image."""
        each = gathered(vae.kl_from_prior(*self.mine))  # the mean of a unit is that of all samples
        return vae.free_bits(each, self.method.free_bits) / self.image[0].numel()

    def real_fake(self) -> Tensor:
        """Return the discriminator's loss."""
        return gan.logistic_discriminator(self._score(self.image), self._score(self.reconstructed.detach()))

    def adversarial(self) -> Tensor:
        """Return the student's loss against the discriminator."""
        return gan.logistic_generator(self._score(self.reconstructed))

    def divergence(self, taught: _Posterior, mine: _Posterior) -> Tensor:
        """Return KL(q_T ‖ q_S) of each image (N,), by value of the student's latent."""
        mapped = self.method.map
        assert mapped is not None
        found = vae.kl_between(*taught, *mine) if mapped.identity else vae.kl_through_map(mapped.basis, *taught, *mine)
        return found / math.prod(mine.mean.shape[1:])

    def encoder_swap(self) -> Tensor:
        """Return how far T's decoder on S's latent is from the images."""
        swapped = self.method.told.decode(self.mine.at(self.drawn["vae.noise"]))
        return DISTANCES[self.method.output](swapped, self.image).mean()

    def imitated(self) -> Tensor:
        """Return the distance of S's and T's reconstructions of x from the means of their posteriors."""
        mine, goal = self.method.student.decode(self.mine.mean), self.method.told.decode(self.taught.mean)
        return DISTANCES[self.method.output](mine, goal).mean()

    def feature(self) -> Tensor:
        """Return the distance of the tapped features: those of the encoders on x, the others on `latent`."""
        for part, ran in ((self.in_encoder, ("mine", "taught")), (self.in_decoder, ("decoded", "goal"))):
            for name in ran if part else ():
                getattr(self, name)  # runs what fills `mine_at` and `goal_at`
        pairs = self.method.features.items()
        mine = [fit(self.mine_at[a]) for fit, (a, _) in zip(self.method.adapters, pairs, strict=True)]
        return feature_matching(mine, [self.goal_at[b] for _, b in pairs]).mean()

    def seen(self, image: Tensor, goal: Tensor) -> Tensor:
        """Return how far two images are apart in the features of the feature network."""
        assert self.method.feature_network is not None
        return perceptual(self.method.feature_network.network, self.method.perceptual_paths, image, goal)

    def surprise(self, image: Tensor) -> Tensor:
        """Return KL(q_T ‖ q_S) of any images (N, C, H, W), of each (N,)."""
        teacher, student = self.method.told, self.method.student
        return self.divergence(_Posterior(*teacher.posterior(image)), _Posterior(*student.posterior(image)))

    def apart(self, image: Tensor) -> Tensor:
        """Return the same distance for any images (N, C, H, W), of each (N,)."""
        return DISTANCES[self.method.output](self.method.student(image), self.method.told(image))

    def at_worst(self, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the mean of a loss of images at those near x that make it large; it steers the strength, if any."""
        method = self.method
        assert method.attack is not None
        strength = None if method.strength is None else method.strength.value(self.step)
        with evaluating(method.student):
            worst = method.attack(loss, self.image, self.drawn, strength)
        found = loss(worst)
        if method.strength is not None:
            with torch.no_grad():
                before = loss(self.image)
            method.strength.observe(gathered(before).mean(), gathered(found.detach()).mean())
        return found.mean()

    def worst_decoder(self) -> Tensor:
        """Return the distance of the decoders at attacked latents of the prior."""
        method = self.method
        assert method.latent_attack is not None
        prior = self.drawn["vae.prior"]
        distance = DISTANCES[method.output]

        def apart(latent: Tensor) -> Tensor:
            latent = on_shell(latent, prior)
            return distance(self._decode(latent), method.told.decode(latent))

        with evaluating(method.student):
            worst = method.latent_attack(apart, prior, self.drawn)
        return apart(worst).mean()

    def _decode(self, latent: Tensor) -> Tensor:
        assert self.method.map is not None
        mapped: Tensor = self.method.map(latent)
        return self.method.student.decode(mapped)

    def _score(self, image: Tensor) -> Tensor:
        assert self.method.discriminator is not None
        score: Tensor = self.method.discriminator(image)
        return precise(score).flatten()


def _of_encoder(path: str) -> bool:
    """Tell whether a module path of the student runs on images; all others run on latents."""
    return path.startswith("encoder")


def _tapped(
    network: nn.Module, paths: list[str], into: dict[str, Tensor], run: Callable[[Tensor], T], value: Tensor
) -> T:
    """Return run(value), with the features of `network` at `paths` written to `into`."""
    with Tap(network, paths) as tap:
        found = run(value)
    into |= {path: tap[path] for path in paths}
    return found


def _adapters(student: nn.Module, teacher: nn.Module, features: Mapping[str, str]) -> nn.ModuleList:
    """Return an adapter for each pair of paths of two autoencoders."""
    if not features:
        return nn.ModuleList()
    image = torch.zeros(2, *student.image_shape)  # type: ignore[misc]
    mine, goal = feature_shapes(student, list(features), image), feature_shapes(teacher, list(features.values()), image)
    names = [f"{of_student!r} -> {of_teacher!r}" for of_student, of_teacher in features.items()]
    return nn.ModuleList(adapter(*pair) for pair in zip(mine, goal, names, strict=True))

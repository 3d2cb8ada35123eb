"""The step of a training, on one device or several.

A step is a pure function of (state, seed, step number). The state is what `Engine.state` returns and nothing else
carries over, so a run that is killed at any instant and started again ends with bit-identical weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import CheckpointError, RecipeError, TrainingError, nearest
from limbeck.ground.hardware import machine
from limbeck.ground.progress import say
from limbeck.ground.randomness import seed_of
from limbeck.methods.base import Method
from limbeck.networks.handling.frozen import Frozen
from limbeck.training.arithmetic import Arithmetic
from limbeck.training.average import Average, averaged
from limbeck.training.checkpoint import Checkpoints
from limbeck.training.feed import Feed, workers_for
from limbeck.training.fine_tuning import grouped, hold_frozen
from limbeck.training.job import Job
from limbeck.training.optimizers import load_state, optimizer_of, refuse_idle, refuse_untrained, state_of
from limbeck.training.replicas import Replicas
from limbeck.training.watching import Validation
from limbeck.types import Batch, Update

LOOK = 10  # steps between two looks at the losses of a device that computes ahead


class Engine:
    """The state of a training and the one step that moves it.

    Args:
        replicas: Where to train.
        job: What to train.

    Raises:
        RecipeError: An optimiser names a player that the method does not have, or no player trains a parameter.
    """

    def __init__(self, replicas: Replicas, job: Job) -> None:
        self.replicas, self.job, self.training = replicas, job, job.training
        method = job.method if isinstance(job.method, Method) else job.method()
        self.arithmetic = Arithmetic.of(self.training, method, replicas.device.type)
        self.method = self.arithmetic.network(replicas.place(method).train())
        hold_frozen(self.method)
        self.weighting = replicas.place(job.weighting)
        self.players = self.method.players()
        for name in job.training.optimizers:
            if name not in self.players:
                known = ", ".join(self.players)
                raise RecipeError(f"optimizers.{name}: no such player{nearest(name, self.players)}; there is {known}")
        self.own = {n: [p for p in m.parameters() if p.requires_grad] for n, m in self.players.items()}
        self.parameters = {n: [*own, *self.weighting.parameters_of(n)] for n, own in self.own.items()}
        refuse_idle(self.own)
        self.trained = [*self.method.parameters(), *self.weighting.parameters()]
        refuse_untrained([self.method, self.weighting], self.parameters)
        self.optimizers = {name: self._optimizer(name) for name in self.players}
        self.rates = {name: [g["lr"] for g in o.param_groups] for name, o in self.optimizers.items()}
        self.average = None if self.training.ema is None else Average(self.method.student, self.training.ema)
        if self.training.compile and self.method.differentiates == "once":
            for module in {self.method.student, *self.players.values()}:  # a player can be a list of modules
                module.compile()
        self.feed = Feed(
            job.material,
            self.method.draws(),
            seed=job.seed,
            batch=self.training.batch,
            rank=replicas.rank,
            processes=replicas.count,
            workers=workers_for(self.training.workers, job.material.images, replicas.device.type, replicas.count),
        )
        self.step = 0
        self.counts = dict.fromkeys(self.players, 0)
        self.history: list[dict[str, float]] = []
        self.logged: dict[str, float] = {}
        self.alarms: list[str] = []
        monitor = job.observation.monitor
        self.validation = None if monitor is None else Validation(monitor)
        self.seconds = 0.0
        self.machines = [machine(replicas.device.type, replicas.count)]

    def advance(self, batch: Batch) -> dict[str, float]:
        """Take one step: every update that the method yields for this process's part of the batch.

        Returns what is logged at this step by name: losses, averaged over processes, and validation metrics.
        """
        self._seed_layers()
        row: dict[str, float] = {}
        size = len(batch) // self.training.micro_batches
        parts = [batch] if size == len(batch) else [batch[i : i + size] for i in range(0, len(batch), size)]
        generators = [self.method.updates(self._place(part), self.step) for part in parts]
        while (player := self._backward(generators, row)) is not None:
            if player:
                self._move(player)
        self.step += 1
        if row:
            row = self.replicas.mean_values(row)
            self.history.append({"step": self.step, **row})
            self.logged.update(dict.fromkeys(row, self.step))
        return row | self._watch()

    def _backward(self, generators: list[Iterator[Update]], row: dict[str, float]) -> str | None:
        """Advance each micro-batch to its next update and differentiate it.

        Returns the player to move; "" when every loss of the update is switched off, None after the last update.
        """
        for parameter in self.trained:
            parameter.grad = None  # of all players: a forward pass may have run through any of them
        moved: str | None = None
        for updates in generators:
            with self.arithmetic.running(self.replicas.device.type):
                update = next(updates, None)
                if update is None:
                    return None
                losses = self._evaluate(update)
            moved = update.player if losses else ""
            if losses:
                total = self.weighting.combine(losses, self._progress, self.own[update.player])
                total = total if len(generators) == 1 else total / len(generators)
                self._check(losses, total)
                # Only with respect to the parameters that move: through a discriminator that judges the student,
                # say, the gradient flows but is not wanted for its own weights.
                total.backward(inputs=self.parameters[update.player])  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                if self._due(name):
                    row[name] = row.get(name, 0.0) + loss.item() / len(generators)
        return moved

    def _due(self, loss: str) -> bool:
        """Return whether a loss is to be logged: each in its own time, for some are not computed at every step."""
        step = self.step + 1
        known = self.logged.get(loss)
        return known is None or step - known >= self.job.observation.log_every or step == self.training.steps

    def _evaluate(self, update: Update) -> dict[str, Tensor]:
        """Return the losses whose weight is not zero; the others are not even computed."""
        losses = {}
        for short, loss in update.losses.items():
            name = f"{update.player}.{short}"
            if self.weighting.weight(name, self._progress) != 0:
                losses[name] = loss() if callable(loss) else loss
        return losses

    def _move(self, player: str) -> None:
        """Average the gradients over processes, clip them, and take the player's optimiser step."""
        self.replicas.mean_gradients(self.parameters[player])
        if self.training.clip is not None:
            self._clip(player, self.training.clip)
        optimizer, count = self.optimizers[player], self.counts[player]
        for group, rate in zip(optimizer.param_groups, self.rates[player], strict=True):
            group["lr"] = rate * self.training.rate(count, self._progress)
        optimizer.step()
        if self.average is not None and player == "student":
            self.average.update(count)
        self.counts[player] += 1
        with torch.no_grad():
            self.method.moved(player, self.step)

    def _clip(self, player: str, most: float) -> None:
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters[player] if p.grad is not None])
        if not math.isfinite(norm.item()):  # the loss can be finite all the same: √x at 0
            raise self._stop(f"the gradient of {player}")
        nn.utils.clip_grads_with_norm_(self.parameters[player], most, norm)

    def student(self) -> nn.Module:
        """Return a copy of the student as it would be exported: averaged, in evaluation mode."""
        return averaged(self.method.student, self.average)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        self._average_buffers()
        return {
            "identity": self.job.place.identity,
            "step": self.step,
            "counts": self.counts,
            "method": self.method.state_dict(),
            "weighting": self.weighting.state_dict(),
            "optimizers": {name: state_of(o) for name, o in self.optimizers.items()},
            "student": (self.average or self.method.student).state_dict(),
            "history": self.history,
            "alarms": self.alarms,
            "best": None if self.validation is None else self.validation.best,
            "moments": [] if self.validation is None else self.validation.moments,
            "seconds": self.seconds,
            "machines": self.machines,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up a saved state.

        Raises:
            CheckpointError: It belongs to another training.
        """
        place = self.job.place
        if state["identity"] != place.identity:
            raise CheckpointError(
                f"{place.folder}: its checkpoint belongs to another training (found {state['identity']!r}, expected"
                f" {place.identity!r}); choose another folder with --out"
            )
        self.step, self.counts, self.seconds = state["step"], state["counts"], state["seconds"]
        self.history, self.alarms = state["history"], state["alarms"]
        if self.validation is not None:
            self.validation.best, self.validation.moments = state["best"], state.get("moments", [])
        # A checkpoint from before machines were noted stays without them: where it began is not known.
        self.machines = list(dict.fromkeys([*noted, *self.machines])) if (noted := state.get("machines")) else []
        self.logged = {name: row["step"] for row in self.history for name in row}
        self.method.load_state_dict(state["method"])
        self.weighting.load_state_dict(state["weighting"])
        for name, optimizer in self.optimizers.items():
            load_state(optimizer, state["optimizers"][name])
        if self.average is not None:
            self.average.load_state_dict(state["student"])

    def _seed_layers(self) -> None:
        """Seed what layers draw themselves, such as dropout."""
        seed = seed_of(self.job.seed, self.step, "layers", self.replicas.rank)
        if self.replicas.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # seeding every kind of device takes a hundred times as long
        else:
            torch.manual_seed(seed)

    @property
    def _progress(self) -> float:
        return self.step / self.training.steps

    def _optimizer(self, player: str) -> torch.optim.Optimizer:
        factory = self.training.optimizers.get(player, torch.optim.Adam)
        groups = grouped(self.own[player], self.method.student, self.training.rates)
        return optimizer_of(factory, groups, self.weighting.parameters_of(player))

    def _place(self, batch: Batch) -> Batch:
        there = self.replicas.device
        return self.arithmetic.batch(batch if there.type == "cpu" else batch.to(there))  # data comes on the CPU

    def _check(self, losses: Mapping[str, Tensor], total: Tensor) -> None:
        """Stop where the loss is not finite; it is looked at from time to time, as to look makes a GPU wait."""
        looks = self.replicas.device.type == "cpu" or self.step % LOOK == 0 or self.step == self.training.steps - 1
        if not looks or math.isfinite(total.item()):
            return
        if self.step > 0:  # a gradient can be infinite though no loss was: √x at 0
            for player, own in self.own.items():
                if not all(parameter.isfinite().all() for parameter in own):
                    raise self._stop(f"what {player} has learned", "before")
        culprits = (name for name, loss in losses.items() if not math.isfinite(loss.item()))
        raise self._stop(next(culprits, "their weighted sum"))

    def _stop(self, culprit: str, when: str = "at") -> TrainingError:
        what = f"{culprit} is not finite {when} step {self.step}"
        if self.step == 0:
            return TrainingError(f"{what}, when nothing had learned yet; {self._cause()}")
        last = Checkpoints(self.job.place.checkpoints, warn=say).last()
        return TrainingError(
            f"{what}; {last}. Lower the learning rate, clip gradients (training.clip), or lower a loss's weight"
        )

    def _cause(self) -> str:
        """Return where to look when the very first losses are not finite."""
        for name, module in self.method.named_modules():
            held = module.network.parameters() if isinstance(module, Frozen) else ()
            if not all(torch.isfinite(parameter).all() for parameter in held):
                return f"the weights of the {name} hold NaN or infinity: load others, or delete its arm and train it"
        return (
            "look at what the teacher says to the first images, at these images, at the weights of losses, and compute"
            " in full precision (training.precision: '32', a teacher in float32)"
        )

    def _watch(self) -> dict[str, float]:
        """Return validation metrics where they are due, in the first process; tell of what is wrong."""
        every = self.training.evaluate_every or self.training.steps
        if self.validation is None or (self.step % every and self.step != self.training.steps):
            return {}
        self._average_buffers()
        metrics: dict[str, float] = {}
        if self.replicas.rank == 0:
            metrics, alarms = self.validation.look(self.student, self.step)
            self.history.append({"step": self.step, **metrics})
            for alarm in alarms:
                self.alarms.append(f"step {self.step}: {alarm}")
                for listener in self.job.observation.listeners:
                    listener.alarm(self.step, alarm)
        self.replicas.wait()
        return metrics

    def _average_buffers(self) -> None:
        """Batch norm is local to a process, so its statistics are averaged before they are saved or measured."""
        buffers = list(self.method.buffers())
        if self.average is not None:
            own = {name for name, _ in self.method.student.named_buffers()}
            buffers += [value for name, value in self.average.state_dict().items() if name in own]
        self.replicas.average_buffers(buffers)

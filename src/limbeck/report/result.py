"""What a run found, as typed values and as `result.json`; the schema of the file is `schema.json` beside this one."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from limbeck.errors import LimbeckError
from limbeck.ground.files import write_atomically
from limbeck.report.folders import without_folders
from limbeck.report.numbers import decimals, finite, number

Role = Literal["teacher", "control", "student", "baseline", "floor"]
Outcome = Literal["BEATS", "LOSES", "INCONCLUSIVE", "NONE"]


@dataclass(frozen=True)
class Quality:
    """One metric of one arm. A value that is not finite is None, and so are then the mean and the deviation.

    Attributes:
        per_seed: One value for each seed of the run, in their order; a single one for what does not depend on it.
        mean: Their mean.
        std: Their standard deviation (n - 1 in the denominator); None for a single value.
    """

    per_seed: tuple[float | None, ...]
    mean: float | None
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Quality:
        """Return the summary of `values`, one a seed.

        Raises:
            ValueError: There are none.
        """
        if not values:
            raise ValueError("quality of no values")
        per_seed = tuple(finite(value) for value in values)
        known = [value for value in per_seed if value is not None]
        whole = len(known) == len(per_seed)
        return cls(
            per_seed,
            mean=statistics.fmean(known) if whole else None,
            std=statistics.stdev(known) if whole and len(known) > 1 else None,
        )

    def __str__(self) -> str:
        """Return e.g. "17.5 ± 0.3"."""
        return " ± ".join(part for part in self.texts() if part)

    def texts(self) -> tuple[str, str]:
        """Return mean and deviation: three significant digits of the mean, or more where the deviation is smaller."""
        if self.mean is None:
            return "not finite", ""
        if self.std is None:
            return number(self.mean), ""
        places = max(decimals(self.mean), min(decimals(self.std) - 2, 6))
        return number(self.mean, places), number(self.std, places)


@dataclass(frozen=True)
class Best:
    """The checkpoint that was best on the validation split, where that was not the last.

    Attributes:
        steps: After how many steps of training it was taken, one number a seed.
        quality: Its metrics by full name, on the same split as the last one's.
    """

    steps: tuple[int, ...]
    quality: Mapping[str, Quality]


@dataclass(frozen=True)
class ArmResult:
    """What one arm reached and what it costs.

    Attributes:
        role: What the arm stands for in the comparison.
        quality: Metrics by full name, e.g. "fid[fashion-cnn]".
        cost: Costs by name, the unit in the name, e.g. "macs", "latency_ms_batch1", "file_bytes"; empty for what is
            not a model (the floor) or not at hand (a teacher known by its samples alone).
        curves: Values over training steps as (step, value), by name; of the first seed.
        best: What its checkpoints that were best on validation reach; None where these are the last ones. Verdicts
            are about the last.
        alarms: What went wrong in training though no loss showed it, a line each: of all seeds.
        trained_on: The machines that trained it, of all seeds: costs are measured elsewhere perhaps, but for the time
            of its training. Empty where nothing was trained, and in results made before this was noted.
        spread: Quartiles of the costs that are medians of many measurements; empty where that was not noted.

    Raises:
        ValueError: A student or control without costs: a gain without its price is no result.
    """

    role: Role
    quality: Mapping[str, Quality]
    cost: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float | None]]] = field(default_factory=dict)
    best: Best | None = None
    alarms: Sequence[str] = ()
    trained_on: Sequence[str] = ()
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.role in ("student", "control") and not self.cost:
            raise ValueError(f"an arm with the role {self.role!r} needs its costs")

    def to_json(self) -> dict[str, Any]:
        """Return the arm as the schema wants it."""
        arm: dict[str, Any] = {"role": self.role, "quality": _qualities(self.quality)}
        if self.best is not None:
            arm["best_on_validation"] = {"steps": list(self.best.steps), "quality": _qualities(self.best.quality)}
        if self.cost:
            arm["cost"] = {name: finite(value) for name, value in self.cost.items()}
        if self.spread:
            arm["spread"] = {name: list(quartiles) for name, quartiles in self.spread.items()}
        if self.curves:
            arm["curves"] = {k: [[step, finite(y)] for step, y in curve] for k, curve in self.curves.items()}
        if self.alarms:
            arm["alarms"] = list(self.alarms)
        if self.trained_on:
            arm["trained_on"] = list(self.trained_on)
        return arm

    @classmethod
    def from_json(cls, arm: Mapping[str, Any]) -> ArmResult:
        """Return the arm read from a result file."""
        curves = {k: [(int(step), y) for step, y in curve] for k, curve in arm.get("curves", {}).items()}
        best = arm.get("best_on_validation")
        return cls(
            arm["role"],
            _read_qualities(arm["quality"]),
            dict(arm.get("cost", {})),
            curves,
            None if best is None else Best(tuple(best["steps"]), _read_qualities(best["quality"])),
            tuple(arm.get("alarms", ())),
            tuple(arm.get("trained_on", ())),
            {name: (low, high) for name, (low, high) in arm.get("spread", {}).items()},
        )


@dataclass(frozen=True)
class Verdict:
    """What the seeds say about a student and its control on one metric (see `statistics`).

    Attributes:
        metric: Full name of the metric.
        student: Name of the student's arm.
        control: Name of the control's arm.
        student_minus_control: Mean of the paired differences; None when a value is not finite.
        interval95: Its 95 % interval, not corrected for the number of comparisons; None without a verdict.
        verdict: "BEATS", "LOSES" or "INCONCLUSIVE"; "NONE" when there is no ground for one.
        reason: Why there is none.
        p_value: Of the paired differences (`statistics.paired_difference`), before correction.
        p_holm: The same corrected for the number of comparisons (Holm 1979); None when there is one comparison.
    """

    metric: str
    student: str
    control: str
    student_minus_control: float | None
    interval95: tuple[float, float] | None
    verdict: Outcome
    reason: str = ""
    p_value: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class DataUsed:
    """The data that results were measured against: its name, the hash of its content, and the split."""

    name: str
    fingerprint: str
    reference_split: str


@dataclass(frozen=True)
class Budget:
    """How much the arms were allowed: steps of training, and settings that were tried, by arm."""

    student_steps: int
    settings_tried: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Everything that a run found.

    Attributes:
        recipe: The recipe as it was run. In the file, absolute paths in it are cut down to their last name.
        recipe_hash: Hash of the recipe.
        data: What it was measured against.
        seeds: The seeds of control and student, in the order of `per_seed`.
        budget: What the arms were allowed.
        arms: Arms by name.
        verdicts: Student against control, for each metric that has a direction.
        versions: Versions of the packages, by name.
        hardware: The machine.
    """

    recipe: Mapping[str, Any]
    recipe_hash: str
    data: DataUsed
    seeds: Sequence[int]
    budget: Budget
    arms: Mapping[str, ArmResult]
    verdicts: Sequence[Verdict]
    versions: Mapping[str, str]
    hardware: Mapping[str, str | int | None]

    def named(self, role: Role) -> list[str]:
        """Return the names of the arms with this role, in order."""
        return [name for name, arm in self.arms.items() if arm.role == role]

    def trained_on(self) -> dict[str, list[str]]:
        """Return the names of the arms by the machine that trained them, where that was noted."""
        machines = dict.fromkeys(machine for arm in self.arms.values() for machine in arm.trained_on)
        return {machine: [name for name, arm in self.arms.items() if machine in arm.trained_on] for machine in machines}

    def to_json(self) -> dict[str, Any]:
        """Return the result as the schema wants it."""
        return {
            "recipe": without_folders(dict(self.recipe)),
            "recipe_hash": self.recipe_hash,
            "data": asdict(self.data),
            "versions": dict(self.versions),
            "hardware": dict(self.hardware),
            "seeds": list(self.seeds),
            "budget": {
                "student_steps": self.budget.student_steps,
                "settings_tried": dict(self.budget.settings_tried),
            },
            "arms": {name: arm.to_json() for name, arm in self.arms.items()},
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Result:
        """Return the result that `to_json` wrote."""
        verdicts = [
            Verdict(**{**v, "interval95": None if v["interval95"] is None else tuple(v["interval95"])})
            for v in tree["verdicts"]
        ]
        return cls(
            recipe=tree["recipe"],
            recipe_hash=tree["recipe_hash"],
            data=DataUsed(**tree["data"]),
            seeds=list(tree["seeds"]),
            budget=Budget(**tree["budget"]),
            arms={name: ArmResult.from_json(arm) for name, arm in tree["arms"].items()},
            verdicts=verdicts,
            versions=tree["versions"],
            hardware=tree["hardware"],
        )

    def write(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all.

        Raises:
            LimbeckError: The file could not be written.
        """
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        try:
            write_atomically(path, f"{text}\n".encode())
        except OSError as error:
            raise LimbeckError(f"{path}: could not be written ({error.strerror}); choose another folder") from error

    @classmethod
    def read(cls, path: Path) -> Result:
        """Return the result in the file.

        Raises:
            LimbeckError: There is no such file, or it is no result.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise LimbeckError(f"{path}: could not be read ({error.strerror}); expected a result.json") from error
        except ValueError as error:
            raise LimbeckError(f"{path}: expected the JSON of a result, found something else ({error})") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise LimbeckError(
                f"{path}: expected a result as `limbeck run` writes it, found none ({error!r}); run the recipe again"
            ) from error


def _qualities(qualities: Mapping[str, Quality]) -> dict[str, Any]:
    return {name: asdict(quality) for name, quality in qualities.items()}


def _read_qualities(tree: Mapping[str, Any]) -> dict[str, Quality]:
    return {name: Quality(tuple(q["per_seed"]), q["mean"], q["std"]) for name, q in tree.items()}

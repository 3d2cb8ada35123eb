"""Student minus control, image by image: with many photographs a small gain shows that seeds alone do not.

    python benchmarks/per_image.py RECIPE --arms STORE --set bsd100 [--to results/benchmarks/FILE.json]

Every arm of the recipe must be trained (`limbeck run RECIPE --arms STORE`). For every photograph of the set the PSNR
(Y) of student and control is averaged over the seeds; the 95 % interval is the t-interval of the differences over
photographs. It says how sure the gain is on other photographs like these, not with other seeds: for those see the
verdict of the run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from scipy.stats import t as student_t

from limbeck.recipe.reader import read_recipe
from limbeck.run.preparing import prepare
from limbeck.tasks.restoration import Restoration


def main() -> None:
    """Measure and print; the figure comes last."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--arms", type=Path, required=True)
    parser.add_argument("--set", dest="name", default="bsd100")
    parser.add_argument("--metric", default="psnr_y")
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    prepared = prepare(read_recipe(options.recipe), options.arms.parent / "per-image", options.arms)
    task = prepared.setting.task
    if not isinstance(task, Restoration):
        raise SystemExit(f"expected the task Restoration, found {type(task).__name__}")
    photos = next(photos for photos in task.sets if photos.name == options.name)

    def measured(name: str) -> torch.Tensor:
        each = [task.per_image(arm.network(), photos)[options.metric] for arm in prepared.arms()[name]]
        return torch.stack(each).mean(0).double()

    found = {}
    known = {name: measured(name) for name in {*prepared.control_of, *prepared.control_of.values()}}
    for student, control in prepared.control_of.items():
        difference = known[student] - known[control]
        count, mean = len(difference), float(difference.mean())
        half = float(student_t.ppf(0.975, count - 1) * difference.std() / count**0.5)
        found[student] = {
            "control": control,
            "metric": f"{options.metric}[{options.name}]",
            "images": count,
            "seeds": len(prepared.recipe.seeds),
            "student_minus_control": round(mean, 4),
            "interval95": [round(mean - half, 4), round(mean + half, 4)],
            "images_won": int((difference > 0).sum()),
        }
    if options.to is not None:
        options.to.write_text(json.dumps({"recipe": prepared.recipe.name, "students": found}, indent=2) + "\n")
    for student, row in found.items():
        low, high = row["interval95"]  # type: ignore[misc]
        print(f"{student} - {row['control']}: {row['student_minus_control']:+.3f} dB ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main()

"""How many times faster a recipe's students are than its teacher, for one input on this machine.

A run times its networks in turns with all baselines; here teacher and students alone take turns, in several rounds, so
that the spread of the ratio shows. Time depends on the shapes of networks and not on their weights: nothing
is trained.

    python benchmarks/latency.py RECIPE [--rounds 6] [--seconds 3]        last line: ratio R, of the slowest student
"""

from __future__ import annotations

import argparse
from statistics import median

from record import record

from limbeck.metrics.timing import latencies_ms
from limbeck.recipe.reader import read_recipe


def main() -> None:
    """Measure, print and record; the figure comes last."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each network in a round")
    options = parser.parse_args()
    recipe = read_recipe(options.recipe)
    if recipe.teacher is None:
        raise SystemExit("expected a recipe with a teacher, found none")
    data, task = recipe.data.build(), recipe.task.build()
    arms = {"teacher": recipe.teacher, **recipe.students}
    networks = {name: task.ready(arm.network.build()).eval() for name, arm in arms.items()}
    one = task.example(data, 1)
    rounds = [latencies_ms(networks, one, options.seconds) for _ in range(options.rounds)]
    figures = {}
    for name in networks:
        times = [found[name].median for found in rounds]
        ratios = [found["teacher"].median / found[name].median for found in rounds]
        figures[name] = {
            "latency_ms": round(median(times), 2),
            "times_faster": round(median(ratios), 2),
            "times_faster_least": round(min(ratios), 2),
            "times_faster_most": round(max(ratios), 2),
        }
        print(name, figures[name])
    settings = {"rounds": options.rounds, "seconds": options.seconds, "input": list(one[0].shape)}
    record(f"latency-{recipe.name}", figures, settings)
    print("ratio", min(figures[name]["times_faster"] for name in recipe.students))


if __name__ == "__main__":
    main()

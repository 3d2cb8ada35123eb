"""What the verbs of the command line do. What is heavy is imported late: `limbeck --help` needs no torch."""

from __future__ import annotations

import os
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, Literal, get_args

from limbeck.errors import RecipeError, WeightsError, nearest, require
from limbeck.ground.modules import only_ours, see_working_folder

if TYPE_CHECKING:
    from limbeck.data.pixels import Reading
    from limbeck.recipe.catalogue import Entry
    from limbeck.recipe.reader import Recipe
    from limbeck.run.arm import Arm
    from limbeck.run.preparing import Run


def _read(options: Namespace, changes: list[tuple[str, str]]) -> Recipe:
    from limbeck.recipe.reader import read_recipe  # noqa: PLC0415 (torch is heavy, and `limbeck --help` needs none)
    from limbeck.training.options import device_of  # noqa: PLC0415

    if options.data_root:
        os.environ["LIMBECK_DATA"] = options.data_root
    see_working_folder()  # where the modules of a recipe of one's own are
    device_of(options.accelerator)
    if getattr(options, "seeds", None) is not None:
        changes = [*changes, ("seeds", str(options.seeds))]
    return read_recipe(options.recipe, changes)


def _out(options: Namespace, recipe: Recipe) -> Path:
    return Path(options.out or Path("runs") / recipe.name)


def _arms(options: Namespace) -> Path | None:
    return Path(options.arms) if options.arms else None


def _run(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    from limbeck.run.story import run  # noqa: PLC0415

    recipe = _read(options, changes)
    run(recipe, _out(options, recipe), arms=_arms(options), accelerator=options.accelerator, command=command)


def _train(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    from limbeck.ground.progress import say  # noqa: PLC0415
    from limbeck.networks.given.weights import save_weights  # noqa: PLC0415

    if options.to is not None and Path(options.to).suffix != ".safetensors":
        raise RecipeError(f"--to: expected a file that ends in .safetensors, found {options.to}")
    _, arm = _chosen(options, changes, options.seed)
    for each in arm.chain():
        each.fit()
    say(f"{arm.name}: {arm.folder}")
    if options.to is not None:
        save_weights(arm.network(), options.to)
        say(f"{arm.name}: {options.to}")


def _evaluate(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    # Weights of somebody else come with their recipe, which is code.
    with nullcontext() if options.weights is None or options.trust else only_ours():
        _evaluate_arm(options, changes)


def _evaluate_arm(options: Namespace, changes: list[tuple[str, str]]) -> None:
    from dataclasses import replace  # noqa: PLC0415

    from limbeck.data.base import Split  # noqa: PLC0415
    from limbeck.report.numbers import number  # noqa: PLC0415
    from limbeck.run.evaluation import evaluate  # noqa: PLC0415

    if options.split is not None:
        known = get_args(Split)
        require("--split", options.split in known, ", ".join(known), options.split, nearest(options.split, known))
    prepared, arm = _chosen(options, changes, options.seed)
    if options.weights is not None:
        if not Path(options.weights).is_file():
            raise WeightsError(f"--weights: no such file: {options.weights}")
        arm = replace(arm, recipe=replace(arm.recipe, training=None, load=Path(options.weights)))
    # As in a run, fidelity is that to the run's teacher, of a control and of an assistant's student, too.
    teacher = prepared.teacher if arm.name != "teacher" and prepared.teacher and prepared.teacher.done else None
    for name, value in evaluate(arm, arm.extractor, teacher, split=options.split).items():
        print(f"{name:<32} {number(value)}")


def _compare(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    from limbeck.report.comparison import FORMATS, comparison  # noqa: PLC0415
    from limbeck.report.result import Result  # noqa: PLC0415

    kind = options.format
    require("--format", kind in FORMATS, ", ".join(FORMATS), kind, nearest(kind, list(FORMATS)))
    paths = [Path(p) / "result.json" if Path(p).is_dir() else Path(p) for p in options.results]
    names = [_run_name(path) for path in paths]
    alike = {name for name in names if names.count(name) > 1}
    shown = [str(path.parent) if name in alike else name for name, path in zip(names, paths, strict=True)]
    results = {name: Result.read(path) for name, path in zip(shown, paths, strict=True)}
    print(comparison(results, kind, get_terminal_size().columns))


def _run_name(path: Path) -> str:
    return path.parent.name if path.name == "result.json" else path.stem


def _sample(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    from limbeck.ground.files import write_atomically  # noqa: PLC0415
    from limbeck.report.plots import image_grid  # noqa: PLC0415
    from limbeck.run.sampling import write_pairs  # noqa: PLC0415

    file = Path(options.to or ("samples.png" if options.pairs is None else "pairs.safetensors"))
    _, arm = _chosen(options, changes)
    if options.pairs is not None:
        write_pairs(arm, options.pairs, options.seed, file)
    else:
        pictures = arm.setting.task.preview(arm.network(), arm.setting.data, options.seed)
        picture = next((p for p in pictures if p.title.startswith("samples")), pictures[0])
        write_atomically(file, image_grid(picture.images, picture.columns))
    print(file)


def _apply(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    from limbeck.run.applying import apply_to, exported, in_style  # noqa: PLC0415
    from limbeck.training.options import device_of  # noqa: PLC0415

    if options.out is None:
        raise RecipeError("--out: expected a folder for the results, found none")
    device = device_of(options.accelerator)
    if options.trust:
        see_working_folder()
    network = in_style(exported(Path(options.model), trust=options.trust), options.style)
    tile, reading = _tile(options.tile), _reading(options)
    for file in apply_to(network, Path(options.source), Path(options.out), device, tile, reading=reading):
        print(file)


def _reading(options: Namespace) -> Reading:
    """Return what --bits, --bands and --largest say."""
    from limbeck.data.pixels import LARGEST, Reading  # noqa: PLC0415

    numbers = None if options.bands is None else options.bands.split(",")
    good = numbers is None or all(number.strip().isdecimal() for number in numbers)
    require("--bands", good, "whole numbers with commas between them, such as 1,2,3", options.bands)
    bands = None if numbers is None else tuple(map(int, numbers))
    reading = Reading(options.bits, bands, LARGEST if options.largest is None else options.largest)
    reading.check("--")
    return reading


def _tile(word: str) -> int | Literal["auto"] | None:
    """Return what --tile says."""
    if word == "null":
        return None
    if word == "auto":
        return "auto"
    if not word.removeprefix("-").isdecimal():
        raise RecipeError(f"--tile: expected a whole number, null or auto, found {word!r}")
    return int(word)


def _check(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    from limbeck.report.table import costs  # noqa: PLC0415
    from limbeck.run.estimate import estimate  # noqa: PLC0415

    _print(costs(estimate(_read(options, changes), options.accelerator)))


def _list(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    from limbeck.recipe.catalogue import catalogue, describe, rooms, summary  # noqa: PLC0415

    offered = {room: catalogue(base) for room, base in rooms().items()}
    filled = [room for room, found in offered.items() if found]
    classes = {cls.__name__: cls for found in offered.values() for cls in found}
    if options.what in classes:
        _explain(describe(classes[options.what]))
        return
    if options.what is not None and options.what not in offered:
        near = nearest(options.what, [*offered, *classes]) or f"; there are the rooms {', '.join(filled)}"
        raise RecipeError(f"list {options.what}: no such room or class{near}")
    for room in [options.what] if options.what else filled:
        print(room)
        for cls in offered[room]:
            print(f"  {cls.__name__:<24} {summary(cls)}")


def _explain(entry: Entry) -> None:
    """Print what a class is for, and its arguments."""
    print(f"{entry.name}  ({entry.path})\n{entry.summary}\n")
    if entry.details:
        print(f"{entry.details}\n")
    for a in entry.arguments:
        print(f"  {a.name}: {a.type}{'' if a.required else f' = {a.default!r}'}\n      {a.doc}")


def _schema(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    import json  # noqa: PLC0415

    from limbeck.recipe.schema import recipe_schema  # noqa: PLC0415

    print(json.dumps(recipe_schema(), indent=1, allow_nan=False))


def _chosen(options: Namespace, changes: list[tuple[str, str]], seed: int | None = None) -> tuple[Run, Arm]:
    """Return the run and its arm that --arm names, of that seed or the recipe's first."""
    from dataclasses import replace  # noqa: PLC0415

    from limbeck.run.preparing import prepare  # noqa: PLC0415

    recipe = _read(options, changes)
    if seed is not None:
        require("--seed", seed >= 0, "a whole number of at least 0", seed)
        recipe = replace(recipe, seeds=(recipe.seeds[0], seed))
    prepared = prepare(recipe, _out(options, recipe), _arms(options), options.accelerator)
    arms = prepared.arms()
    if options.arm not in arms:
        raise RecipeError(f"--arm {options.arm}: no such arm{nearest(options.arm, arms)}; there is {', '.join(arms)}")
    if seed is None:
        return prepared, arms[options.arm][0]
    return prepared, replace(arms[options.arm][-1], seed=seed)  # of the teacher there is but one, of the first seed


def _print(table: Any) -> None:
    from limbeck.ground.progress import Output  # noqa: PLC0415

    Output(markup=False, emoji=False).print(table)


VERBS = {
    "run": _run,
    "train": _train,
    "evaluate": _evaluate,
    "compare": _compare,
    "sample": _sample,
    "apply": _apply,
    "check": _check,
    "list": _list,
    "schema": _schema,
}

"""The verbs of the command line. Bad input is one clear line and exit status 2; what is heavy is imported late."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

from jsonargparse import ArgumentParser, Namespace

from limbeck import __version__
from limbeck.errors import LimbeckError, RecipeError, WeightsError, nearest, require

if TYPE_CHECKING:
    from limbeck.recipe.reader import Recipe
    from limbeck.run.arm import Arm
    from limbeck.run.preparing import Story

CANNOT_WRITE = {
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
}  # fmt: skip
DOTTED = re.compile(r"--([A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)


def main(argv: list[str] | None = None) -> int:
    """Run a verb and return the exit status: 0, 1 (an out-of-date or failed check), 2 (bad input), 130 (stopped)."""
    words = sys.argv[1:] if argv is None else argv
    # OpenMP threads that spin for long while they wait make a step several times slower as soon as anything else runs
    # beside it, and threads that sleep at once slow it down always (docs/decisions/0007). torch reads this when it
    # is imported.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    sys.path.insert(0, "")  # so that a class_path reaches modules in the working directory, as with `python -m`
    try:
        words, changes = split_changes(words)
        parser = _parser()
        options = parser.parse_args(words)
        verb = options.verb
        if verb is None:
            parser.print_help()
            return 0
        VERBS[verb](options[verb], changes, " ".join(["limbeck", *(sys.argv[1:] if argv is None else argv)]))
    except LimbeckError as error:
        print(f"limbeck: {error}", file=sys.stderr)
        return 130 if type(error).__name__ == "Interrupted" else 2
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        place = error.filename2 or error.filename or "output"
        print(f"limbeck: {place}: cannot be written ({error.strerror}); free space or choose another", file=sys.stderr)
        return 2
    return 0


class _Parser(ArgumentParser):
    """Tells what cannot be parsed as everything else: in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = re.sub(r'Parser key "([\w-]+)":', r"--\1:", " ".join(message.split()))
        line = re.sub(r"Expected a <class 'int'>\. Got value: (.*)", r"expected a whole number, found '\1'", line)
        raise RecipeError(f"{line}; see {self.prog.replace(' [options]', '')} --help") from ex


def split_changes(words: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the words without, and as pairs, the flags that change the recipe: `--a.b value` or `--a.b=value`.

    Raises:
        RecipeError: Such a flag without a value.
    """
    rest, changes = [], []
    waiting = iter(words)
    for word in waiting:
        if (match := DOTTED.fullmatch(word)) is None:
            rest.append(word)
            continue
        value = match[2] if match[2] is not None else next(waiting, None)
        if value is None:
            raise RecipeError(f"{word}: expected a value after it, found none")
        changes.append((match[1], value))
    return rest, changes


def _parser() -> ArgumentParser:
    parser = _Parser(
        prog="limbeck",
        version=__version__,
        description="Distil a large image model into a small, fast one, and prove what was gained and lost. Any value"
        " of a recipe can be changed by a flag with dots: --student.network.init_args.width 12",
    )
    verbs = parser.add_subcommands(dest="verb", required=False)

    run = _Parser(description="Train teacher, control and student, evaluate them alike, write the report.")
    _recipe(run)
    _folders(run)
    run.add_argument("--seeds", type=int, help="how many runs of student and control")
    verbs.add_subcommand("run", run, help="the whole story: train, evaluate, report")

    train = _Parser(description="Train one arm, and the teacher it needs.")
    _recipe(train)
    _folders(train)
    train.add_argument("--arm", type=str, default="student", help="teacher, control, or the name of a student")
    train.add_argument("--seed", type=int | None, help="its seed; the recipe's first by default")
    train.add_argument("--to", type=str | None, help="write the network's weights to this .safetensors file as well")
    verbs.add_subcommand("train", train, help="one arm only")

    evaluate = _Parser(description="Measure a network against the reference split of the recipe's data, or another.")
    _recipe(evaluate)
    _folders(evaluate)
    evaluate.add_argument("--arm", type=str, default="student", help="whose architecture: teacher or a student")
    evaluate.add_argument("--seed", type=int | None, help="the arm's seed; the recipe's first by default")
    evaluate.add_argument(
        "--split",
        type=str | None,
        help="train, validation or test; by default the reference split, on which no settings should be chosen",
    )
    evaluate.add_argument("--weights", type=str | None, help="its weights; the arm's own trained ones by default")
    verbs.add_subcommand("evaluate", evaluate, help="measure a network")

    compare = _Parser(description="Put the arms of several runs into one table.")
    compare.add_argument("results", nargs="+", type=str, help="folders of runs, or their result.json")
    verbs.add_subcommand("compare", compare, help="several runs in one table")

    sample = _Parser(description="Draw what a trained arm makes, or write it for others to learn from.")
    _recipe(sample)
    _folders(sample)
    sample.add_argument("--arm", type=str, default="student", help="teacher, control, or the name of a student")
    sample.add_argument("--seed", type=int, default=0, help="draws the inputs")
    sample.add_argument("--pairs", type=int, help="write that many latents with their images instead")
    sample.add_argument("--to", type=str | None, help="the file; samples.png or pairs.safetensors by default")
    verbs.add_subcommand("sample", sample, help="draw samples of a trained arm")

    apply = _Parser(description="Restore or repaint images of one's own with a student that a run exported.")
    apply.add_argument("model", type=str, help="the NAME.safetensors of a student, in the folder of its run")
    apply.add_argument("source", type=str, help="an image, or a folder of images")
    apply.add_argument("--out", type=str, help="folder of the results, PNG files; originals are never overwritten")
    apply.add_argument("--style", type=str | None, help="of a stylizer: the number of one of its styles, or a picture")
    apply.add_argument(
        "--tile",
        type=str | None,
        default="auto",
        help="side of the squares of large images; null for none; auto: 256, none for what sees the whole",
    )
    apply.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, cuda or mps")
    verbs.add_subcommand("apply", apply, help="a trained student on images of one's own")

    check = _Parser(description="Check a recipe, take a few steps of every arm, and estimate what it will cost.")
    _recipe(check)
    check.add_argument("--seeds", type=int, help="how many runs of student and control")
    verbs.add_subcommand("check", check, help="what a recipe would cost, before anything heavy starts")

    listed = _Parser(description="List what there is to build from, or the arguments of one class.")
    listed.add_argument("what", nargs="?", type=str | None, help="a room such as generators, or a class name")
    verbs.add_subcommand("list", listed, help="what recipes can be made of")
    return parser


def _folders(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str | None, help="folder of the run; runs/NAME by default")
    parser.add_argument("--arms", type=str | None, help="folder of trained arms that several runs share; OUT/arms")


def _recipe(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", type=str, help="YAML file")
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--data-root", type=str | None, help="folder of data sets; else LIMBECK_DATA")


def _read(options: Namespace, changes: list[tuple[str, str]]) -> Recipe:
    from limbeck.recipe.reader import read_recipe  # noqa: PLC0415 (torch is heavy, and `limbeck --help` needs none)
    from limbeck.training.options import device_of  # noqa: PLC0415

    if options.data_root:
        os.environ["LIMBECK_DATA"] = options.data_root
    device_of(options.accelerator)
    if options.get("seeds") is not None:
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
    from dataclasses import replace  # noqa: PLC0415

    from limbeck.data.base import Split  # noqa: PLC0415
    from limbeck.report.numbers import number  # noqa: PLC0415
    from limbeck.run.evaluation import evaluate  # noqa: PLC0415

    if options.split is not None:
        known = get_args(Split)
        require("--split", options.split in known, ", ".join(known), options.split, nearest(options.split, known))
    story, arm = _chosen(options, changes, options.seed)
    if options.weights is not None:
        if not Path(options.weights).is_file():
            raise WeightsError(f"--weights: no such file: {options.weights}")
        arm = replace(arm, recipe=replace(arm.recipe, training=None, load=Path(options.weights)))
    # As in a run, fidelity is that to the run's teacher, of a control and of an assistant's student, too.
    teacher = story.teacher if arm.name != "teacher" and story.teacher and story.teacher.done else None
    for name, value in evaluate(arm, arm.features, teacher, split=options.split).items():
        print(f"{name:<32} {number(value)}")


def _compare(options: Namespace, changes: list[tuple[str, str]], command: str) -> None:
    from limbeck.report.result import Result  # noqa: PLC0415
    from limbeck.report.table import comparison  # noqa: PLC0415

    paths = [Path(p) / "result.json" if Path(p).is_dir() else Path(p) for p in options.results]
    names = [_run_name(path) for path in paths]
    alike = {name for name in names if names.count(name) > 1}
    shown = [str(path.parent) if name in alike else name for name, path in zip(names, paths, strict=True)]
    _print(comparison({name: Result.read(path) for name, path in zip(shown, paths, strict=True)}))


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
    network = in_style(exported(Path(options.model)), options.style)
    for file in apply_to(network, Path(options.source), Path(options.out), device, _tile(options.tile)):
        print(file)


def _tile(word: str | None) -> int | Literal["auto"] | None:
    """Return what --tile says."""
    if word is None:
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
    from limbeck.recipe.catalogue import catalogue, describe, rooms  # noqa: PLC0415

    classes = {c.__name__: (room, c) for room, base in rooms().items() for c in catalogue(base)}
    if options.what in classes:
        entry = describe(classes[options.what][1])
        print(f"{entry.name}  ({entry.path})\n{entry.summary}\n")
        for a in entry.arguments:
            print(f"  {a.name}: {a.type}{'' if a.required else f' = {a.default!r}'}\n      {a.doc}")
        return
    names = list(rooms())
    if options.what is not None and options.what not in names:
        known = [*names, *classes]
        raise RecipeError(
            f"list {options.what}: no such room or class{nearest(options.what, known)}; {', '.join(names)}"
        )
    for room in [options.what] if options.what else names:
        print(room)
        for name, (where, cls) in classes.items():
            if where == room:
                print(f"  {name:<24} {describe(cls).summary}")


def _chosen(options: Namespace, changes: list[tuple[str, str]], seed: int | None = None) -> tuple[Story, Arm]:
    """Return the run and its arm that --arm names, of that seed or the recipe's first."""
    from dataclasses import replace  # noqa: PLC0415

    from limbeck.run.preparing import tell  # noqa: PLC0415

    recipe = _read(options, changes)
    if seed is not None:
        require("--seed", seed >= 0, "a whole number of at least 0", seed)
        recipe = replace(recipe, seeds=(recipe.seeds[0], seed))
    story = tell(recipe, _out(options, recipe), _arms(options), options.accelerator)
    arms = story.arms()
    if options.arm not in arms:
        raise RecipeError(f"--arm {options.arm}: no such arm{nearest(options.arm, arms)}; there is {', '.join(arms)}")
    if seed is None:
        return story, arms[options.arm][0]
    return story, replace(arms[options.arm][-1], seed=seed)  # of the teacher there is but one, of the first seed


def _print(table: Any) -> None:
    from rich.console import Console  # noqa: PLC0415

    Console(markup=False, emoji=False).print(table)


VERBS = {
    "run": _run,
    "train": _train,
    "evaluate": _evaluate,
    "compare": _compare,
    "sample": _sample,
    "apply": _apply,
    "check": _check,
    "list": _list,
}

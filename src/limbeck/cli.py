"""The command line: its words become a verb and its options. Bad input is one clear line and exit status 2."""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import NoReturn

from jsonargparse import ArgumentParser

from limbeck import __version__
from limbeck.commands import VERBS
from limbeck.errors import LimbeckError, RecipeError

CANNOT_WRITE = {
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
}  # fmt: skip
DOTTED = re.compile(r"--([A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)


def main(argv: list[str] | None = None) -> int:
    """Run a verb and return the exit status: 0, 1 (an out-of-date or failed check), 2 (bad input), 130 (stopped)."""
    _let_threads_rest()
    sys.path.insert(0, "")  # so that a class_path reaches modules in the working directory, as with `python -m`
    try:
        _obey(sys.argv[1:] if argv is None else argv)
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


def _let_threads_rest() -> None:
    """Let OpenMP threads spin for a short while when they wait, unless the environment says how they wait.

    Threads that spin for long make a step several times slower as soon as anything else runs beside it, and threads
    that sleep at once slow it down always (docs/decisions/0007). torch reads this when it is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _obey(words: list[str]) -> None:
    """Run the verb that the words name; print the help where they name none."""
    command = " ".join(["limbeck", *words])
    words, changes = split_changes(words)
    parser = _parser()
    options = parser.parse_args(words)
    if options.verb is None:
        parser.print_help()
    else:
        VERBS[options.verb](options[options.verb], changes, command)


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

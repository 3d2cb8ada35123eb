"""The command line: its words become a verb and its options. Bad input is one clear line and exit status 2."""

from __future__ import annotations

import errno
import os
import re
import select
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NoReturn

from limbeck import __version__
from limbeck.commands import VERBS
from limbeck.errors import LimbeckError, RecipeError, nearest
from limbeck.flags import meant
from limbeck.ground.sources import one_reading

CANNOT_WRITE = {
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
}  # fmt: skip
FLAG = re.compile("--?[A-Za-z]")
DOTTED = re.compile(r"--([A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)


def main(argv: list[str] | None = None) -> int:
    """Run a verb and return the exit status.

    It is 0, 1 (an out-of-date or failed check), 2 (bad input), 130 (stopped) or 141 (nobody reads the output).
    """
    _let_threads_rest()
    try:
        return _status(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _unwritten(error)


def _status(words: Sequence[str]) -> int:
    """Obey the words and return 0, or the exit status of what is told in a line."""
    try:
        _obey(words)
        sys.stdout.flush()
    except LimbeckError as error:
        print(f"limbeck: {error}", file=sys.stderr)
        return 130 if type(error).__name__ == "Interrupted" else 2
    return 0


def _unwritten(error: OSError) -> int:
    """Return the exit status after output that could not be written, and say why; another error is raised again."""
    if isinstance(error, BrokenPipeError) and _reader_left():
        return 141
    if error.errno not in CANNOT_WRITE:
        raise error
    place = error.filename2 or error.filename or "output"
    print(f"limbeck: {place}: cannot be written ({error.strerror}); free space or choose another", file=sys.stderr)
    return 2


def _reader_left() -> bool:
    """Return whether nobody reads what is printed any more, as in `limbeck list | head`; the rest is then dropped."""
    left = False
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # Python flushes once more when it ends
            left = True
    return left


def _let_threads_rest() -> None:
    """Let OpenMP threads spin for a short while when they wait, unless the environment says how they wait.

    Threads that spin for long make a step several times slower as soon as anything else runs beside it, and threads
    that sleep at once slow it down always (docs/decisions/0007). torch reads this when it is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _obey(words: Sequence[str]) -> None:
    """Run the verb that the words name; print the help where they name none."""
    rest, changes = split_changes(words)
    parser = _parser()
    options = parser.parse_args(rest)
    if options.verb is None:
        parser.print_help()
        return
    if changes and not hasattr(options, "recipe"):
        raise RecipeError(f"--{changes[0][0]}: {options.verb} reads no recipe that it could change; leave it out")
    with one_reading():
        VERBS[options.verb](options, changes, " ".join(["limbeck", *words]))


def split_changes(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
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
        if value is None or (match[2] is None and re.match("--[A-Za-z]", value)):
            raise RecipeError(f"{word}: expected a value after it, found {value or 'none'}")
        changes.append((match[1], value))
    return rest, changes


class _Parser(ArgumentParser):
    """Tells what cannot be parsed as everything else: in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all words; the verb that does not know one says so itself."""
        own = takewhile(FLAG.match, args) if self._subparsers else takewhile("--".__ne__, args)
        for word in own:
            if FLAG.match(word) and word.partition("=")[0] not in self._option_string_actions:
                self.error(f"unrecognized arguments: {word}{self._meant(word)}")
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}{self._meant(rest[0])}")
        return known, rest

    def _meant(self, word: str) -> str:
        """Return what was probably meant by a word that nobody takes."""
        if self._subparsers:
            return f"{meant(word, self._option_string_actions)}; the flags of a verb stand after it"
        reads = any(action.dest == "recipe" for action in self._actions)
        return meant(word, self._option_string_actions, reads_recipe=reads)

    def error(self, message: str) -> NoReturn:
        """Refuse the words."""
        if match := re.match(r"argument verb: invalid choice: '(.*?)' ", message):
            message = f"invalid choice: {match[1]!r}{nearest(match[1], VERBS)}; there are {', '.join(map(repr, VERBS))}"
        raise RecipeError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def _parser() -> _Parser:
    """Return the parser of the command line: which verb is asked for, and its flags."""
    top = _Parser(
        prog="limbeck",
        description="Distil a large image model into a small, fast one, and prove what was gained and lost. Any value"
        " of a recipe can be changed by a flag with dots: --student.network.init_args.width 12",
    )
    top.add_argument("--version", action="version", version=f"limbeck {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="verb", parser_class=_Parser)
    for name, (summary, description, add) in FLAGS.items():
        add(verbs.add_parser(name, help=summary, description=description))
    return top


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a whole number, found {text!r}") from None


def _recipe(verb: _Parser) -> None:
    verb.add_argument("recipe", help="YAML file")
    verb.add_argument("--accelerator", default="auto", help="auto, cpu, cuda or mps; %(default)s by default")
    verb.add_argument("--data-root", help="folder of data sets; else LIMBECK_DATA")


def _folders(verb: _Parser) -> None:
    verb.add_argument("--out", help="folder of the run; runs/NAME by default")
    verb.add_argument("--arms", help="folder of trained arms that several runs share; OUT/arms")


def _run(verb: _Parser) -> None:
    _recipe(verb)
    _folders(verb)
    verb.add_argument("--seeds", type=_whole, help="how many runs of student and control")


def _train(verb: _Parser) -> None:
    _recipe(verb)
    _folders(verb)
    verb.add_argument(
        "--arm", default="student", help="teacher, control, or the name of a student; %(default)s by default"
    )
    verb.add_argument("--seed", type=_whole, help="its seed; the recipe's first by default")
    verb.add_argument("--to", help="write the network's weights to this .safetensors file as well")


def _evaluate(verb: _Parser) -> None:
    _recipe(verb)
    _folders(verb)
    verb.add_argument(
        "--arm", default="student", help="whose architecture: teacher or a student; %(default)s by default"
    )
    verb.add_argument("--seed", type=_whole, help="the arm's seed; the recipe's first by default")
    verb.add_argument(
        "--split",
        help="train, validation or test; by default the reference split, on which no settings should be chosen",
    )
    verb.add_argument("--weights", help="its weights; the arm's own trained ones by default")
    verb.add_argument("--trust", action="store_true", help="with --weights: run code that the recipe names")


def _compare(verb: _Parser) -> None:
    verb.add_argument("results", nargs="+", help="folders of runs, or their result.json")
    verb.add_argument("--format", default="text", help="text, md, csv or json; %(default)s by default")


def _sample(verb: _Parser) -> None:
    _recipe(verb)
    _folders(verb)
    verb.add_argument(
        "--arm", default="student", help="teacher, control, or the name of a student; %(default)s by default"
    )
    verb.add_argument("--seed", type=_whole, default=0, help="draws the inputs; %(default)s by default")
    verb.add_argument("--pairs", type=_whole, help="write that many latents with their images instead")
    verb.add_argument("--to", help="the file; samples.png or pairs.safetensors by default")


def _apply(verb: _Parser) -> None:
    verb.add_argument("model", help="the NAME.safetensors of a student, in the folder of its run")
    verb.add_argument("source", help="an image, or a folder of images")
    verb.add_argument("--trust", action="store_true", help="run code that the run's result.json names: read it first")
    verb.add_argument("--out", help="folder of the results, PNG files; originals are never overwritten")
    verb.add_argument("--style", help="of a stylizer: the number of one of its styles, or a picture")
    verb.add_argument(
        "--tile",
        default="auto",
        help="side of the squares of large images; null for none; by default auto: 256, none for what sees the whole",
    )
    verb.add_argument("--bits", type=_whole, help="bits of a value in grey files of 16, such as 12; all by default")
    verb.add_argument("--bands", help="bands of the files to take, from 1, such as 1,2,3 to leave out near infrared")
    verb.add_argument("--largest", type=_whole, help="pixels that an image may have; about 89 million by default")
    verb.add_argument("--accelerator", default="auto", help="auto, cpu, cuda or mps; %(default)s by default")


def _check(verb: _Parser) -> None:
    _recipe(verb)
    verb.add_argument("--seeds", type=_whole, help="how many runs of student and control")


def _list(verb: _Parser) -> None:
    verb.add_argument("what", nargs="?", help="a room such as generators, or a class name")


def _schema(verb: _Parser) -> None:
    """Take no flags."""


# By name: in a line, in a sentence, and what adds its flags.
FLAGS: dict[str, tuple[str, str, Callable[[Any], None]]] = {
    "run": (
        "the whole story: train, evaluate, report",
        "Train teacher, control and student, evaluate them alike, write the report.",
        _run,
    ),
    "train": ("one arm only", "Train one arm, and the teacher it needs.", _train),
    "evaluate": (
        "measure a network",
        "Measure a network against the reference split of the recipe's data, or another.",
        _evaluate,
    ),
    "compare": ("several runs side by side", "Put the arms of several runs side by side.", _compare),
    "sample": (
        "draw samples of a trained arm",
        "Draw what a trained arm makes, or write it for others to learn from.",
        _sample,
    ),
    "apply": (
        "a trained student on images of one's own",
        "Restore or repaint images of one's own with a student that a run exported.",
        _apply,
    ),
    "check": (
        "what a recipe would cost, before anything heavy starts",
        "Check a recipe, take a few steps of every arm, and estimate what it will cost.",
        _check,
    ),
    "list": (
        "what recipes can be made of",
        "List what there is to build from, or the arguments of one class.",
        _list,
    ),
    "schema": (
        "the JSON Schema of recipes, for an editor",
        "Print the JSON Schema of recipes: an editor that knows it completes and checks them.",
        _schema,
    ),
}

"""What an earlier run of another recipe has left in the folder of a run: moved aside, so that nothing is lost."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path

from limbeck.errors import LimbeckError
from limbeck.ground.progress import say
from limbeck.report.result import Result


def keep_earlier(out: Path, result: Result) -> None:
    """Move the report and the students of another recipe, or of other data, from `out` to `out/earlier`.

    A recipe is edited far more often than it is renamed, so that runs of one name are not refused. What the same
    recipe made of the same data is replaced.

    Args:
        out: Folder of the run.
        result: What is going to be written there.

    Raises:
        LimbeckError: They cannot be moved.
    """
    file = out / "result.json"
    if not file.exists():
        return
    try:
        earlier = Result.read(file)
        if (earlier.recipe_hash, earlier.data) == (result.recipe_hash, result.data):
            return
        students = [out / f"{name}.safetensors" for name, arm in earlier.arms.items() if arm.role == "student"]
    except LimbeckError:  # of another version, or damaged: what it was of is not known
        students = list(out.glob("*.safetensors"))
    content = sha256(file.read_bytes()).hexdigest()
    aside = out / "earlier" / f"{time.strftime('%Y-%m-%d', time.localtime(file.stat().st_mtime))}-{content[:8]}"
    try:
        aside.mkdir(parents=True, exist_ok=True)
        for old in [*students, out / "report.html", file]:  # the result last: it is what is known by
            if old.exists():
                old.replace(aside / old.name)
    except OSError as error:
        raise LimbeckError(f"{aside}: cannot be made ({error.strerror}); choose another folder with --out") from error
    say(f"{out}: the report of another recipe was here; it is now in {aside}. --out gives a run a folder of its own")

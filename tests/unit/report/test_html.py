"""The page holds what it must, for every shape of run, and needs nothing from anywhere."""

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from invented import DIRECTIONS, arm, cost, make_result
from PIL import Image

from limbeck.errors import LimbeckError
from limbeck.recipe import catalogue
from limbeck.report import plots
from limbeck.report.html import write_report
from limbeck.report.meanings import meaning
from limbeck.report.result import ArmResult, Quality
from limbeck.report.statistics import judge
from limbeck.tasks.base import Picture, Task

SENTENCE = (
    "19× smaller, 10× faster, FID [fashion-cnn] 17.5 against the teacher's 14.6;"
    " without the teacher the same student reaches 41.1."
)
COLLAPSE = "collapse: student at step 400"
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects the text, the attributes that fetch something, and tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.words, self.tags = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def report(tmp_path, result, pictures=None, histories=None, moments=None, *, alarms=(), recipe="name: x", **changes):
    path = tmp_path / "report.html"
    options = {"directions": DIRECTIONS, "main_metric": "fid", "command": "limbeck run x.yaml --seeds 5"} | changes
    arms = {name: replace(arm, alarms=alarms if arm.role == "student" else ()) for name, arm in result.arms.items()}
    write_report(
        path, replace(result, arms=arms), pictures or {}, histories or {}, recipe, moments=moments or {}, **options
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return text, page


def pictures():
    return {
        name: [Picture("Same latents", torch.full((4, 3, 4, 4), shade), 2)]
        for name, shade in (("student", 0.5), ("teacher", -0.5), ("control", 0.0))
    }


def histories():
    rows = [{"step": s, "discriminator.real_fake": 1.0 / (s + 1), "student.adversarial": 0.1 * s} for s in range(5)]
    seen = [{"step": step, "fid[fashion-cnn]": 24.0 - step} for step in (2, 4)]
    return {"student": [*rows, *seen], "control": rows}


def test_samples_over_time_stand_in_the_order_of_steps(result, tmp_path):
    looks = [{"step": step, "samples": torch.full((4, 3, 2, 2), step, dtype=torch.uint8)} for step in (20, 200)]
    text, page = report(tmp_path, result, moments={"student": looks, "control": looks[:1]})
    assert "Steps 20, 200" in page.text and page.text.count("Steps 20") == 1  # one look is no development
    source = next(s for s in re.findall(r'src="data:image/png;base64,([^"]+)" alt="student, steps', text))
    grid = np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))
    assert (grid[0, 0] == 20).all() and (grid[-1, -1] == 200).all()


def test_the_page_explains_its_metrics_and_says_when_it_was_made(result, tmp_path):
    _, page = report(tmp_path, replace(result, versions={**result.versions, "commit": "abc1234"}))
    assert "how far the features of the images, as a whole, lie from those of real ones" in page.text
    assert "commit abc1234, on" in page.text and str(datetime.now().year) in page.text


@pytest.mark.parametrize("seeds", [1, 5])
def test_one_seed_is_a_seed(result, tmp_path, seeds):
    _, page = report(tmp_path, replace(result, seeds=tuple(range(seeds))))
    assert ("Seed 0 " in page.text) == (seeds == 1) and ("Seeds 0, 1" in page.text) == (seeds > 1)


def test_every_metric_of_every_task_has_a_sentence():
    tasks = catalogue.catalogue(Task)
    assert len(tasks) >= 7
    for task in tasks:
        directions = task.directions if isinstance(task.directions, Mapping) else {}
        assert not [metric for metric in directions if not meaning(metric)], task


def test_white_images_end_where_a_gap_begins():
    grid = np.asarray(Image.open(io.BytesIO(plots.image_grid(torch.ones(4, 3, 4, 4), 2, visible=8))))
    assert (grid[0, 0] == 255).all() and (grid[0, 4] < 220).all() and grid.shape[0] == 10


@pytest.mark.parametrize("evaluations", [1, 2])
def test_a_metric_that_was_looked_at_once_is_no_curve(result, tmp_path, evaluations):
    rows = [{"step": step, "fid[fashion-cnn]": 20.0} for step in range(evaluations)]
    _, page = report(tmp_path, result, histories=dict.fromkeys(result.arms, rows))
    assert ("On the validation split" in page.text) == (evaluations > 1)


def test_everything_is_on_the_page(result, tmp_path):
    _, page = report(tmp_path, result, pictures(), histories(), alarms=[COLLAPSE], recipe="name: my-recipe")
    expected = [
        SENTENCE, "BEATS", COLLAPSE, "17.5 ± 0.3", "fashion-cnn", "30.5 k", "name: my-recipe",
        "limbeck run x.yaml --seeds 5", "3,000", "Settings tried, control", result.versions["torch"],
        str(result.hardware["cpu"]), "9f2c61aa", "77ab01",
    ]  # fmt: skip
    for words in expected:
        assert words in page.text, words
    assert page.tags.count("img") == 3 + 1 + 2  # grids, quality against cost, losses and validation metrics


def test_the_page_says_where_arms_were_trained(result, tmp_path):
    arms = {**result.arms, "student": replace(result.arms["student"], trained_on=("Some GPU",))}
    _, page = report(tmp_path, replace(result, arms=arms))
    assert "trained on Some GPU" in page.text


def test_the_page_stands_alone(result, tmp_path):
    text, page = report(tmp_path, result, pictures(), histories())
    assert page.sources and all(source.startswith("data:image/") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "@import" not in text and "url(" not in text and "http" not in re.sub(r"data:[^\"]+", "", text)


def test_pictures_stand_side_by_side_in_the_order_of_the_story(result, tmp_path):
    text, _ = report(tmp_path, result, pictures())
    names = re.findall(r'alt="Same latents: (\w+)"', text)
    assert names == ["teacher", "control", "student"]
    first = re.search(r'src="data:image/png;base64,([^"]+)"', text)
    assert base64.b64decode(first[1]).startswith(b"\x89PNG")


def test_the_best_of_control_and_student_is_marked_and_no_other(result, tmp_path):
    text, _ = report(tmp_path, result)
    assert re.findall(r'class="best">([^<]+)', text) == ["17.5", "0.751"]
    swapped = make_result([41.0, 42.0, 43.0], [17.0, 17.5, 18.0])
    text, _ = report(tmp_path, swapped)
    assert re.findall(r'class="best">([^<]+)', text)[0] == "17.5"


def test_without_alarms_there_is_no_alarm(result, tmp_path):
    _, page = report(tmp_path, result)
    assert "Alarm" not in page.text


@pytest.mark.parametrize("student", [[17.2], [17.2, 18.0], [17.2, 18.0, float("nan")]])
@pytest.mark.parametrize("control", [False, True])
def test_runs_with_few_seeds_no_control_or_broken_values(tmp_path, student, control):
    result = make_result(student, [v + 20 for v in student] if control else None)
    _, page = report(tmp_path, result, {}, {})
    assert "NO VERDICT" in page.text
    assert ("No control arm was run" in page.text) != control


def test_many_students_and_baselines(result, tmp_path):
    arms = dict(result.arms)
    for i in range(12):
        arms[f"loss {i}"] = arm("student", [18.0 + i, 18.4 + i, 18.1 + i, 18.6 + i, 18.2 + i], [0.7] * 5, 18.6)
    arms["bicubic"] = arm("baseline", [60.0], [0.2], 400)
    pairs = [(name, "control") for name, a in arms.items() if a.role == "student"]
    _, page = report(tmp_path, replace(result, arms=arms, verdicts=judge(arms, pairs, DIRECTIONS)))
    assert page.text.count("BEATS") == 2 * 13
    assert "13 students, FID [fashion-cnn] from 17.5 (student) to 29.3 (loss 11)" in page.text
    assert (
        "corrected for the number of students (Holm); intervals are not, and nothing is for that of metrics."
        in page.text
    )
    assert "bicubic baseline" in page.text


@pytest.mark.parametrize(
    ("direction", "order"), [("lower", ["b", "student", "c", "a"]), ("higher", ["a", "c", "student", "b"])]
)
def test_students_stand_in_the_order_of_the_main_metric(tmp_path, direction, order):
    result = make_result([20.0] * 3, [30.0] * 3)
    made = {"a": arm("student", [40.0] * 3, [0.7] * 3, 2), "b": arm("student", [10.0] * 3, [0.7] * 3, 2)}
    arms = {
        **made,
        **result.arms,
        "c": arm("student", [25.0] * 3, [0.7] * 3, 2),
        "d": ArmResult("student", {"precision[fashion-cnn]": Quality.of([0.7] * 3)}, cost(2)),
    }
    text, _ = report(tmp_path, replace(result, arms=arms), directions=DIRECTIONS | {"fid": direction})
    rows = [name.strip() for name in re.findall(r'class="dot"[^>]*></span>([^<]+)<', text)]
    first = list(dict.fromkeys(name for name in rows if result.arms.get(name) is None or name == "student"))
    assert first == [*order, "d"]


def test_another_task_needs_no_change_here(tmp_path):
    result = make_result([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    cost = {"parameters": 10.0, "energy_joules": 3.0}
    arms = {
        name: ArmResult(role, {"mean_iou": Quality.of(values)}, cost)
        for name, role, values in (
            ("big", "teacher", [0.8]),
            ("alone", "control", [0.5, 0.52, 0.51]),
            ("small", "student", [0.7, 0.71, 0.73]),
        )
    }
    directions = {"mean_iou": "higher"}
    result = replace(result, arms=arms, verdicts=judge(arms, [("small", "alone")], directions))
    text, page = report(tmp_path, result, directions=directions, main_metric="mean_iou")
    assert "No smaller, mean IoU 0.713 against the teacher's 0.800; without the teacher" in page.text
    assert "BEATS" in page.text and "energy joules" in page.text
    assert 'class="best">0.71' in text


def test_names_and_recipes_are_text_not_markup(result, tmp_path):
    arms = {("<b>student</b>" if name == "student" else name): a for name, a in result.arms.items()}
    evil = "<script>alert(1)</script>"
    _, page = report(tmp_path, replace(result, arms=arms, verdicts=[]), alarms=[evil], recipe=evil, command=evil)
    assert "script" not in page.tags and "b" not in page.tags
    assert evil in page.text


def test_a_report_that_cannot_be_written_is_one_line(result, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LimbeckError, match="could not be written"):
        report(tmp_path / "file", result)

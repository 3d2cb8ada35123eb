"""The sentence on top of a report says what the numbers say, above all when they say little."""

from dataclasses import replace

import pytest
from invented import make_result

from limbeck.report.alarms import alarms
from limbeck.report.result import ArmResult, Budget
from limbeck.report.wording import cost_text, explain, headline, main_metric_of, times, verdict_of

FID = "fid[fashion-cnn]"
NAME = "FID [fashion-cnn]"


def test_the_sentence_of_a_student_that_beats_its_control(result):
    assert headline(result, "fid", "lower") == (
        "19× smaller, 10× faster, FID [fashion-cnn] 17.5 against the teacher's 14.6;"
        " without the teacher the same student reaches 41.1."
    )
    assert explain(verdict_of(result, FID, "student"), 5).startswith(
        f"The teacher helps; student minus control is −23.6 {NAME} (95 % interval −25.1 to −22.2 over 5 seeds; p ="
    )


@pytest.mark.parametrize(
    ("student", "control", "ending", "meaning"),
    [
        ([41.2, 43, 42], [30, 31.5, 30.6], "reaches 30.7, which is better.", "The teacher does harm"),
        ([41, 40, 43], [40, 41, 42], "reaches 41.0, a difference that 3 seeds cannot tell from chance.", "not shown"),
        ([17, 18], [40, 41], "reaches 40.5 (no verdict: fewer than 3 seeds).", "may be chance"),
        ([float("nan"), 1, 2], [3, 4, 5], "reaches 4.00 (no verdict: a value is not finite).", "not finite"),
    ],
)
def test_the_sentence_is_honest_when_the_teacher_does_not_help(student, control, ending, meaning):
    result = make_result(student, control)
    assert headline(result, "fid", "lower").endswith(ending)
    assert meaning in explain(verdict_of(result, FID, "student"), len(student))


def test_without_a_control_nothing_is_claimed_for_the_teacher():
    text = headline(make_result([17.2], None), "fid", "lower")
    assert text.endswith("; without a control arm, what the teacher brings is unknown.")


def test_a_gain_that_is_none_is_called_so():
    result = make_result([17.0] * 3, None)
    arms = dict(result.arms)
    costs = {"parameters": 567_025.0, "latency_ms_batch1": 1.73 * 2}
    arms["student"] = replace(arms["student"], cost=costs)
    assert headline(replace(result, arms=arms), "fid", "lower").startswith(f"No smaller, 2.0× slower, {NAME} 17.0")
    arms["student"] = replace(arms["student"], cost={"parameters": 10 * 567_025.0, "latency_ms_batch1": None})
    assert headline(replace(result, arms=arms), "fid", "lower").startswith("10× larger, FID [fashion-cnn] 17.0")


def test_the_sentence_without_a_teacher_or_its_costs():
    result = make_result([17.0] * 3, [40.0, 41.0, 42.0])
    arms = {name: arm for name, arm in result.arms.items() if name != "teacher"}
    assert headline(replace(result, arms=arms), "fid", "lower").startswith(f"{NAME} 17.0; without the teacher")
    arms["teacher"] = ArmResult("teacher", result.arms["teacher"].quality)
    assert headline(replace(result, arms=arms), "fid", "lower").startswith(f"{NAME} 17.0 against the teacher's 14.6;")


def test_many_students_are_counted_not_picked():
    result = make_result([17.2, 17.9, 17.4], [40.1, 43.0, 41.2])
    worse = make_result([60.0, 61.0, 62.5], [40.1, 43.0, 41.2])
    verdicts = [*result.verdicts, *(replace(v, student="worse") for v in worse.verdicts)]
    both = replace(result, arms=dict(result.arms) | {"worse": worse.arms["student"]}, verdicts=verdicts)
    assert headline(both, "fid", "lower") == (
        "2 students, FID [fashion-cnn] from 17.5 (student) to 61.2 (worse) against the teacher's 14.6:"
        " 1 beats its control, 1 loses to its control."
    )
    assert f"{NAME} from 61.2 (worse) to 17.5 (student)" in headline(both, "fid", "higher")


def test_students_that_are_near_each_other_are_told_apart_by_as_many_digits_as_their_seeds_allow():
    near, nearer = ([26.37 + 0.005 * i + offset for i in range(3)] for offset in (0.0, 0.021))
    result = make_result(near, nearer)
    both = replace(result, arms=dict(result.arms) | {"nearer": replace(result.arms["control"], role="student")})
    assert headline(both, "fid", "lower").startswith(f"2 students, {NAME} from 26.375 (student) to 26.396 (nearer)")


def test_no_student_is_no_claim(result):
    arms = {"teacher": result.arms["teacher"]}
    assert headline(replace(result, arms=arms, verdicts=[]), "fid", "lower").startswith("No student was measured")


def test_a_straw_man_is_named(result):
    assert alarms(result) == []
    (text,) = alarms(replace(result, budget=Budget(3000, {"student": 4, "control": 1})))
    assert "control had 1 settings tried and student 4" in text


def test_a_straw_man_is_named_whatever_the_student_is_called(result):
    arms = {"small" if name == "student" else name: arm for name, arm in result.arms.items()}
    verdicts = [replace(verdict, student="small") for verdict in result.verdicts]
    named = replace(result, arms=arms, verdicts=verdicts, budget=Budget(3000, {"student": 4, "control": 1}))
    assert alarms(named)[0].startswith("control had 1 settings tried and small 4")


def test_a_run_is_about_what_its_students_can_be_measured_by(result):
    """A teacher without gradients has only the weakest of the robust accuracies."""
    quality = result.arms["student"].quality["fid[fashion-cnn]"]
    arms = {
        "teacher": replace(result.arms["teacher"], quality={"robust[noise]": quality}),
        "student": replace(result.arms["student"], quality={"robust[ensemble]": quality, "robust[noise]": quality}),
    }
    assert main_metric_of(replace(result, arms=arms), "robust") == "robust[ensemble]"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("parameters", 30559, "30.6 k"),
        ("parameters", 42, "42"),
        ("macs", 1.12e9, "1.12 G"),
        ("file_bytes", 2048, "2.00 KiB"),
        ("latency_ms_batch1", 0.157, "0.157 ms"),
        ("cpu_percent", 187.4, "187 %"),
        ("train_seconds", 200, "3 min 20 s"),
        ("train_seconds", 34.4, "34.4 s"),
        ("macs", None, "–"),
    ],
)
def test_costs_carry_their_unit(name, value, text):
    assert cost_text(name, value) == text


def test_ratios():
    assert (times(18.4), times(9.96), times(1.26)) == ("18×", "10×", "1.3×")

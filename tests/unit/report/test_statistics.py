"""Intervals and p-values against scipy and by hand; verdicts in both directions; Holm against its definition."""

import math
from itertools import pairwise

import pytest
from false_verdicts import false_families
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from limbeck.report.result import ArmResult, Quality
from limbeck.report.statistics import base_name, compare, holm, judge, paired_difference

COST = {"parameters": 1.0}
NUMBERS = st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=3, max_size=12)


def arms(student, control):
    return {
        "student": ArmResult("student", {"m": Quality.of(student)}, COST),
        "control": ArmResult("control", {"m": Quality.of(control)}, COST),
    }


@given(NUMBERS)
@settings(max_examples=60, deadline=None)
def test_the_interval_and_p_value_are_scipys(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    differences = [a - b for a, b in pairs]
    gaps = [b - a for a, b in pairwise(sorted(differences))]
    if min(gaps) < 1e-3:
        return  # equal differences are those of a count
    found = paired_difference(first, second)
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)


def test_the_interval_by_hand():
    # d = 1, 2, 3: mean 2, s = 1, n = 3, t(0.975, 2) = 4.302653 (any table), half width 4.302653 / sqrt(3)
    found = paired_difference([2, 4, 6], [1, 2, 3])
    assert found.mean == 2
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_the_same_values_differ_by_nothing():
    same = paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (same.low, same.high, same.p_value) == (0, 0, 1)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_equal_differences_have_the_p_value_of_the_sign_test(n):
    """Their interval has the width of the step: s² = h² / 12 with h = 1, which the values show."""
    apart = paired_difference([5.0 + i for i in range(n)], [float(i) for i in range(n)])
    assert apart.p_value == stats.binomtest(n, n).pvalue == 2 ** (1 - n)
    assert apart.high - apart.mean == pytest.approx(stats.t.ppf(0.975, n - 1) * math.sqrt(1 / 12 / n))


def test_a_tie_among_differences_adds_the_error_of_a_step():
    # d = 2, 2, 3 in steps of 1: mean 7/3, s² = 1/3 + 1/12 = 5/12
    found = paired_difference([3, 4, 6], [1, 2, 3])
    assert found.high - found.mean == pytest.approx(4.302653 * math.sqrt(5 / 12 / 3), rel=1e-6)
    assert found.p_value == pytest.approx(2 * stats.t.sf(7 / 3 / math.sqrt(5 / 36), 2))


@pytest.mark.parametrize(("seeds", "accuracy"), [(3, 0.98), (3, 0.995), (5, 0.9), (5, 0.99), (10, 0.99)])
def test_fifteen_students_on_two_hundred_images_get_few_false_verdicts(seeds, accuracy):
    assert false_families(200, seeds, accuracy) <= 0.05


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_real_difference_on_two_hundred_images_is_found_among_fifteen_students(seeds):
    """Twenty images of two hundred, where seeds differ by one or two."""
    noise = [0.0, 0.005, 0.0, -0.005, 0.01, 0.0, 0.005, 0.005, -0.005, 0.0][:seeds]
    control = Quality.of([0.8 + x for x in noise[-1:] + noise[:-1]])
    students = {f"s{i}": Quality.of([0.8 + x for x in noise]) for i in range(14)}
    students["good"] = Quality.of([0.9 + x for x in noise])
    measured = {"control": ArmResult("control", {"m": control}, COST)}
    measured |= {name: ArmResult("student", {"m": quality}, COST) for name, quality in students.items()}
    verdicts = judge(measured, [(name, "control") for name in students], {"m": "higher"})
    assert [v.student for v in verdicts if v.verdict == "BEATS"] == ["good"]


def test_one_pair_or_unpaired_values_are_an_error():
    with pytest.raises(ValueError, match="two pairs"):
        paired_difference([1.0], [2.0])
    with pytest.raises(ValueError):
        paired_difference([1.0, 2.0, 3.0], [2.0, 1.0])


@pytest.mark.parametrize(
    ("student", "control", "direction", "verdict"),
    [
        ([10, 11, 10], [40, 41, 42], "lower", "BEATS"),
        ([10, 11, 10], [40, 41, 42], "higher", "LOSES"),
        ([40, 41, 42], [10, 11, 10], "lower", "LOSES"),
        ([40, 41, 42], [10, 11, 10], "higher", "BEATS"),
        ([10, 50, 30], [40, 20, 30], "lower", "INCONCLUSIVE"),
        ([1, 2, 3], [1, 2, 3], "lower", "INCONCLUSIVE"),
    ],
)
def test_verdicts_follow_the_direction(student, control, direction, verdict):
    found = compare("m", "student", "control", arms(student, control), direction)
    assert found.verdict == verdict
    low, high = found.interval95
    assert (low <= 0 <= high) == (verdict == "INCONCLUSIVE")


@given(NUMBERS)
@settings(max_examples=60, deadline=None)
def test_a_verdict_says_what_its_interval_says(pairs):
    found = compare("m", "student", "control", arms(*zip(*pairs, strict=True)), "lower")
    low, high = found.interval95
    differences = [a - b for a, b in pairs]
    if max(differences) - min(differences) > 1e-3 and min(abs(low), abs(high)) > 1e-9:
        expected = "BEATS" if high < 0 else "LOSES" if low > 0 else "INCONCLUSIVE"
        assert found.verdict == expected


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_seeds_give_no_verdict(n):
    found = compare("m", "student", "control", arms([1.0] * n, [100.0] * n), "lower")
    assert (found.verdict, found.interval95, found.student_minus_control) == ("NONE", None, -99)
    assert found.reason == "fewer than 3 seeds"


def test_a_value_that_is_not_finite_gives_no_verdict():
    found = compare("m", "student", "control", arms([1, 2, math.nan], [4, 5, 6]), "lower")
    assert (found.verdict, found.student_minus_control, found.reason) == ("NONE", None, "a value is not finite")


def test_a_direction_must_be_known():
    with pytest.raises(ValueError, match="'none'"):
        compare("m", "student", "control", arms([1, 2, 3], [1, 2, 3]), "none")


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04 -> running maximum
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_holm_rejects_what_its_step_down_procedure_rejects(p_values):
    """Holm (1979): go up the sorted p-values and reject, until first p(i) >= 0.05 / (m - i + 1)."""
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if not p_values[index] * (len(p_values) - rank) < 0.05:
            break
        rejected.add(index)
    adjusted = holm(p_values)
    assert {i for i, p in enumerate(adjusted) if p < 0.05} == rejected
    assert all(p <= a <= min(1, len(p_values) * p) for p, a in zip(p_values, adjusted, strict=True))


def test_many_students_are_corrected_and_one_is_not():
    quality = {"m": [5.0, 5.3, 5.9, 5.5], "described": [1.0, 1.0, 1.0, 1.0]}
    control = {"m": [6.0, 6.1, 5.8, 6.4], "described": [1.0, 1.0, 1.0, 1.0]}
    many = {"control": ArmResult("control", {k: Quality.of(v) for k, v in control.items()}, COST)}
    for i in range(4):
        values = {k: Quality.of([x + 0.01 * i for x in v]) for k, v in quality.items()}
        many[f"s{i}"] = ArmResult("student", values, COST)
    directions = {"m": "lower", "described": "none"}
    (alone,) = judge(many, [("s0", "control")], directions)
    assert alone.p_holm is None
    assert alone.p_value == pytest.approx(stats.ttest_rel(quality["m"], control["m"]).pvalue)
    family = judge(many, [(f"s{i}", "control") for i in range(4)], directions)
    assert [v.metric for v in family] == ["m"] * 4
    assert [v.p_holm for v in family] == pytest.approx(holm([v.p_value for v in family]))
    assert all(v.p_holm > v.p_value for v in family)


def test_a_correction_can_take_a_verdict_away():
    control = ArmResult("control", {"m": Quality.of([6.0, 6.4, 6.2, 6.1])}, COST)
    student = ArmResult("student", {"m": Quality.of([5.0, 5.9, 5.0, 5.8])}, COST)
    many = {"control": control, **{f"s{i}": student for i in range(3)}}
    (alone,) = judge(many, [("s0", "control")], {"m": "lower"})
    family = judge(many, [(f"s{i}", "control") for i in range(3)], {"m": "lower"})
    assert 0.05 / 3 < alone.p_value < 0.05
    assert alone.verdict == "BEATS"
    assert [v.verdict for v in family] == ["INCONCLUSIVE"] * 3


def test_base_name():
    assert base_name("fid[fashion-cnn]") == "fid"
    assert base_name("psnr") == "psnr"

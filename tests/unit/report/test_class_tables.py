"""Tables of classes in the documents are read off the classes, and a page that is out of date is found out."""

import re

import class_tables
import pytest

from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.methods.base import Method
from limbeck.recipe.catalogue import arguments, catalogue
from limbeck.terms.base import Term

METHODS = [method for method in catalogue(Method) if method.__dict__.get("moved_arguments")]


def rows(name):
    return {row[0].strip("`"): row for row in list(class_tables.TABLES[name]())[1:]}


def test_a_page_is_written_and_then_up_to_date(tmp_path, capsys):
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text("before\n\n<!-- classes: logit losses -->\nold\n<!-- /classes -->\n\nafter\n")
    check = ["--root", str(tmp_path), "--check"]
    assert class_tables.main(check) == 1
    assert "\nold\n" in page.read_text()  # checking changes nothing
    assert "page.md: out of date" in capsys.readouterr().out
    assert class_tables.main(["--root", str(tmp_path)]) == 0
    text = page.read_text()
    assert text.startswith("before\n\n<!-- classes: logit losses -->\n| loss | ")
    assert text.endswith(" |\n<!-- /classes -->\n\nafter\n")
    assert "old" not in text
    assert class_tables.main(check) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<!-- classes: nets -->\n<!-- /classes -->\n", "expected one of terms"),
        ("<!-- classes: terms -->\n", "not closed"),
    ],
)
def test_marks_that_cannot_be_filled_are_refused(tmp_path, capsys, text, expected):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(text)
    assert class_tables.main(["--root", str(tmp_path)]) == 2
    assert expected in capsys.readouterr().err
    assert (tmp_path / "docs" / "page.md").read_text() == text


@pytest.mark.parametrize(
    ("name", "base"), [("terms", Term), ("logit losses", LogitLoss), ("feature losses", FeatureLoss)]
)
def test_every_class_has_a_row(name, base):
    assert list(rows(name)) == [cls.__name__ for cls in catalogue(base)]


@pytest.mark.parametrize(
    ("term", "player", "student", "needs", "default_of"),
    [
        ("R1", "discriminator", "images or logits of pixels", "a discriminator", ""),
        ("CrossEntropy", "any", "logits", "", "`Supervised`"),
        ("OutputDistance", "student", "images", "a teacher by default", "`Gan`"),
        ("CriticFeatures", "student", "images", "a teacher by default; the teacher's discriminator", ""),
        (
            "Content",
            "student",
            "images",
            "a feature network; a teacher with `to: teacher`; the method `Stylize`",
            "`Stylize`",
        ),
        ("PosteriorDivergence", "student", "images", "a teacher; the method `Vae`", "`Vae`"),
        ("Worst", "student", "any", "what its term needs", ""),
    ],
)
def test_rows_say_what_the_classes_say(term, player, student, needs, default_of):
    row = rows("terms")[term]
    assert row[2:5] == (player, student, needs)
    assert default_of in row[5].split(", ")


def test_default_terms_say_what_they_stand_around_and_what_they_weigh():
    found = {row[:2]: row[2:] for row in list(class_tables.TABLES["default terms"]())[1:]}
    assert found["`Rslad`", "`student.robust`"] == ("`SoftAnswers`", "5/6")
    assert found["`Trades`", "`student.robust`"] == ("`Stability`", "6")
    assert found["`Gan`", "`discriminator.soft_label`"] == ("`SoftLabel`", "0")
    nested = "`UnderAttack` of `FollowLogits` of `Kd`"
    assert found["`AdversarialSegment`", "`student.follow`"] == (nested, "1/2")


def test_papers_stand_in_a_column_of_their_own():
    assert rows("terms")["R1"][-1] == "Mescheder et al. 2018"
    assert rows("terms")["R1"][1] == "γ/2 E[‖∇D(x)‖²] at real images"
    assert rows("terms")["SoftAnswers"][-1].endswith("Zi et al. 2021, arXiv:2108.07969")
    assert rows("feature losses")["FeatureAffinity"][-1] == "He et al. 2020"  # FAKD is no author
    assert rows("logit losses")["Dist"][2] == "yes"  # it correlates the samples within a class
    assert rows("logit losses")["Kd"][2] == ""


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_new_spellings_name_what_there_is(method):
    known = {cls.__name__: cls for base in (Term, LogitLoss, FeatureLoss) for cls in catalogue(base)}
    for old, new in method.moved_arguments.items():
        assert old not in arguments(method)
        assert re.match(r"(student|discriminator)\.\w+: ", new), new
        for name, argument in re.findall(r"\{class_path: (\w+)(?:, init_args: \{(\w+))?", new):
            assert name in known, new
            assert not argument or argument in arguments(known[name]), new

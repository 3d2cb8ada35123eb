"""Tables of the documents are made from results, and a document that is out of date is found out."""

from dataclasses import replace

import pytest
import tables

from limbeck.errors import LimbeckError
from limbeck.report.result import Best, Quality

MARKS = "# Title\n\n<!-- table: results/x.json{} -->\n{}<!-- /table -->\n\nend\n"


@pytest.fixture
def project(result, tmp_path):
    result = replace(result, hardware={"cpu": "Some CPU", "cores": 2, "threads": 2, "gpu": None})
    result.write(tmp_path / "results" / "x.json")
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    return tmp_path


def test_a_table_says_where_its_arms_were_trained_unless_it_was_where_they_were_measured(result):
    result = replace(result, hardware={"cpu": "Some CPU", "cores": 2, "threads": 2, "gpu": None})
    here, there = "Some CPU, 2 threads", "Some GPU"
    local = replace(result, arms={name: replace(arm, trained_on=(here,)) for name, arm in result.arms.items()})
    assert tables._conditions(local) == tables._conditions(result)
    arms = {**local.arms, "student": replace(local.arms["student"], trained_on=(there,))}
    (line,) = tables._conditions(replace(local, arms=arms))
    assert "costs on Some CPU, 2 threads; teacher, " in line
    assert line.endswith("; student trained on Some GPU.")


def test_a_table_says_what_its_verdicts_are_corrected_for(result):
    """Of those that it shows."""
    verdicts = [replace(verdict, p_holm=0.01) for verdict in result.verdicts]
    holm = replace(result, verdicts=verdicts)
    students = "Verdicts and p-values are corrected for the number of students (Holm); intervals are not"
    assert tables.table(holm, ["fid[fashion-cnn]"]).endswith(f". {students}.\n")
    assert tables.table(holm, ["fid[fashion-cnn]"], "lowest").endswith(f". {students}.\n")
    assert tables.table(holm).endswith(f". {students}, and nothing is for that of metrics.\n")
    assert tables.table(result).endswith(". Nothing is corrected for the number of metrics.\n")
    assert "corrected" not in tables.table(result, ["fid[fashion-cnn]"])


def test_a_table_is_written_and_then_up_to_date(project, capsys):
    page = project / "docs" / "deep" / "page.md"
    page.write_text(MARKS.format(" columns: parameters, fid[fashion-cnn]", "old\n"))
    check = ["--root", str(project), "--check"]
    assert tables.main(check) == 1
    assert "old" in page.read_text()  # checking changes nothing
    assert "page.md: out of date" in capsys.readouterr().out
    assert tables.main(["--root", str(project)]) == 0
    assert page.read_text() == MARKS.format(
        " columns: parameters, fid[fashion-cnn]",
        "| arm | Parameters | FID [fashion-cnn] |\n"
        "| --- | ---: | ---: |\n"
        "| teacher | 567 k | 14.6 |\n"
        "| **student** | 30.5 k | 17.5 ± 0.3 |\n"
        "| floor | – | 1.90 |\n"
        "| control | 30.5 k | 41.1 ± 1.2 |\n"
        "\n"
        "- FID [fashion-cnn], student minus control: −23.6, 95 % interval −25.1 to −22.2: BEATS\n"
        "\n"
        "fashion-mnist, test split; 5 seeds (mean ± standard deviation); costs on Some CPU, 2 threads.\n",
    )
    assert tables.main(check) == 0


@pytest.mark.parametrize(("first", "order"), [("lowest", ["student", "control"]), ("highest", ["control", "student"])])
def test_a_ranked_table_orders_what_trained_alike_and_tells_the_verdict_in_the_row(project, first, order):
    page = project / "page.md"
    page.write_text(MARKS.format(f" columns: parameters, fid[fashion-cnn] ranked: {first}", ""))
    assert tables.main(["--root", str(project)]) == 0
    text = page.read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert [row.split("|")[1].strip(" *") for row in rows] == ["teacher", *order, "floor"]
    assert [row.count("−23.6, 95 % interval −25.1 to −22.2: BEATS") for row in rows] == [
        int("student" in row) for row in rows
    ]
    assert "student minus control:" not in text


@pytest.mark.parametrize("ranked", ["", " ranked: lowest"])
def test_the_row_of_the_best_checkpoint_has_as_many_cells_as_the_others(project, result, ranked):
    best = replace(result.arms["student"], best=Best((500,) * 5, {"fid[fashion-cnn]": Quality.of([16.0] * 5)}))
    replace(result, arms={**result.arms, "student": best}).write(project / "results" / "x.json")
    page = project / "page.md"
    page.write_text(MARKS.format(f" columns: parameters, fid[fashion-cnn]{ranked}", ""))
    assert tables.main(["--root", str(project)]) == 0
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert sum("| student, best on validation |  | 16" in row for row in rows) == 1
    assert len({row.count("|") for row in rows}) == 1


def test_a_changed_result_makes_its_table_stale(project, result):
    (project / "README.md").write_text(MARKS.format("", ""))
    assert tables.main(["--root", str(project)]) == 0
    arms = {name: arm for name, arm in result.arms.items() if name != "floor"}
    replace(result, arms=arms).write(project / "results" / "x.json")
    assert tables.main(["--root", str(project), "--check"]) == 1


def test_documents_without_tables_are_left_alone(project):
    (project / "README.md").write_text("no table\n")
    assert tables.main(["--root", str(project), "--check"]) == 0


def test_an_empty_table_waits_for_its_result(project):
    page = project / "README.md"
    page.write_text(MARKS.format("", "").replace("x.json", "later.json"))
    assert tables.main(["--root", str(project), "--check"]) == 0
    (project / "results" / "x.json").rename(project / "results" / "later.json")
    assert tables.main(["--root", str(project), "--check"]) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MARKS.format(" columns: fif", ""), "column 'fif': expected one of parameters"),
        ("<!-- table: results/none.json -->\n| old |\n<!-- /table -->\n", "could not be read"),
        ("<!-- table: results/x.json -->\n", "not closed"),
    ],
)
def test_mistakes_are_named_with_their_document(project, capsys, text, says):
    (project / "README.md").write_text(text)
    with pytest.raises(LimbeckError):
        tables.refresh(text, project)
    assert tables.main(["--root", str(project)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("README.md: ") and says in error
    assert (project / "README.md").read_text() == text

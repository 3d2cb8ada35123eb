"""What the code writes satisfies the schema, and the schema refuses what is wrong in it."""

import copy
import json
import math
from importlib.resources import files

import pytest
from invented import make_result
from jsonschema import Draft202012Validator

SCHEMA = json.loads(files("limbeck.report").joinpath("schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("student", [[17.2], [17.2, 18.0], [17.2, 18.0, 17.5], [17.2, math.nan, 17.5]])
@pytest.mark.parametrize("control", [False, True])
def test_every_shape_of_result_satisfies_it(student, control):
    written = make_result(student, [v + 20 for v in student] if control else None).to_json()
    VALIDATOR.validate(json.loads(json.dumps(written, allow_nan=False)))


BROKEN = {
    "a missing section": lambda r: r.pop("budget"),
    "an unknown section": lambda r: r.update(extra=1),
    "an unknown role": lambda r: r["arms"]["student"].update(role="pupil"),
    "a student without cost": lambda r: r["arms"]["student"].pop("cost"),
    "a control without cost": lambda r: r["arms"]["control"].pop("cost"),
    "quality without seeds": lambda r: r["arms"]["student"]["quality"]["entropy"].update(per_seed=[]),
    "quality as a number": lambda r: r["arms"]["student"]["quality"].update(entropy=3.0),
    "a negative cost": lambda r: r["arms"]["student"]["cost"].update(macs=-1),
    "a cost as text": lambda r: r["arms"]["student"]["cost"].update(macs="many"),
    "a negative deviation": lambda r: r["arms"]["student"]["quality"]["entropy"].update(std=-0.1),
    "no seeds": lambda r: r.update(seeds=[]),
    "the same seed twice": lambda r: r.update(seeds=[0, 0]),
    "no arms": lambda r: r.update(arms={}),
    "an unknown verdict": lambda r: r["verdicts"][0].update(verdict="WINS"),
    "no verdict, no reason": lambda r: r["verdicts"][0].update(verdict="NONE", interval95=None, reason=""),
    "a verdict without an interval": lambda r: r["verdicts"][0].update(interval95=None),
    "half an interval": lambda r: r["verdicts"][0].update(interval95=[1.0]),
    "a p-value above one": lambda r: r["verdicts"][0].update(p_value=1.5),
    "an unknown split": lambda r: r["data"].update(reference_split="holdout"),
    "no settings": lambda r: r["budget"]["settings_tried"].update(control=0),
    "half a number of steps": lambda r: r["budget"].update(student_steps=0.5),
    "versions without torch": lambda r: r["versions"].pop("torch"),
    "hardware without cpu": lambda r: r["hardware"].pop("cpu"),
    "a curve of single numbers": lambda r: r["arms"]["student"].update(curves={"fid": [1.0, 2.0]}),
    "a curve of triples": lambda r: r["arms"]["student"].update(curves={"fid": [[1, 2.0, 3.0]]}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_result_is_refused(name, result):
    written = json.loads(json.dumps(result.to_json()))
    VALIDATOR.validate(written)
    broken = copy.deepcopy(written)
    BROKEN[name](broken)
    assert not VALIDATOR.is_valid(broken)

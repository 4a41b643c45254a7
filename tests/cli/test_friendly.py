"""The configuration parser's messages become one sentence and a suggestion."""

from __future__ import annotations

import pytest

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.friendly import explain

UNION = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'lightning.pytorch.core.module.LightningModule'>, <class 'NoneType'>]
  Errors:
    - {problem}
    - Expected a <class 'NoneType'>
  Given value type: <class 'jsonargparse._util.NestedArg'>
  Given value: NestedArg(key='encoder.dimm', val='4')"""
NESTED = """Problem with given class_path 'torch.nn.Sequential':
        Parser key "encoder":
          Problem with given class_path 'torch.nn.Linear':
            {problem}"""


@pytest.mark.parametrize(
    ("message", "cause", "cure"),
    [
        (
            UNION.format(problem=NESTED.format(problem="Option 'in_feature' is not accepted")),
            "`model.encoder`: `Linear` has no argument `in_feature`.",
            "Did you mean `in_features` or `out_features`? Known: in_features, out_features, bias, device, dtype.",
        ),
        (
            "Problem with given class_path 'torch.nn.Linear':\n  Option 'init_arg.a' is not accepted",
            "`Linear` has no argument `init_arg`.",
            "Did you mean `init_args`",
        ),
        (
            UNION.format(problem=NESTED.format(problem="- Expected a dot import path string: ResidualUNett")),
            "`model.encoder`: no class `ResidualUNett`.",
            "Did you mean `ResidualUNet`?",
        ),
        (
            UNION.format(problem="Expected a dot import path string: Qqqqqq"),
            "`model`: no class `Qqqqqq`.",
            "Run `ct-vlm list components`",
        ),
        (
            UNION.format(problem=NESTED.format(problem="the following arguments are required: in_features")),
            "`model.encoder`: `torch.nn.Linear` needs `in_features`.",
            "init_args",
        ),
        (
            UNION.format(problem=NESTED.format(problem="Expected a <class 'int'>. Got value: x")),
            "`model.encoder`: Expected a <class 'int'>. Got value: x",
            "--debug",
        ),
        ('Parser key "config": File does not exist: a.yaml', "`config`: File does not exist: a.yaml", "--debug"),
        ("Problems parsing config: while parsing a flow node", "Problems parsing config", "--debug"),
        ("Subcommand 'fit' does not accept option 'modle'", "no option `modle`.", "Did you mean `model`?"),
        ("unrecognized arguments: --dat=3", "no option `dat`.", "Did you mean `data`?"),
        ("", "", "--debug"),
    ],
)
def test_messages(message: str, cause: str, cure: str) -> None:
    error = explain(message, ["ResidualUNet", "Linear"], ["model", "data"])
    assert isinstance(error, UsageError)
    assert error.cause.startswith(cause)
    assert cure in error.cure


def test_unknown_owner_still_gives_a_message() -> None:
    message = "Problem with given class_path 'no.such.Class':\n  Option 'x' is not accepted"
    assert explain(message, []).cause == "`Class` has no argument `x`."

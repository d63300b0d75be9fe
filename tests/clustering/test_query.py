"""Selections by limits on columns, and by values."""

import numpy as np
import pytest

from raydrgn.clustering.query import select
from raydrgn.errors import ConfigError

COLUMNS = {
    "bL28": np.array([0.6, 0.4, 0.9, 0.0]),
    "H68": np.array([0.1, 0.1, 0.5, 0.9]),
    "5S": np.array([0.0, 1.0, 1.0, 1.0]),
    "uL1-stalk": np.array([0.0, 0.0, 1.0, 0.2]),
    "cluster": np.array([-1.0, 3.0, 8.0, 5.0]),
    "16": np.array([1.0, 0.0, 0.0, 0.0]),
    "L7/L12 stalk": np.array([1.0, 1.0, 0.0, 0.0]),
    "class": np.array(["C1", "C2", "C1", "a b"]),
}


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("bL28>0.5 and H68<0.2", [0]),
        ("bL28 > .5 or 5S<=0", [0, 2]),
        ("not (bL28 > 0.5 or H68 >= 9e-1)", [1]),
        ("bL28 > 0.5 or bL28 < 0.1 and 5S < 0.5", [0, 2]),
        ("0.05 < H68 <= 0.5", [0, 1, 2]),
        ("uL1-stalk == 1", [2]),
        ("'16' > 0.5 and \"L7/L12 stalk\" != 0", [0]),
        ("bL28 > H68", [0, 1, 2]),
        ("-1 < bL28", [0, 1, 2, 3]),
        ("cluster in (3,5)", [1, 3]),
        ("cluster in (3, 7-9,-1)", [0, 1, 2]),
        ("not cluster in (0-5) and bL28 > 0.5", [0, 2]),
        ("cluster in (3) or H68 in (.1)", [0, 1]),
        ("bL28 in (0-1)", [3]),
        ("class in (C2)", [1]),
        ("class in (C2, 'a b')", [1, 3]),
        ("class == C1 and bL28 > 0.7", [2]),
        ('class != "a b" and not class == C2', [0, 2]),
    ],
)
def test_limits_select_rows(expression, rows):
    assert np.flatnonzero(select(expression, COLUMNS, noun="subunit")).tolist() == rows


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("x > 0.5", [1]),
        ("not x > 0.5", [0]),
        ("x != 0.1", [1]),
        ("not x == 0.1", [1]),
        ("x == x", [0, 1]),
        ("x in (0.1)", [0]),
        ("not x in (0.1)", [1]),
        ("x > 0.5 or y == 3", [1, 2]),
        ("not (x > 0.5 and y == 9)", [0, 1, 2, 3]),
        ("not (x > 0.5 or y == 9)", [0]),
        ("not (x > 0.5 and y == 3)", [0, 1, 3]),
        ("0 < x < y", [0, 1]),
        ("not 5 < y < x", [0, 1, 2, 3]),
        ("not not x > 0.5", [1]),
        ("name != C1", [2, 3]),
    ],
)
def test_a_missing_value_fulfils_no_condition_and_no_negation(expression, rows):
    """Three-valued logic, as of SQL: x has no value in the last two rows."""
    columns = {
        "x": np.array([0.1, 0.9, np.nan, np.nan]),
        "y": np.array([1.0, 2.0, 3.0, 4.0]),
        "name": np.array(["C1", "C1", "C2", "none"]),
    }
    assert np.flatnonzero(select(expression, columns, noun="value")).tolist() == rows


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("bL28>", "a number is missing .at the end"),
        ("bL28 > and H68 < 1", r"a number is missing .at character 8, 'and H68 < 1'"),
        ("bL28>0.5 H68<0.2", "'and' or 'or' is missing .at character 10, 'H68<0.2'"),
        ("(bL28>0.5", "closing parenthesis is missing .at the end"),
        ("bL29>0.5", "no subunit 'bL29'; did you mean bL28"),
        ("0.1 < 0.2", "a comparison without a subunit"),
        ("3 in (3)", "a comparison without a subunit"),
        ("cluster in 3", r"values in parentheses are missing.*character 12, '3'"),
        ("cluster in (3", "a number or a closing parenthesis is missing .at the end"),
        ("cluster in (3, x)", "'x' is neither a number nor a range such as 8-12"),
        ("cluster in (3, 8-2)", "range 8-2 begins above its end; did you mean 2-8"),
        ("bL28 = 0.5", "at character 6, '= 0.5'"),
        ("bL28 > 0.5 and 'H68 < 2", "a quote without an end.*character 16"),
        ("class in (C2, C3)", "no row has 'C3'; there are C1, C2, a b"),
        ("class in (C2", "a name or a closing parenthesis is missing"),
        ("class > C1", "names have no order; use in"),
        ("cluster in (3, 99)", "no row has 99; there are -1 to 8"),
        ("class ==", "a name is missing"),
        ("bL28 > class", "names are compared as in .A, B., or == A"),
        ("bL28", "a comparison is missing"),
        ("", "a number is missing .at the end"),
        ("__import__('os').remove('x')", "there is no subunit '__import__'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(expression, message):
    with pytest.raises(ConfigError, match=message):
        select(expression, COLUMNS, noun="subunit")

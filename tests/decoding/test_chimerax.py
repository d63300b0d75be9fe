"""Scripts of volumes for ChimeraX."""

import pytest

from raydrgn.decoding.chimerax import volume_script, word


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("model/vol_000.mrc", "model/vol_000.mrc"),
        ("Grüße-1.mrc", "Grüße-1.mrc"),
        ("my map.mrc", '"my map.mrc"'),
        ("a;b#c.mrc", '"a;b#c.mrc"'),  # a semicolon ends a command, and a hash begins a comment
        ('6" map.mrc', "'6\" map.mrc'"),
    ],
)
def test_paths_are_one_word(text, written):
    assert word(text) == written


def test_volumes_are_shown_together_or_one_after_the_other():
    given = {"colours": ["#0072b2", "#d55e00"], "level": 0.25}
    together = volume_script(["a.mrc", "b c.mrc"], **given)
    assert together.splitlines() == [
        "set bgColor white",
        "open a.mrc id 1",
        'open "b c.mrc" id 2',
        "volume #1-2 style surface step 1 level 0.25",
        "color #1 #0072b2",
        "color #2 #d55e00",
        "lighting soft",
        "view",
    ]
    series = volume_script(["a.mrc", "b.mrc"], names=["first", "second"], as_series=True, **given)
    assert set(series.splitlines()) >= {"hide #2-2 models", "mseries slider #1-2"}
    assert 'rename #2 "second"' in series


def test_volumes_keep_their_ids_where_some_are_missing():
    script = volume_script(
        ["b.mrc", "d.mrc"],
        colours=["#0072b2", "#d55e00"],
        level=0.25,
        names=["second", "fourth"],
        as_series=True,
        ids=[2, 4],
    )
    assert script.splitlines() == [
        "set bgColor white",
        "open b.mrc id 2",
        "open d.mrc id 4",
        "volume #2-4 style surface step 1 level 0.25",
        "color #2 #0072b2",
        "color #4 #d55e00",
        'rename #2 "second"',
        'rename #4 "fourth"',
        "hide #4-4 models",
        "lighting soft",
        "view",
        "mseries slider #2-4",
    ]

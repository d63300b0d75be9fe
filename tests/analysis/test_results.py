"""Folders of results: finished pieces are kept, and belong to one set of options."""

import pytest

from raydrgn.analysis.results import ResultFolder
from raydrgn.errors import RunDirectoryError


def test_the_same_options_go_on_and_others_are_refused(tmp_path):
    folder = ResultFolder(str(tmp_path / "analyze.3"))
    folder.begin({"ksample": 20, "range": (1, 99)}, overwrite=False)
    folder.write_table("a.csv", ("x", "y"), [(1, 0.5)])
    folder.begin({"ksample": 20, "range": (1, 99)}, overwrite=False)
    assert folder.has("a.csv")
    with pytest.raises(RunDirectoryError, match=r"ksample = 20, not 10.*--overwrite"):
        folder.begin({"ksample": 10, "range": (1, 99)}, overwrite=False)
    folder.begin({"ksample": 10, "range": (1, 99)}, overwrite=True)
    assert not folder.has("a.csv")


def test_what_another_program_wrote_is_not_touched_unasked(tmp_path):
    (tmp_path / "umap.pkl").write_bytes(b"theirs")
    with pytest.raises(RunDirectoryError, match="raydrgn did not write"):
        ResultFolder(str(tmp_path)).begin({}, overwrite=False)
    assert (tmp_path / "umap.pkl").read_bytes() == b"theirs"

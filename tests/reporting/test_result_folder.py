"""Folders of results: finished pieces are kept, and belong to one set of options."""

import pytest

from raydrgn.errors import RunDirectoryError
from raydrgn.reporting.result_folder import ResultFolder


def test_the_same_options_go_on_and_others_are_refused(tmp_path):
    folder = ResultFolder(str(tmp_path / "analyze.3"))
    folder.begin({"ksample": 20, "range": (1, 99)}, made_from=None, overwrite=False)
    folder.write_table("a.csv", ("x", "y"), [(1, 0.5)])
    folder.begin({"ksample": 20, "range": (1, 99)}, made_from=None, overwrite=False)
    assert folder.has("a.csv")
    with pytest.raises(RunDirectoryError, match=r"ksample = 20, not 10.*--overwrite"):
        folder.begin({"ksample": 10, "range": (1, 99)}, made_from=None, overwrite=False)
    folder.begin({"ksample": 10, "range": (1, 99)}, made_from=None, overwrite=True)
    assert not folder.has("a.csv")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["umap.pkl", "config.yaml"])
def test_what_is_not_a_result_is_never_deleted(tmp_path, name, overwrite):
    (tmp_path / name).write_bytes(b"theirs")
    if name == "config.yaml":
        (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match="files that no raydrgn command wrote"):
        ResultFolder(str(tmp_path)).begin({}, made_from=None, overwrite=overwrite)
    assert (tmp_path / name).read_bytes() == b"theirs"


def test_the_folder_that_a_command_runs_in_is_never_deleted(tmp_path, monkeypatch):
    folder = ResultFolder(str(tmp_path / "results"))
    folder.begin({}, made_from=None, overwrite=False)
    folder.write_table("a.csv", ("x",), [(1,)])
    (tmp_path / "results" / "below").mkdir()
    monkeypatch.chdir(tmp_path / "results" / "below")
    with pytest.raises(RunDirectoryError, match="contains the current folder"):
        folder.begin({}, made_from=None, overwrite=True)
    assert folder.has("a.csv")


def test_free_settings_may_differ(tmp_path):
    folder = ResultFolder(str(tmp_path))
    folder.begin({"ksample": 20, "pc": 2}, made_from=None, overwrite=False)
    folder.write_table("a.csv", ("x",), [(1,)])
    folder.begin(
        {"ksample": 10, "pc": 2}, made_from=None, overwrite=False, independent=("ksample",)
    )
    with pytest.raises(RunDirectoryError, match="pc = 2, not 3"):
        folder.begin(
            {"ksample": 10, "pc": 3}, made_from=None, overwrite=False, independent=("ksample",)
        )

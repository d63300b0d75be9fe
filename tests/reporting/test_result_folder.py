"""Folders of results: finished pieces are kept, and belong to one set of options."""

import pytest
from matplotlib.figure import Figure

from raydrgn.errors import RunDirectoryError, StorageError
from raydrgn.io import storage
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.workflows.analyze import AnalyzeSettings


def test_the_same_options_go_on_and_others_are_refused(tmp_path):
    folder = ResultFolder(str(tmp_path / "analyze.3"))
    folder.begin({"ksample": 20, "range": (1, 99)}, made_from=None, overwrite=False)
    folder.write_table("a.csv", ("x", "y"), [(1, 0.5)])
    folder.begin({"ksample": 20, "range": (1, 99)}, made_from=None, overwrite=False)
    assert folder.has("a.csv")
    with pytest.raises(RunDirectoryError, match=r"ksample = 20, not 10.*--overwrite"):
        folder.begin({"ksample": 10, "range": (1, 99)}, made_from=None, overwrite=False)
    storage.write_bytes(folder.at("report.html"), b"")
    look = r"not the default\. Look at them in .*/analyze\.3/report\.html, choose another folder"
    with pytest.raises(RunDirectoryError, match=f"ksample = 20, {look}"):
        folder.begin({"range": (1, 99)}, made_from=None, overwrite=False)
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


def test_overwrite_deletes_what_commands_wrote_and_nothing_else(tmp_path, caplog):
    folder = ResultFolder(str(tmp_path / "analyze.3"))
    folder.begin({"ksample": 20}, made_from=None, overwrite=False)
    folder.write_table("kmeans20/a.csv", ("x",), [(1,)])
    folder.write_table("b.csv", ("x",), [(1,)])
    folder.finish()
    (tmp_path / "analyze.3" / "notes.txt").write_text("mine")
    (tmp_path / "analyze.3" / "kmeans20" / "session.cxs").write_text("mine")

    folder.begin({"ksample": 20}, made_from=None, overwrite=False)  # goes on, and is interrupted
    folder.write_table("c.csv", ("x",), [(1,)])
    with caplog.at_level("INFO", logger="raydrgn"):
        folder.begin({"ksample": 5}, made_from=None, overwrite=True)
    assert "2 files that no raydrgn command wrote are kept" in caplog.text
    kept = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert kept == {
        "analyze.3/settings.json",
        "analyze.3/notes.txt",
        "analyze.3/kmeans20/session.cxs",
    }


def test_results_of_other_commands_in_the_folder_are_known_as_such(tmp_path, caplog):
    folder = ResultFolder(str(tmp_path / "occupancy"))
    folder.begin({"ksample": 20}, made_from=None, overwrite=False)
    folder.write_table("a.csv", ("x",), [(1,)])
    folder.finish()
    inner = ResultFolder(folder.at("classes"))
    inner.begin({"classes": 3}, made_from=None, overwrite=False)
    inner.write_table("C1/b.csv", ("x",), [(1,)])
    inner.finish()
    (tmp_path / "occupancy" / "notes.txt").write_text("mine")
    with caplog.at_level("INFO", logger="raydrgn"):
        folder.begin({"ksample": 5}, made_from=None, overwrite=True)
    assert "2 files of other commands are kept (classes/): they were made of the" in caplog.text
    assert "1 file that no raydrgn command wrote is kept, such as notes.txt" in caplog.text
    assert inner.has("C1", "b.csv")


def test_results_that_were_never_finished_are_deleted_too(tmp_path):
    folder = ResultFolder(str(tmp_path / "landscape.1"))
    folder.begin({"states": 3}, made_from=None, overwrite=False)
    folder.write_table("deep/er/a.csv", ("x",), [(1,)])
    folder.begin({"states": 4}, made_from=None, overwrite=True)
    assert [p.name for p in (tmp_path / "landscape.1").iterdir()] == ["settings.json"]


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_figures_are_written_in_another_format_beside_png(tmp_path, kind):
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [1, 0])
    ResultFolder(str(tmp_path), figures=kind).write_figure("part/curve.png", figure)
    assert (tmp_path / "part" / "curve.png").read_bytes().startswith(b"\x89PNG")
    beginning = b"%PDF" if kind == "pdf" else b"<?xml"
    assert (tmp_path / "part" / f"curve.{kind}").read_bytes().startswith(beginning)
    ResultFolder(str(tmp_path / "plain")).write_figure("curve.png", figure)
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["curve.png"]


def test_another_format_does_not_change_results():
    plain, with_svg = (AnalyzeSettings(run="r", figures=kind) for kind in (None, "svg"))
    assert plain.recorded() == with_svg.recorded()


def test_what_cannot_be_made_is_refused_before_the_work_and_nothing_is_made(tmp_path):
    ResultFolder(str(tmp_path / "a" / "b")).require_writable()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("content")
    with pytest.raises(StorageError, match=f"{tmp_path}/file"):
        ResultFolder(str(tmp_path / "file" / "b")).require_writable()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

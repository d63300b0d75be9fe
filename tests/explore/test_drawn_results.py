"""Paths and classes of other commands, as the page draws and selects them."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from explorer_server import running_server
from finished_run import make_run
from raydrgn.cli.main import app
from raydrgn.clustering.embedding import principal_components
from raydrgn.errors import StorageError
from raydrgn.io import cryodrgn
from raydrgn.protocol.project import Project
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.workflows.explore import ExploreSettings, open_explorer

COUNT = 60
SUBUNITS = ("uL1", "uL2", "uS3")


@pytest.fixture(scope="module")
def z():
    return np.random.default_rng(0).normal(size=(COUNT, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory, z):
    return make_run(tmp_path_factory.mktemp("drawn") / "run", z)


@pytest.fixture
def server(run):
    with running_server(open_explorer(ExploreSettings(run=run.files.root))) as found:
        yield found


def write_classes(run, labels, *, epoch=1, uri=None):
    """Write what `occupancy classes` does, of two classes."""
    folder = ResultFolder(uri or f"{run.results('occupancy', epoch)}/classes")
    folder.begin({"command": "classes"}, made_from=run.identity(epoch), overwrite=False)
    counts = np.bincount(labels, minlength=3)[1:]
    head = ("class", "volumes", "share_of_volumes", "particles", "share_of_particles")
    rows = [(f"C{c}", 1, 0.5, counts[c - 1], counts[c - 1] / COUNT) for c in (1, 2)]
    folder.write_table("classes.csv", (*head, "occupied_blocks"), [(*row, "B1") for row in rows])
    means = [("C1", 1.0, 0.5, 0.0), ("C2", 0.25, 0.75, 1.0)]
    folder.write_table("class_means.csv", ("class", *SUBUNITS), means)
    cryodrgn.write_pickles(folder.at("labels.pkl"), labels)
    folder.finish()


def test_a_class_of_the_heat_map_is_selected_by_its_name(server, run, z):
    assert server.json("/api/drawn")["occupancy"] is None
    labels = 1 + (z[:, 0] > 0).astype(np.int64)
    labels[:5] = 0
    write_classes(run, labels)
    facts = server.json("/api/facts")  # as after a job has ended
    assert "occupancy.class" in facts["columns"]
    found = server.json("/api/drawn")["occupancy"]
    assert found["subunits"] == list(SUBUNITS)
    assert [entry["name"] for entry in found["classes"]] == ["C1", "C2"]
    assert found["classes"][1]["means"] == [0.25, 0.75, 1.0]
    for number, entry in enumerate(found["classes"], start=1):
        among = {"column": found["column"], "values": [entry["name"]]}
        chosen = server.arrays("/api/select", {"conditions": [{"join": "and", "among": among}]})
        assert chosen["count"] == entry["particles"] == (labels == number).sum()
    for name in ("class_means.csv", "classes.csv"):  # as a spreadsheet saves them
        file = Path(run.results("occupancy", 1), "classes", name)
        file.write_bytes(file.read_text().replace("\n", "\r").encode("utf-8-sig"))
    assert server.json("/api/drawn")["occupancy"] == found
    table = Path(run.results("occupancy", 1), "classes", "classes.csv")
    content = table.read_text()
    table.write_text(content.replace("C2", "C3"))  # while the command replaces them
    assert "are not of the same classes" in server.refusal("/api/drawn")[1]
    table.write_text(content)
    table.with_name("class_means.csv").unlink()
    assert server.json("/api/drawn")["occupancy"] is None


def test_classes_of_other_weights_are_not_shown(server, run, z):
    write_classes(run, np.ones(COUNT, dtype=np.int64))
    cryodrgn.write_latents(run.files.latents(1), z[::-1].copy(), np.zeros_like(z))
    try:
        with running_server(open_explorer(ExploreSettings(run=run.files.root))) as other:
            assert "occupancy.class" not in other.json("/api/facts")["columns"]
    finally:
        cryodrgn.write_latents(run.files.latents(1), z, np.zeros_like(z))


def test_paths_lie_where_their_points_are(server, run, z):
    root = run.files.root
    words = ["--skip-volumes", "--anchors", "3,11,40"]
    said = CliRunner().invoke(app, ["traverse", "direct", root, *words])
    assert said.exit_code == 0, said.output
    wide = ["--max-neighbors", "60", "--avg-neighbors", "59"]
    assert CliRunner().invoke(app, ["traverse", "graph", root, *words, *wide]).exit_code == 0
    direct, graph = server.json("/api/drawn")["paths"]
    assert (direct["name"], graph["name"]) == ("direct", "graph")
    points = np.stack([direct["columns"][name] for name in ("z0", "z1")], axis=1)
    np.testing.assert_allclose(points[[0, 5, -1]], z[[3, 11, 40]], atol=1e-6)
    assert direct["rows"] is None
    assert [graph["rows"][0], graph["rows"][-1]] == [3, 40]
    components = principal_components(z).coordinates
    np.testing.assert_allclose(graph["columns"]["pc2"], components[graph["rows"], 1], atol=1e-5)
    assert "umap1" not in direct["columns"]


def test_volumes_along_a_path_are_those_of_its_points(server, run, z, monkeypatch):
    """Points of a direct path are no particles, but for its anchors."""
    words = ["traverse", "direct", run.files.root, "--skip-volumes", "--anchors", "3,11,40"]
    assert CliRunner().invoke(app, words).exit_code == 0
    order = {"epoch": 1, "page": "p", "number": 1, "size": "full"}
    along = server.arrays("/api/volumes", {**order, "path": "direct", "rows": [0, 2, 5]})
    ends = server.arrays("/api/volumes", {**order, "rows": [3, 11]})
    made = along["volumes"] * np.array(along["scale"])[:, None, None, None]
    expected = ends["volumes"] * np.array(ends["scale"])[:, None, None, None]
    np.testing.assert_allclose(made[[0, 2]], expected, atol=2e-3 * np.abs(expected).max())
    assert np.abs(made[1] - expected).max(axis=(1, 2, 3)).min() > 0

    shown = {"level": 3.0, "colours": ["#0072b2"] * 3, "name": "film"}
    body = {"epoch": 1, "path": "direct", "rows": [0, 2, 5], **shown}
    saved = server.json("/api/save-volumes", body)
    assert sum(path.endswith(".mrc") for path in saved["files"]) == 3
    used = np.loadtxt(f"{run.files.root}/explore/volumes/film/z_values.txt")
    np.testing.assert_allclose(used[[0, 2]], z[[3, 11]], rtol=1e-6)

    def fail(settings):
        raise StorageError("The disk is full.")

    monkeypatch.setattr("raydrgn.workflows.volumes.run", fail)
    _, words = server.refusal("/api/save-volumes", {**body, "name": "second"})
    assert words == "The disk is full."
    assert not list(Path(run.files.root, "explore", "volumes").glob("second*"))

    for path, row, refusal in (("none", 0, "no path 'none'"), ("direct", 999, "has 11 points")):
        _, words = server.refusal("/api/volumes", {**order, "path": path, "rows": [row]})
        assert refusal in words


def test_results_beside_a_run_in_its_project_are_seen_when_they_come(tmp_path, z):
    """Of older results in the run, of other latents, nothing is shown."""
    run = make_run(tmp_path / "project" / "round2", z)
    root, (old, new) = tmp_path / "project", np.ones((2, COUNT), dtype=np.int64)
    new[: COUNT // 2] = 2
    (root / "project.yaml").write_text("decisions: {}\n")
    write_classes(run, old)
    cryodrgn.write_latents(run.files.latents(1), z + 1, np.zeros_like(z))
    with running_server(open_explorer(ExploreSettings(run=run.files.root))) as server:
        assert "occupancy.class" not in server.json("/api/facts")["columns"]
        write_classes(run, new, uri=f"{root}/occupancy-classes")
        words = ["direct", run.files.root, "-o", f"{root}/path.2/direct"]
        options = ["--skip-volumes", "--anchors", "3,11"]
        assert CliRunner().invoke(app, ["traverse", *words, *options]).exit_code == 0
        assert "occupancy.class" in server.json("/api/facts")["columns"]
        found = server.json("/api/drawn")
        assert [entry["particles"] for entry in found["occupancy"]["classes"]] == [COUNT // 2] * 2
        [path] = found["paths"]
        assert path["name"] == "path.2"
        np.testing.assert_allclose(path["columns"]["z1"][0], z[3, 1] + 1, rtol=1e-5)


def test_of_a_project_that_went_back_to_earlier_settings_those_results_are_shown(tmp_path, z):
    project, sizes = Project(str(tmp_path / "project")), []
    run = make_run(tmp_path / "project" / "round2", z)
    (tmp_path / "project" / "project.yaml").write_text("decisions: {}\n")
    with running_server(open_explorer(ExploreSettings(run=run.files.root))) as server:
        for in_first, clusters in ((20, 4), (45, 2), (20, 4)):
            labels = np.where(np.arange(COUNT) < in_first, 1, 2)

            def make(uri, labels=labels):
                write_classes(run, labels, uri=uri)
                return {}, ["settings.json"]

            project.step("classes", {"clusters": clusters}, make, folder="classes")
            assert "occupancy.class" in server.json("/api/facts")["columns"]
            classes = server.json("/api/drawn")["occupancy"]["classes"]
            sizes.append([entry["particles"] for entry in classes])
    assert sizes == [[20, 40], [45, 15], [20, 40]]

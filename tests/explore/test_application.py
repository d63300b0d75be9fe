"""What the explorer answers is what the commands say of the same run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest
from typer.testing import CliRunner

from explorer_server import KSAMPLE, analysed_run, running_server, unpacked
from raydrgn.cli.main import app
from raydrgn.data.particle_images import read_images
from raydrgn.errors import ConfigError
from raydrgn.explore import study as studies
from raydrgn.explore.packing import packed
from raydrgn.explore.server import PORTS_TRIED, bind
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.run.reader import open_run
from raydrgn.workflows.explore import ExploreSettings, open_explorer

COUNT = 203
CRYODRGN = Path(__file__).parent.parent / "assets" / "cryodrgn"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return analysed_run(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="module")
def z(root):
    return cryodrgn.read_latents(str(root / "z.2.pkl"))[0]


@pytest.fixture(scope="module")
def server(root):
    with running_server(open_explorer(ExploreSettings(run=str(root)))) as found:
        yield found


def octagon(z):
    angle = np.arange(8) * np.pi / 4
    centre, size = np.median(z, axis=0), z.std(axis=0)
    return (centre + 0.8 * size * np.stack([np.cos(angle), np.sin(angle)], axis=1)).tolist()


SHOWN = {"level": 0.25, "colours": ["#0072b2", "#d55e00"]}


def conditions(z):
    inside = {"x": "umap1", "y": "umap2", "corners": octagon(z)}
    return [
        {"join": "and", "inside": inside},
        {"join": "or", "among": {"column": f"kmeans{KSAMPLE}", "values": [1, 3]}},
        {"join": "and not", "range": {"column": "defocus_u_angstrom", "low": 15000, "high": None}},
    ]


def test_arrays_come_as_they_were():
    arrays = {
        "a": np.arange(5, dtype=np.float32),
        "b": np.arange(6, dtype=">u4").reshape(2, 3),
        "c": np.zeros((0, 2), dtype=np.uint8),
        "d": np.array([1.5, -2], dtype=np.float16),
    }
    found = unpacked(packed({"text": "é", "list": [1, 2]}, **arrays))
    assert (found["text"], found["list"]) == ("é", [1, 2])
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape


def test_columns_are_those_of_the_run(server, z, root):
    facts = server.json("/api/facts")
    assert (facts["particles"], facts["shown"], facts["zdim"]) == (COUNT, COUNT, 2)
    assert facts["columns"][:7] == ["umap1", "umap2", "pc1", "pc2", "z0", "z1", "z_norm"]
    assert facts["missing"] == ""
    found = server.arrays("/api/column?epoch=2&name=z1")
    np.testing.assert_array_equal(found["values"], z[:, 1])
    assert found["low"] == pytest.approx(z[:, 1].min())
    found = server.arrays(f"/api/column?epoch=2&name=kmeans{KSAMPLE}")
    [labels] = cryodrgn.read_pickles(str(root / "analyze.2" / f"kmeans{KSAMPLE}" / "labels.pkl"))
    np.testing.assert_array_equal(found["values"], labels)
    assert found["counts"] == np.bincount(labels).tolist()
    first = server.arrays("/api/column?epoch=1&name=z1")
    assert not np.array_equal(first["values"], z[:, 1])
    assert server.arrays("/api/points")["numbers"].tolist() == list(range(COUNT))


def test_a_selection_is_that_of_filter(server, z, root, tmp_path):
    """Of the polygon and the conditions, and of the command that the page names."""
    body = {"epoch": 2, "conditions": conditions(z)}
    found = server.arrays("/api/select", body)
    mask = np.unpackbits(found["bits"], bitorder="little")[:COUNT].astype(bool)
    assert found["count"] == mask.sum()
    assert 0 < mask.sum() < COUNT
    saved = server.json("/api/save-selection", {**body, "name": "Two_ends"})
    assert saved["notes"] == []
    kept = cryodrgn.read_indices(str(root / "explore/selections/Two_ends/kept.ind.pkl"))
    np.testing.assert_array_equal(kept, np.flatnonzero(mask))
    words = shlex.split(saved["filter"])
    assert words[:2] == ["raydrgn", "filter"]
    said = CliRunner().invoke(app, [*words[1:], "--skip-volumes", "-o", str(tmp_path / "f")])
    assert said.exit_code == 0, said.output
    again = cryodrgn.read_indices(str(tmp_path / "f" / "kept.ind.pkl"))
    np.testing.assert_array_equal(again, kept)

    exported = str(root / "explore/selections/Two_ends/kept.star")
    table = open_particles(ParticleSource(particles=exported), need_images=False)
    assert len(table) == len(kept)
    train = shlex.split(saved["train"])
    assert train[train.index("--ind") + 1].endswith("Two_ends/kept.ind.pkl")
    [listed] = server.json("/api/results")["selections"]
    assert listed["conditions"] == conditions(z)
    path = "/files/explore/selections/Two_ends/kept.ind.pkl"
    assert server.ask(path)[2] == (root / path.removeprefix("/files/")).read_bytes()


def test_clusters_alone_are_named_as_filter_names_them(server):
    among = {"column": f"kmeans{KSAMPLE}", "values": [0, 2]}
    for join, option in (("and", "--keep-clusters"), ("and not", "--drop-clusters")):
        found = server.arrays("/api/select", {"conditions": [{"join": join, "among": among}]})
        assert found["command"].endswith(f"2 {option} 0,2 --ksample {KSAMPLE}")


def test_volumes_are_those_of_the_command(server, root, tmp_path):
    order = {"epoch": 2, "page": "p", "number": 1, "rows": [5, 17], "size": "full"}
    found = server.arrays("/api/volumes", order)
    scale = np.array(found["scale"])[:, None, None, None]
    words = ["volumes", str(root), "--particles", "5,17", "-o", str(tmp_path / "v")]
    assert CliRunner().invoke(app, words).exit_code == 0
    made = np.stack([read_volume(str(tmp_path / f"v/vol_00{k}.mrc"))[0] for k in range(2)])
    np.testing.assert_allclose(found["volumes"] * scale, made, atol=1e-3 * scale.max())
    saved = server.json("/api/save-volumes", {"epoch": 2, "rows": [5, 17], "name": "pair", **SHOWN})
    assert saved["notes"] == []
    script, *volumes = [server.ask(f"/files/{path}")[2] for path in saved["files"]]
    for k, content in enumerate(volumes):
        assert content == (tmp_path / f"v/vol_00{k}.mrc").read_bytes()
    assert "level 0.25\n" in script.decode()
    assert 'color #2 #d55e00\nrename #1 "particle 5"' in script.decode()


def test_volumes_of_another_epoch_are_of_its_own_weights(server, root):
    made = []
    for number, epoch in enumerate((1, 2, 1)):
        order = {"epoch": epoch, "page": "e", "number": number, "rows": [5], "size": "preview"}
        found = server.arrays("/api/volumes", order)
        made.append(found["volumes"] * found["scale"][0])
    np.testing.assert_array_equal(made[0], made[2])
    assert np.abs(made[0] - made[1]).max() > 0.01 * np.abs(made[0]).max()


def test_a_run_of_cryodrgn_is_shown(tmp_path):
    """Eight of the sixty particles of the run that cryoDRGN trained are kept beside it."""
    run = tmp_path / "run"
    run.mkdir()
    config = (CRYODRGN / "fourier" / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("/tmp/asset/data", str(CRYODRGN)))
    shutil.copy(CRYODRGN / "fourier" / "weights.2.pkl", run)
    z, logvar = cryodrgn.read_latents(str(CRYODRGN / "fourier" / "z.2.pkl"))
    cryodrgn.write_latents(str(run / "z.2.pkl"), z[:8], logvar[:8])
    with running_server(open_explorer(ExploreSettings(run=str(run)))) as server:
        assert server.json("/api/facts")["particles"] == 8
        order = {"page": "p", "number": 1, "rows": [3], "size": "full"}
        found = server.arrays("/api/volumes", order)
        assert np.abs(found["volumes"]).max() == pytest.approx(1)
        images = server.arrays("/api/images", {"rows": [0, 7], "kind": "clear"})
        assert len(images["images"]) == 2


def test_images_are_those_of_the_particles(server, root):
    found = server.arrays("/api/images", {"epoch": 2, "rows": [3, 100], "kind": "raw"})
    images = read_images(open_run(str(root)).particles(), np.array([3, 100]))
    assert found["numbers"].tolist() == [3, 100]
    for grey, image in zip(found["images"], images, strict=True):
        shown = (image > image.mean() - 2 * image.std()) & (image < image.mean() + 2 * image.std())
        assert np.corrcoef(grey[shown], image[shown])[0, 1] > 0.999
    clear = server.arrays("/api/images", {"epoch": 2, "rows": [3, 100], "kind": "clear"})
    assert clear["images"].shape == found["images"].shape
    assert clear["mean"].shape == found["images"].shape[1:]


def test_a_density_counts_all_particles(server):
    found = server.arrays("/api/density?epoch=2&x=umap1&y=umap2")
    assert found["counts"].sum() == COUNT


def test_of_many_particles_a_sample_is_drawn_and_all_are_selected(root, z, monkeypatch):
    monkeypatch.setattr(studies, "MOST_POINTS", 100)
    monkeypatch.setattr(studies, "SAMPLE", 60)
    with running_server(open_explorer(ExploreSettings(run=str(root)))) as server:
        facts = server.json("/api/facts")
        assert (facts["particles"], facts["shown"]) == (COUNT, 60)
        rows = server.arrays("/api/points")["rows"]
        assert len(np.unique(rows)) == 60
        low = float(np.median(z[:, 0]))
        chosen = [{"join": "and", "range": {"column": "z0", "low": low, "high": None}}]
        found = server.arrays("/api/select", {"conditions": chosen})
        assert found["count"] == (z[:, 0] >= low).sum()
        bits = np.unpackbits(found["bits"], bitorder="little")[:60].astype(bool)
        np.testing.assert_array_equal(bits, z[rows, 0] >= low)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/api/column?epoch=2", None, "lacks 'name'"),
        ("/api/column?epoch=2&name=none", None, "no column 'none' of particles; there are: umap1"),
        ("/api/column?epoch=x&name=z0", None, "An epoch is a number"),
        (f"/api/column?epoch={'1' * 5000}&name=z0", None, "An epoch is a number"),
        ("/api/facts?epoch=7", None, "has no epoch 7; those that are finished: 1, 2"),
        ("/api/select", {}, "conditions: field required"),
        ("/api/select", {"conditions": []}, "list 'conditions' of 1 to 100"),
        ("/api/select", b"{", "not JSON"),
        ("/api/select", b"[" * 100_000, "not JSON"),
        ("/api/select", {"conditions": [], "rows": [1]}, "rows: extra inputs"),
        ("/api/images", {"rows": [COUNT], "kind": "raw"}, f"There are {COUNT} particles"),
        ("/api/images", {"rows": [-1], "kind": "raw"}, "rows.0: input should be greater"),
        ("/api/images", {"rows": ["1"], "kind": "raw"}, "rows.0: input should be a valid integer"),
        ("/api/images", {"rows": list(range(65)), "kind": "raw"}, "at most 64 items"),
        ("/api/images", {"rows": [1], "kind": "blue"}, "kind: input should be 'raw' or 'clear'"),
        ("/api/volumes", {"rows": [1]}, "page: field required"),
        ("/api/save-volumes", {"rows": [1, 2], "name": "../v", **SHOWN}, "is no name"),
        ("/api/save-volumes", {"rows": [1, 2], "name": "/v", **SHOWN}, "is no name"),
        ("/api/save-volumes", {"rows": [1, 2], "name": "", **SHOWN}, "is no name"),
        ("/api/save-volumes", {"rows": [1, 2], "name": "x" * 65, **SHOWN}, "is no name"),
    ],
)
def test_mistakes_are_answered_in_words(server, path, body, words):
    status, said = server.refusal(path, body)
    assert status == 400
    assert words in said


def test_a_name_is_given_once_and_nothing_is_saved_of_all_or_none(server):
    every = [{"join": "and", "range": {"column": "z_norm", "low": 0, "high": None}}]
    none = [{"join": "and not", "range": {"column": "z_norm", "low": 0, "high": None}}]
    for chosen, which in ((every, "all particles"), (none, "no particle")):
        body = {"epoch": 2, "conditions": chosen, "name": "whole"}
        assert f"selects {which}" in server.refusal("/api/save-selection", body)[1]
    some = [{"join": "and", "range": {"column": "original", "low": 0, "high": 9}}]
    body = {"epoch": 2, "conditions": some, "name": "ten"}
    server.json("/api/save-selection", body)
    assert "There is 'ten' already" in server.refusal("/api/save-selection", body)[1]


def test_nothing_is_written_through_a_link_out_of_the_run(root, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("explore"))
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", copy / "explore")
    with running_server(open_explorer(ExploreSettings(run=str(copy)))) as server:
        said = server.refusal("/api/save-volumes", {"rows": [1, 2], "name": "v", **SHOWN})
    assert said[0] == 404
    assert "leads out of" in said[1]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_in_training_shows_its_last_whole_epoch_and_the_next_when_it_is_there(root, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(root, run, ignore=shutil.ignore_patterns("explore", "analyze*"))
    text = (run / "config.yaml").read_text()
    assert "epochs: 2" in text
    (run / "config.yaml").write_text(text.replace("epochs: 2", "epochs: 4"))
    (run / "z.3.pkl").write_bytes(b"half")  # its weights are not there yet
    with running_server(open_explorer(ExploreSettings(run=str(run)))) as server:
        assert server.json("/api/facts")["epoch"] == 2
        status = server.json("/api/status")
        assert (status["epochs"], status["is_training"]) == ([1, 2], True)
        shutil.copy(run / "z.2.pkl", run / "z.3.pkl")
        shutil.copy(run / "weights.2.pkl", run / "weights.3.pkl")
        assert server.json("/api/status")["epochs"] == [1, 2, 3]
        assert server.json("/api/facts?epoch=3")["epoch"] == 3
        assert server.json("/api/losses")[-1]["epoch"] == 2
        with (run / "metrics.jsonl").open("a") as metrics:
            metrics.write('{"epoch": 3, "step": 9, "total": NaN, "kl": 1.0, "done": true}\n')
        assert server.json("/api/losses")[-1] == {"epoch": 3, "step": 9, "kl": 1, "done": 1}


@pytest.mark.parametrize("name", ["Zähler 漢字.txt", 'two "words"; a.txt'])
def test_files_of_any_name_are_given_out(server, root, name):
    (root / "analyze.2" / name).write_bytes(b"7\n")
    status, headers, content = server.ask(f"/files/analyze.2/{quote(name)}")
    assert (status, content) == (200, b"7\n")
    assert headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{quote(name)}"


def test_two_browsers_do_not_take_each_others_volumes_or_names(server):
    orders = [
        {"epoch": 2, "page": page, "number": number, "rows": [row], "size": "preview"}
        for page, number, row in (("one", 5, 3), ("two", 1, 9))
    ]
    for order in orders:  # the second has a lower number, and is of another page
        assert server.arrays("/api/volumes", order)["rows"] == order["rows"]
    some = [{"join": "and", "range": {"column": "original", "low": 0, "high": 19}}]
    body = {"epoch": 2, "conditions": some, "name": "shared"}
    server.json("/api/save-selection", body)
    assert server.refusal("/api/save-selection", body)[0] == 400
    names = [entry["name"] for entry in server.json("/api/results")["selections"]]
    assert names.count("shared") == 1


def test_a_run_that_is_deleted_is_a_message(tmp_path, root):
    copy = tmp_path / "run"
    shutil.copytree(root, copy)
    with running_server(open_explorer(ExploreSettings(run=str(copy)))) as server:
        server.json("/api/facts")
        assert server.json("/api/status")["problem"] == ""
        shutil.rmtree(copy)
        assert "cannot be read any more" in server.json("/api/status")["problem"]
        assert server.refusal("/api/save-volumes", {"rows": [1, 2], "name": "v", **SHOWN})[0] == 400
        assert server.arrays("/api/column?epoch=2&name=z0")["values"].shape == (COUNT,)


def test_a_file_of_latents_has_a_plot_and_selections_and_no_volumes(tmp_path, z):
    cryodrgn.write_pickles(str(tmp_path / "z.pkl"), z)
    cryodrgn.write_pickles(str(tmp_path / "labels.pkl"), np.arange(COUNT) % 3)
    settings = ExploreSettings(run=str(tmp_path / "z.pkl"), labels=str(tmp_path / "labels.pkl"))
    with running_server(open_explorer(settings)) as server:
        facts = server.json("/api/facts")
        assert facts["has_volumes"] is False
        assert "label" in facts["columns"]
        order = {"page": "p", "number": 1, "rows": [1], "size": "full"}
        assert "has latents only" in server.refusal("/api/volumes", order)[1]
        chosen = [{"join": "and", "among": {"column": "label", "values": [2]}}]
        body = {"conditions": chosen, "name": "third"}
        saved = server.json("/api/save-selection", body)
        assert saved["train"] == ""
        found = cryodrgn.read_indices(str(tmp_path / "z.explore/selections/third/kept.ind.pkl"))
        np.testing.assert_array_equal(found, np.flatnonzero(np.arange(COUNT) % 3 == 2))
        assert server.ask("/files/selections/third/kept.ind.pkl")[0] == 200


def test_a_taken_port_gives_way_to_the_next(caplog):
    with bind("127.0.0.1", 18900) as first, bind("127.0.0.1", 18900) as second:
        ports = [found.getsockname()[1] for found in (first, second)]
    assert ports[0] < ports[1] < 18900 + 2 * PORTS_TRIED
    with pytest.raises(ConfigError, match=r"--host no\.such\.machine\.invalid is not known"):
        bind("no.such.machine.invalid", 18900)
    with pytest.raises(ConfigError, match=r"--host 192\.0\.2\.1: .* Give an address of"):
        bind("192.0.2.1", 18900)


def test_the_command_prints_its_address_and_ends_with_ctrl_c(root):
    words = [sys.executable, "-m", "raydrgn", "explore", str(root), "--port", "18950"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "open in a browser" in line:
                break
        assert "http://127.0.0.1:" in lines[-1]
        assert "/?token=" in lines[-1]
        with suppress(HTTPError):  # once it answers, it takes signals
            urlopen(re.search(r"http://\S+", lines[-1])[0])
        process.send_signal(2)
        assert process.wait(60) == 0


@pytest.mark.parametrize("missing", ["uvicorn", "starlette"])
def test_without_the_extra_its_installation_is_named(root, missing, monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == missing or name == "raydrgn.explore.server":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "raydrgn.explore.application")
    monkeypatch.setitem(sys.modules, missing, None)
    said = CliRunner().invoke(app, ["explore", str(root)])
    assert f"The explorer needs {missing}: pip install 'raydrgn[explore]'" in str(said.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no/such/run"], "does not exist"),
        (["{root}", "9"], "has no epoch 9"),
        (["{root}", "--labels", "{root}/config.yaml"], "config.yaml"),
    ],
)
def test_mistakes_of_the_command_are_one_message(root, words, message):
    said = CliRunner().invoke(app, ["explore", *(word.format(root=root) for word in words)])
    assert said.exception is not None
    assert message in str(said.exception)

"""What is refused before Ray starts, and what may change when a run goes on."""

import dataclasses

import numpy as np
import pytest

from plain import SMALL, fit, small_run
from raydrgn.errors import (
    ClusterError,
    ConfigError,
    InputError,
    RunDirectoryError,
    StorageError,
)
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.remote.executor import Executor
from raydrgn.run.status import find_run
from raydrgn.training.checks import check_components
from raydrgn.training.prepare_run import RunRequest, begin, resume, wanted


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    small_run(folder, folder / "unused")
    return folder


@pytest.fixture(scope="module")
def begun(data):
    root = data / "begun"
    run = small_run(data, root, **{"train.epochs": 1})
    fit(run)
    (root / "config.yaml").write_text(run.config.to_yaml())
    run.table.write(str(root / "particles.parquet"))
    return root


def request(data, root, **values) -> RunRequest:
    source = ParticleSource(particles=str(data / "particles.star"))
    return RunRequest(root=str(root), source=source, values={**SMALL, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train.batch_size": 1, "resources.num_workers": 2}, "global batch.*at least"),
        ({"train.learning_rate": -1.0}, "learning_rate must be positive"),
        ({"train.nonsense": 1}, "Unknown key 'nonsense'.*Known keys"),
        ({"model.zdim": "many"}, "model.zdim is 'many'"),
        ({"data.box": 32}, "data.box follows from the images"),
        ({"train.points_fraction": 0.0}, "points_fraction"),
    ],
)
def test_values_that_make_no_sense(data, tmp_path, values, message):
    with pytest.raises(ConfigError, match=message):
        begin(request(data, tmp_path, **values))


def test_what_cannot_be_had_is_refused_before_images_are_read(data, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("raydrgn.training.prepare_run.check_images", None)

    def check(config, num_particles):
        Executor().check_room(wanted(config, num_particles))

    with pytest.raises(ClusterError, match=r"9,999 CPUs does not fit on this machine.*--cpus-per"):
        begin(request(data, tmp_path, **{"resources.cpus": 9999}), before_reading=check)
    with pytest.raises(ClusterError, match=r"99 GPUs and 1 CPU does not fit.*--gpus-per-worker"):
        begin(request(data, tmp_path, **{"resources.gpus": 99}), before_reading=check)


def test_workers_are_no_more_than_a_batch_has_particles_and_leave_a_cpu_for_tasks(begun):
    config = find_run(str(begun)).config
    asked = wanted(config, 203)
    assert (asked.most_workers, asked.leaves_cpu) == (8, False)
    assert wanted(config, 5).most_workers == 5
    many = int(2.1e9 / (4 * config.data.box**2))
    assert wanted(config, many).leaves_cpu


def test_bad_images_are_named_or_left_out(data, tmp_path):
    content = bytearray((data / "particles.mrcs").read_bytes())
    size = 16 * 16 * 4
    content[1024 + 3 * size : 1024 + 3 * size + 4] = np.float32(np.nan).tobytes()
    content[1024 + 5 * size : 1024 + 6 * size] = np.full(256, 2.5, np.float32).tobytes()
    (tmp_path / "particles.mrcs").write_bytes(content)
    (tmp_path / "particles.star").write_bytes((data / "particles.star").read_bytes())
    source = ParticleSource(particles=str(tmp_path / "particles.star"), datadir=str(tmp_path))
    asked = RunRequest(root=str(tmp_path / "run"), source=source, values=SMALL)
    with pytest.raises(InputError, match=r"2 images .* particles 3, 5 .*--drop-bad"):
        begin(asked)
    run = begin(RunRequest(root=str(tmp_path / "run"), source=source, values=SMALL, drop_bad=True))
    kept = run.table.column("index").tolist()
    assert kept == [i for i in range(203) if i not in (3, 5)]


def changed(data, folder, change):
    """Return the particles of ``data`` with changed images."""
    content = (data / "particles.mrcs").read_bytes()
    images = np.frombuffer(content, np.float32, offset=1024).reshape(-1, 16, 16).copy()
    change(images)
    (folder / "particles.mrcs").write_bytes(content[:1024] + images.tobytes())
    (folder / "particles.star").write_bytes((data / "particles.star").read_bytes())
    return ParticleSource(particles=str(folder / "particles.star"), datadir=str(folder))


def test_large_batches_that_leave_few_updates_are_warned_of(data, tmp_path, caplog):
    begin(request(data, tmp_path / "usual", **{"train.batch_size": 16}))
    assert "updates" not in caplog.text
    begin(request(data, tmp_path / "large", **{"train.batch_size": 64, "train.epochs": 10}))
    assert "batches of 64 make 30 updates of the network in 10 epochs" in caplog.text
    assert "batches of 16 make 120" in caplog.text
    # 3e-3 at a width of 128, with the square roots of width and batch
    rate = 3e-3 * np.sqrt(128 / SMALL["model.decoder_width"] * 64 / 16)
    assert f"train.learning_rate of {rate:.2g}" in caplog.text


def test_a_hot_pixel_is_named_and_does_not_carry_the_scale(data, tmp_path, caplog):
    def heat(images):
        images[17, 4, 5] = 1e6

    asked = RunRequest(
        root=str(tmp_path / "run"), source=changed(data, tmp_path, heat), values=SMALL
    )
    scale = begin(request(data, tmp_path / "clean")).config.data.scale
    assert "outliers" not in caplog.text
    run = begin(asked)
    assert run.config.data.scale == pytest.approx(scale, rel=0.01)
    assert len(run.table) == 203
    assert "particles 17 (a pixel of 1e+06)" in caplog.text
    assert run.config.data.outlier_limit is not None
    assert "leave the images out with --drop-bad" in caplog.text
    run = begin(dataclasses.replace(asked, drop_bad=True))
    assert run.config.data.scale == pytest.approx(scale, rel=0.01)
    assert run.table.column("index").tolist() == [i for i in range(203) if i != 17]


def test_images_that_are_not_normalised_are_trained_on_without_background(data, tmp_path, caplog):
    def raw(images):
        images += 1000 * images.std()

    source = changed(data, tmp_path, raw)
    expected = begin(request(data, tmp_path / "clean")).config.data
    assert not expected.subtract_background
    asked = RunRequest(root=str(tmp_path / "run"), source=source, values=SMALL)
    found = begin(asked).config.data
    assert found.subtract_background
    assert found.scale == pytest.approx(expected.scale, rel=0.05)
    assert "images are not normalised. Extract" in caplog.text
    assert "background of each image is subtracted" in caplog.text


def test_a_run_of_another_program_is_left_alone(tmp_path):
    (tmp_path / "weights.3.pkl").write_bytes(b"x")
    with pytest.raises(RunDirectoryError, match="another program"):
        find_run(str(tmp_path))


def test_an_empty_folder_holds_no_run(tmp_path):
    assert find_run(str(tmp_path)) is None


def test_going_on_keeps_what_decides_the_result(data, begun):
    status = find_run(str(begun))
    assert status is not None
    assert status.epochs_done == 1
    run = resume(request(data, begun, **{"train.epochs": 5}), status)
    assert run.config.train.epochs == 5
    assert len(run.table) == 203
    elsewhere = dataclasses.replace(status.config.source, datadir="/elsewhere")
    config = dataclasses.replace(status.config, source=elsewhere)
    message = "its datadir is /elsewhere, and none is given here"
    with pytest.raises(RunDirectoryError, match=message):
        resume(request(data, begun), dataclasses.replace(status, config=config))
    with pytest.raises(RunDirectoryError, match=r"model\.zdim is 2, not 4"):
        resume(request(data, begun, **{"model.zdim": 4}), status)


def test_going_on_with_other_particles_is_refused(data, begun, tmp_path):
    small_run(tmp_path, tmp_path / "x", num_particles=10)
    status = find_run(str(begun))
    assert status is not None
    with pytest.raises(RunDirectoryError, match="another run: its particles is"):
        resume(request(tmp_path, begun), status)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("source.half_size_shifts", "--half-size-shifts"),
        ("source.ind", "--ind"),
        ("source.particles", "the PARTICLES argument"),
        ("source.nonsense", "one of the PARTICLES argument, --poses"),
    ],
)
def test_the_source_is_not_changed_by_single_values(data, begun, tmp_path, name, option):
    """They are applied after the particles have been read, and were recorded without effect."""
    message = f"--set cannot change {name}; use {option}"
    with pytest.raises(ConfigError, match=message):
        begin(request(data, tmp_path, **{name: True}))
    with pytest.raises(ConfigError, match=message):
        resume(request(data, begun, **{name: True}), find_run(str(begun)))


def test_an_unknown_recipe_is_refused_at_the_start_and_when_a_run_goes_on(data, begun, tmp_path):
    for ask in (
        lambda: begin(dataclasses.replace(request(data, tmp_path), recipe="fats")),
        lambda: resume(
            dataclasses.replace(request(data, begun), recipe="fats"), find_run(str(begun))
        ),
    ):
        with pytest.raises(ConfigError, match=r"'fats'; known recipes: fast, protocol"):
            ask()


def test_several_pixel_sizes_are_logged_or_refused(data, tmp_path, caplog):
    table = ParticleTable.read(str(data / "begun" / "particles.parquet"))
    source = ParticleSource(particles=str(tmp_path / "mixed.parquet"))
    asked = RunRequest(root=str(tmp_path / "run"), source=source, values=SMALL)
    sizes = table.column("pixel_size_angstrom").copy()
    common = float(sizes[0])
    sizes[:50] *= 1.13
    table.with_columns({"pixel_size_angstrom": sizes}).write(str(tmp_path / "mixed.parquet"))
    with caplog.at_level("INFO"):
        assert begin(asked).config.pixel_size_angstrom == pytest.approx(common)
    assert "(50 particles)" in caplog.text
    sizes[:50] *= 1.13
    table.with_columns({"pixel_size_angstrom": sizes}).write(str(tmp_path / "mixed.parquet"))
    with pytest.raises(InputError, match=r"pixel sizes from .*50 particles.*downsample"):
        begin(asked)


def test_a_run_directory_that_cannot_be_written_is_refused(data, tmp_path):
    (tmp_path / "afile").write_text("")
    with pytest.raises(StorageError, match=r"afile is a file, not a folder"):
        begin(request(data, tmp_path / "afile"))


def test_more_workers_than_a_batch_has_particles_are_refused_when_a_run_goes_on(data, begun):
    values = {"resources.num_workers": 9, "train.epochs": 5}
    with pytest.raises(ConfigError, match=r"batch_size \(8\).*number of workers \(9\)"):
        resume(request(data, begun, **values), find_run(str(begun)))


def test_a_run_that_has_ended_goes_on_with_a_warm_restart(data, begun):
    status = find_run(str(begun))
    longer = resume(request(data, begun, **{"train.epochs": 5}), status)
    assert longer.config.train.restarted_after == 1
    assert "the run had ended with epoch 1; the learning rate rises again" in longer.note
    values = {"train.epochs": 5, "train.schedule": "constant", "train.learning_rate": 1e-5}
    constant = resume(request(data, begun, **values), status)
    assert constant.config.train.restarted_after == 0
    assert constant.note == "the learning rate is 1.00e-05 from epoch 2 to epoch 5"


def test_fewer_epochs_than_are_finished_are_refused(data, begun):
    status = find_run(str(begun))
    status = dataclasses.replace(status, epochs_done=16)
    with pytest.raises(
        ConfigError, match=r"16 finished epochs, more than the 12 asked for.*above 16"
    ):
        resume(request(data, begun, **{"train.epochs": 12}), status)


def test_fewer_particles_than_workers_are_refused(data, tmp_path):
    np.savetxt(tmp_path / "ind.txt", [3, 5], fmt="%d")
    source = ParticleSource(particles=str(data / "particles.star"), ind=str(tmp_path / "ind.txt"))
    values = {**SMALL, "resources.num_workers": 3}
    with pytest.raises(InputError, match=r"2 particles cannot be divided among 3 workers"):
        begin(RunRequest(root=str(tmp_path / "run"), source=source, values=values))


@pytest.mark.parametrize(
    ("particles", "words"),
    [
        (
            1,
            r"^1 particle is too few for 4 components: each needs 10\. A mixture needs at least 10",
        ),
        (39, r"^39 particles are too few for 4 .* --components 3 "),
    ],
)
def test_fewer_particles_than_components_need_are_refused(particles, words):
    with pytest.raises(InputError, match=words):
        check_components(4, particles)
    check_components(4, 40)


def test_fewer_particles_than_a_batch_are_a_warning(data, tmp_path, caplog):
    np.savetxt(tmp_path / "ind.txt", [3, 5], fmt="%d")
    source = ParticleSource(particles=str(data / "particles.star"), ind=str(tmp_path / "ind.txt"))
    begin(RunRequest(root=str(tmp_path / "run"), source=source, values=SMALL))
    assert "2 particles in all, fewer than the batch size of 8: every step takes all" in caplog.text


def test_auto_keeps_particles_in_half_precision_where_they_are_many(data, tmp_path, monkeypatch):
    values = {"data.precision": "auto", "train.epochs": 1}
    few = begin(request(data, tmp_path / "few", **values))
    assert few.config.data.precision == "float32"
    size = 8 * 98 * len(few.table)  # 98 points of a half disc of 16 px
    monkeypatch.setattr("raydrgn.training.new_config.SINGLE_BYTES", size - 1)
    many = begin(request(data, tmp_path / "many", **values))
    assert many.config.data.precision == "float16"
    assert begin(request(data, tmp_path / "unasked")).config.data.precision == "float32"
    fit(many)


def test_a_precision_that_is_not_known_is_refused_with_all_that_a_new_run_may_have(data, tmp_path):
    expected = "data.precision is 'float33'; expected 'float32', 'float16' or 'auto'"
    with pytest.raises(ConfigError, match=expected):
        begin(request(data, tmp_path / "run", **{"data.precision": "float33"}))

"""What is refused before Ray starts, and what may change when a run goes on."""

import numpy as np
import pytest

from plain import SMALL, fit, small_run
from raydrgn.errors import ClusterError, ConfigError, InputError, RunDirectoryError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.training.setup import RunRequest, begin, check_resources, find_run, resume


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    small_run(folder, folder / "unused")
    return folder


@pytest.fixture(scope="module")
def begun(data):
    root = data / "begun"
    config, table = small_run(data, root, **{"train.epochs": 1})
    fit(config, table, root)
    (root / "config.yaml").write_text(config.to_yaml())
    table.write(str(root / "particles.parquet"))
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


def test_too_many_cpus_and_gpus(data, tmp_path):
    config, _ = begin(request(data, tmp_path, **{"resources.cpus": 9999}))
    with pytest.raises(ClusterError, match=r"9999 CPUs each.*there are"):
        check_resources(config, None)
    config, _ = begin(request(data, tmp_path, **{"resources.gpus": 99}))
    with pytest.raises(ClusterError, match=r"99 GPUs each.*resources\.gpus=0"):
        check_resources(config, None)


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
    _, table = begin(
        RunRequest(root=str(tmp_path / "run"), source=source, values=SMALL, drop_bad=True)
    )
    kept = table.column("index").tolist()
    assert kept == [i for i in range(203) if i not in (3, 5)]


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
    config, table = resume(request(data, begun, **{"train.epochs": 5}), status)
    assert config.train.epochs == 5
    assert len(table) == 203
    with pytest.raises(RunDirectoryError, match=r"model\.zdim is 2, not 4"):
        resume(request(data, begun, **{"model.zdim": 4}), status)


def test_going_on_with_other_particles_is_refused(data, begun, tmp_path):
    small_run(tmp_path, tmp_path / "x", num_particles=10)
    status = find_run(str(begun))
    assert status is not None
    with pytest.raises(RunDirectoryError, match="another run: its particles is"):
        resume(request(tmp_path, begun), status)

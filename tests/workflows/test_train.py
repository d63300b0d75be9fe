"""Settings of training, and what is refused before Ray starts."""

import inspect

import pytest

from plain import SMALL, fit, small_run
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.model.config import ModelConfig
from raydrgn.run.recipe import RECIPES, TrainConfig, recipe_network
from raydrgn.settings import setting_fields
from raydrgn.workflows import info
from raydrgn.workflows import train as workflow
from raydrgn.workflows.train_settings import TrainSettings

NETWORK = {"zdim": 2, "enc_dim": 16, "dec_dim": 16, "enc_layers": 1, "dec_layers": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    small_run(folder, folder / "unused")
    return folder


@pytest.fixture(scope="module")
def finished(data):
    """A run of one epoch, as the command leaves it."""
    root = data / "finished"
    run = small_run(data, root, **{"train.epochs": 1})
    fit(run)
    (root / "config.yaml").write_text(run.config.to_yaml())
    run.table.write(str(root / "particles.parquet"))
    return root


def test_the_help_names_the_defaults():
    helps = {field.name: field.setting.help for field in setting_fields(TrainSettings)}
    model, train = ModelConfig(), TrainConfig()
    protocol, large = TrainConfig(**RECIPES["protocol"]), recipe_network("protocol", 256)
    expected = {
        "zdim": model.zdim,
        "epochs": f"falling to {train.epochs} for 40,000 and more; {protocol.epochs} by --recipe",
        "batch_size": f"{train.batch_size}; {protocol.batch_size} by --recipe protocol",
        "lr": f"{train.peak_rate(model.decoder_width):.5f}",
        "beta": "1 / zdim",
        "enc_layers": model.encoder_layers,
        "enc_dim": f"{model.encoder_width}; {large.encoder_width} above 128 px",
        "dec_layers": model.decoder_layers,
        "dec_dim": f"{model.decoder_width}; {large.decoder_width} above 128 px",
        "seed": train.seed,
        "workers": "one for each GPU",
        "recipe": "fast (default)",
        "amp": "--amp",
        "load": "random weights",
    }
    for name, default in expected.items():
        assert str(default) in helps[name], name
        assert "default" in helps[name], name
    assert f"{protocol.peak_rate(256):g}" in helps["lr"]
    assert train.kl_weight(8) == 1 / 8
    assert train.amp


def test_settings_become_values_of_the_configuration_and_set_wins():
    settings = TrainSettings(
        out="run",
        zdim=4,
        beta=0.5,
        lr=1e-3,
        workers=3,
        uninvert_data=True,
        set=("train.beta=0.25",),
    )
    assert settings.values() == {
        "model.zdim": 4,
        "train.beta": 0.25,
        "train.learning_rate": 1e-3,
        "resources.num_workers": 3,
        "data.invert": False,
    }


def test_every_field_of_the_particle_source_is_handed_on():
    given = {
        "particles": "/p.cs",
        "poses": "/poses.pkl",
        "ctf": "/ctf.pkl",
        "ind": "/ind.pkl",
        "datadir": "/data",
        "half_size_shifts": True,
        "passthrough": ("/passthrough.cs",),
    }
    source = TrainSettings(out="run", **given).request().source
    assert {name: getattr(source, name) for name in given} == given
    assert set(given) == set(inspect.signature(type(source)).parameters)


@pytest.mark.parametrize(("name", "value"), [("zdim", 0), ("lr", 0.0), ("beta", -1.0)])
def test_numbers_out_of_bounds_are_refused_by_their_option(name, value):
    with pytest.raises(ConfigError, match=f"--{name}"):
        TrainSettings(out="run", **{name: value})


@pytest.mark.parametrize("method", ["vae", "mfa"])
def test_wrong_contrast_is_told_by_the_log_and_by_info(data, tmp_path, caplog, method):
    network: dict[str, int] = {"epochs": 4, "components": 2}
    if method == "vae":  # of 203 images, whose sign is known after 2,000
        network = {"epochs": 10, "zdim": 2, "enc_dim": 16, "dec_dim": 16}
    for root, is_dark in ((tmp_path / "right", False), (tmp_path / "wrong", True)):
        caplog.clear()
        workflow.run(
            TrainSettings(
                out=str(root),
                particles=str(data / "particles.star"),
                method=method,
                uninvert_data=is_dark,
                **network,
            )
        )
        concerns = " ".join(info.run(info.InfoSettings(path=str(root))).concerns)
        for text in (caplog.text, (root / "run.log").read_text(), concerns):
            assert ("contrast looks inverted" in text) == is_dark


def test_a_new_run_needs_particles(tmp_path):
    with pytest.raises(ConfigError, match="holds no run to go on with; name the particles"):
        workflow.run(TrainSettings(out=str(tmp_path), resume=True))


def test_a_finished_run_is_reported_and_nothing_is_trained(finished):
    before = (finished / "run.log").read_bytes()
    result = workflow.run(TrainSettings(out=str(finished)))
    assert result.finished
    assert not result.trained
    assert (result.epochs, result.num_particles) == (1, 203)
    assert (finished / "run.log").read_bytes() == before
    assert (finished / "weights.pkl").exists()


def test_a_run_is_not_gone_on_with_unasked(data, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": 3})
    (tmp_path / "config.yaml").write_text(run.config.to_yaml())
    source = str(data / "particles.star")
    with pytest.raises(RunDirectoryError, match=r"0 of 3 epochs done\. Add --resume"):
        workflow.run(TrainSettings(out=str(tmp_path), particles=source, **NETWORK))


def test_too_many_workers_are_refused_before_ray_starts(data, tmp_path):
    settings = TrainSettings(
        out=str(tmp_path), particles=str(data / "particles.star"), batch_size=4, workers=5
    )
    with pytest.raises(ConfigError, match=r"batch_size \(4\).*number of workers \(5\)"):
        workflow.run(settings)


def test_training_and_training_further(data, tmp_path):
    """The command's own work, on one worker: two epochs, and then a third."""
    shown = []
    settings = TrainSettings(
        out=str(tmp_path),
        particles=str(data / "particles.star"),
        batch_size=SMALL["train.batch_size"],
        epochs=2,
        workers=1,
        cpus_per_worker=1,
        **NETWORK,
    )
    result = workflow.run(settings, progress=lambda what, *_, **__: shown.append(what))
    assert result.finished
    assert result.trained
    assert "training" in shown
    further = TrainSettings(out=str(tmp_path), epochs=3, resume=True)
    assert workflow.run(further).epochs == 3
    assert (tmp_path / "weights.pkl").read_bytes() == (tmp_path / "weights.3.pkl").read_bytes()
    log = (tmp_path / "run.log").read_text()
    assert "the run had ended with epoch 2; the learning rate rises again" in log
    assert "3 of 2" not in log

"""The configuration of a run: back and forth, and every mistake with its place."""

import dataclasses

import pytest
import yaml

from phantoms import unchecked
from raydrgn.data.config import ImageConfig
from raydrgn.errors import ConfigError, StorageError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.mfa.config import MfaConfig
from raydrgn.model.config import ModelConfig
from raydrgn.remote.resources import Resources
from raydrgn.run.config import RunConfig, parse_assignment, read_yaml
from raydrgn.run.recipe import RECIPES, TrainConfig, fast_epochs, recipe_config, recipe_network


@pytest.fixture
def config():
    return RunConfig(
        source=ParticleSource(particles="/data/p.star", ind="/data/ind.pkl"),
        data=ImageConfig(box=64, invert=False, scale=12.5),
        pixel_size_angstrom=2.62,
        model=ModelConfig(zdim=2, encoding="geom_lowf"),
        train=TrainConfig(epochs=3, beta=0.25),
    )


def test_a_configuration_is_read_as_it_was_written(config, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert RunConfig.read(str(path)) == config
    assert RunConfig.from_dict(config.to_dict()) == config


def test_a_run_that_was_given_empty_poses_is_read_as_one_without(config, tmp_path):
    """By `--poses ""`, which is refused now."""
    raw = config.to_dict()
    raw["source"]["poses"] = ""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    assert RunConfig.read(str(tmp_path / "config.yaml")) == config


def test_what_is_written_is_plain_yaml(config):
    raw = yaml.safe_load(config.to_yaml())
    assert raw["model"]["encoding"] == "geom_lowf"
    assert raw["train"]["learning_rate"] is None
    names = [field.name for field in dataclasses.fields(RunConfig)]
    assert list(raw) == [name for name in names if name != "mfa"]


def test_a_mixture_of_factor_analysers_has_no_settings_of_a_network(config):
    found = dataclasses.replace(config, mfa=MfaConfig(components=5))
    raw = yaml.safe_load(found.to_yaml())
    assert "model" not in raw
    assert "learning_rate" not in raw["train"]
    assert RunConfig.from_dict(raw).zdim == 5
    assert RunConfig.from_dict(raw).to_dict() == found.to_dict()


def test_absent_sections_have_their_defaults(config):
    raw = config.to_dict()
    for section in ("model", "train", "resources", "raydrgn_version"):
        del raw[section]
    found = RunConfig.from_dict(raw)
    assert found.model == ModelConfig()
    assert found.train == TrainConfig()


def test_values_are_changed_by_section_and_name(config):
    changed = config.with_values({"train.epochs": 7, "model.zdim": 4, "source.ind": None})
    assert (changed.train.epochs, changed.model.zdim, changed.source.ind) == (7, 4, None)
    assert changed.train.beta == config.train.beta
    assert config.train.epochs == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.zdmi": 4}, r"Unknown key 'zdmi' in --set, section model\. Known keys: zdim, enc"),
        ({"zdim": 4}, "'zdim' does not name a setting.*section of source, data, model, train"),
        ({"mode.zdim": 4}, "'mode.zdim' does not name a setting"),
        ({"train.epochs": "many"}, r"--set: train\.epochs is 'many'; expected a valid integer"),
        ({"train.epochs": 2.5}, r"--set: train\.epochs is 2\.5; expected a valid integer"),
        ({"model.encoding": "sines"}, r"model\.encoding is 'sines'; expected .*gaussian"),
        ({"train.epochs": 0}, r"train\.epochs must be at least 1, got 0"),
        ({"data.box": 63}, "even number of pixels, at least 4; got 63"),
    ],
)
def test_a_mistake_is_named_with_its_place(config, change, message):
    with pytest.raises(ConfigError, match=message):
        config.with_values(change)


def test_a_file_that_lacks_a_key_or_has_another_is_named(config, tmp_path):
    path = tmp_path / "config.yaml"
    raw = config.to_dict()
    path.write_text(yaml.safe_dump({**raw, "colour": "red"}))
    with pytest.raises(ConfigError, match=r"Unknown key 'colour' in .*config\.yaml\. Known keys"):
        RunConfig.read(str(path))
    del raw["data"]["box"]
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"config\.yaml: data\.box is missing; it has no"):
        RunConfig.read(str(path))
    path.write_text(yaml.safe_dump({**raw, "data": {"box": 8}, "model": 3}))
    with pytest.raises(ConfigError, match=r"config\.yaml: model is 3; expected"):
        RunConfig.read(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "is not YAML"),
        (b"\x80\x04\x95", "is not YAML"),
        (b"a: 1\n\tb: 2", r"is not YAML: line 2: .*; indent with spaces instead of tabs\.$"),
        ("é: 1".encode("latin-1"), r"is not YAML: character 1 .*; save it as UTF-8\.$"),
        (b"a: {b: 1}\na: {c: 2}", r"is not YAML: line 2: the key 'a' is given twice\.$"),
        (b"- 1\n- 2\n", "should contain keys and values; found a list"),
        (b"", "should contain keys and values; found nothing"),
        (b"!!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path, content, message):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"config\.yaml {message}"):
        read_yaml(str(tmp_path / "config.yaml"))
    with pytest.raises(StorageError, match="does not exist"):
        read_yaml(str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.points_fraction=0.25", ("train.points_fraction", 0.25)),
        ("data.invert=false", ("data.invert", False)),
        ("train.beta=null", ("train.beta", None)),
        ("source.datadir=/a=b", ("source.datadir", "/a=b")),
        (" model.zdim = 3", ("model.zdim", 3)),
    ],
)
def test_assignments_are_yaml(text, expected):
    assert parse_assignment(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs", "takes section.field=value, got 'train.epochs'"),
        ("a.b=[1", r"--set a\.b=\[1 is not YAML: line 1: expected .,. or .\]."),
    ],
)
def test_assignments_that_are_none_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_assignment(text)


# Recipes -------------------------------------------------------------------------------------


def test_the_protocol_is_that_of_the_paper():
    # Batch 8, Adam at 1e-4, no schedule, all points; 256 × 3 at 128 px, then 1024 × 3 at 256 px.
    protocol = TrainConfig(**RECIPES["protocol"])
    assert protocol.batch_size == 8
    assert protocol.peak_rate(1024) == 1e-4
    assert protocol.schedule == "constant"
    assert protocol.points_fraction == 1
    assert protocol.epochs == 50
    assert recipe_network("protocol", 128).decoder_width == 256
    assert recipe_network("protocol", 256).decoder_width == 1024
    assert recipe_network("fast", 256) == ModelConfig()
    assert protocol.kl_weight(8) == 1 / 8  # β = 1 / zdim
    assert TrainConfig(**RECIPES["fast"]) == TrainConfig()


def test_few_particles_are_seen_more_often():
    counts = (1, 20_000, 30_000, 40_000, 10**7)
    assert [fast_epochs(count) for count in counts] == [40, 40, 27, 20, 20]
    assert recipe_config("fast", num_particles=5_000).epochs == fast_epochs(5_000)
    assert recipe_config(None) == TrainConfig()
    protocol = TrainConfig(**RECIPES["protocol"])
    assert recipe_config("protocol", num_particles=5_000) == protocol


def test_rates_and_weights_that_are_given_are_used():
    assert TrainConfig(learning_rate=2e-3).peak_rate(1024) == 2e-3
    assert TrainConfig(beta=0.0).kl_weight(8) == 0
    # a network of four times the width learns at half the rate
    ratio = TrainConfig().peak_rate(256) / TrainConfig().peak_rate(1024)
    assert ratio == pytest.approx(2)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TrainConfig, {"batch_size": 0}, "train.batch_size must be at least 1"),
        (TrainConfig, {"learning_rate": 0.0}, "train.learning_rate must be positive"),
        (TrainConfig, {"checkpoint_minutes": 0.0}, "train.checkpoint_minutes must be positive"),
        (TrainConfig, {"points_fraction": 0.0}, "train.points_fraction must be above 0"),
        (TrainConfig, {"points_fraction": 1.5}, "train.points_fraction must be above 0"),
        (
            TrainConfig,
            {"schedule": "step"},
            "train.schedule must be constant or cosine, got 'step'",
        ),
        (TrainConfig, {"warmup_steps": -1}, "train.warmup_steps must not be negative"),
        (TrainConfig, {"beta": -0.1}, "train.beta must not be negative"),
        (ImageConfig, {"box": 7}, "even number of pixels"),
        (ImageConfig, {"box": 8, "window_radius": 1.0}, "data.window_radius must be between"),
        (ImageConfig, {"box": 8, "scale": 0.0}, "data.scale must be positive"),
        (ImageConfig, {"box": 8, "scale": float("nan")}, "data.scale must be positive"),
        (
            ImageConfig,
            {"box": 8, "precision": "int8"},
            r"data.precision must be float32 or float16 \(of a new run auto, too\), got 'int8'",
        ),
        (Resources, {"num_workers": -1}, "resources.num_workers must not be negative"),
        (Resources, {"num_workers": 2, "min_workers": 3}, "resources.min_workers must be between"),
        (Resources, {"cpus": -1}, "resources.cpus must not be negative"),
        (Resources, {"gpus": 1.5}, "resources.gpus above 1 must be a whole number"),
    ],
)
def test_values_out_of_range_are_refused_by_name(kind, values, message):
    with pytest.raises(ConfigError, match=message):
        unchecked(kind, **values)


def test_yaml_of_other_editors_is_read(tmp_path):
    content = b"\xef\xbb\xbfa: &a {b: 1}\r\nc: {<<: *a, b: 2}\r\n"  # a merged key may be replaced
    (tmp_path / "config.yaml").write_bytes(content)
    assert read_yaml(str(tmp_path / "config.yaml")) == {"a": {"b": 1}, "c": {"b": 2}}


@pytest.mark.parametrize(
    "text", ["{0: 1}", "1: x", "a: 2020-13-45", "[" * 2000], ids=["number", "list", "date", "depth"]
)
def test_yaml_that_holds_no_settings_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml (should contain|is not YAML)"):
        read_yaml(str(tmp_path / "config.yaml"))


@pytest.mark.parametrize("value", ["2-8", " 2 - 8 "])
def test_a_range_of_workers_is_written_in_one_way_everywhere(config, value):
    """As a value of ``--set`` or ``--workers``, and in the YAML."""
    elastic = config.with_values({"resources.num_workers": value})
    assert (elastic.resources.fewest, elastic.resources.num_workers) == (2, 8)
    assert elastic.resources.is_elastic
    raw = config.to_dict()
    raw["resources"]["num_workers"] = value
    assert RunConfig.from_dict(raw) == elastic
    assert RunConfig.from_dict(elastic.to_dict()) == elastic


def test_a_number_of_workers_ends_a_range(config):
    elastic = config.with_values({"resources.num_workers": "2-8"})
    for value in (4, "4"):
        fixed = elastic.with_values({"resources.num_workers": value}).resources
        assert (fixed.fewest, fixed.num_workers, fixed.is_elastic) == (4, 4, False)


@pytest.mark.parametrize("value", ["8-2", "0-4", "2-", "-2", "two", "2-4-6", "1.5", True])
def test_what_is_no_number_of_workers_is_refused(config, value):
    with pytest.raises(ConfigError, match="number of workers"):
        config.with_values({"resources.num_workers": value})


@pytest.mark.parametrize("mode", ["on", "off", "auto"])
def test_on_and_off_are_words_however_yaml_reads_them(config, mode):
    name, value = parse_assignment(f"resources.compile={mode}")
    changed = config.with_values({name: value})
    assert changed.resources.compile == mode
    assert RunConfig.from_dict(yaml.safe_load(changed.to_yaml())) == changed

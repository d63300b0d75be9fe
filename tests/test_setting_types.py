"""Types of settings: what Python callers give is what the annotations name, or one message."""

import dataclasses
import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import raydrgn
import raydrgn.workflows
from phantoms import unchecked
from raydrgn.errors import ConfigError
from raydrgn.protocol.settings import ProtocolSettings
from raydrgn.settings import setting_fields, typed

EVERY_COMMAND = {ProtocolSettings, raydrgn.ParticleSource} | {
    record
    for module in pkgutil.iter_modules(raydrgn.workflows.__path__)
    for name, record in vars(importlib.import_module(f"raydrgn.workflows.{module.name}")).items()
    if name.endswith("Settings") and dataclasses.is_dataclass(record)
    if record.__module__.startswith("raydrgn.workflows") and not inspect.isabstract(record)
}


VALUES = {int: 4, float: 1.0, str: "x"}


def required(record):
    """Values with which a record can be made."""
    return {
        field.name: VALUES.get(field.type, ("x",))
        for field in setting_fields(record)
        if field.default is dataclasses.MISSING and not field.path
    } | {
        field.name: raydrgn.ParticleSource(particles="x")
        for field in dataclasses.fields(record)
        if field.name == "source"
    }


@pytest.mark.parametrize(
    ("record", "item"),
    [
        pytest.param(record, item, id=f"{record.__name__}.{item.name}")
        for record in sorted(EVERY_COMMAND, key=lambda record: record.__name__)
        for item in setting_fields(record)
        if not item.path
    ],
)
def test_a_value_of_another_type_is_refused_by_name(record, item):
    option = item.setting.option(item.name)
    with pytest.raises(ConfigError, match=rf"{option} (takes|must be one of) .*, got "):
        unchecked(record, **required(record) | {item.name: {"some": "thing"}})


@pytest.mark.parametrize(
    ("record", "item"),
    [
        pytest.param(record, item, id=f"{record.__name__}.{item.name}")
        for record in sorted(EVERY_COMMAND, key=lambda record: record.__name__)
        for item in setting_fields(record)
        if not item.path and item.type in (str, str | None) and item.default != ""
    ],
)
def test_an_empty_text_is_refused_by_name(record, item):
    with pytest.raises(ConfigError, match=rf"{item.setting.option(item.name)} is empty: got ''"):
        record(**required(record) | {item.name: ""})


def test_paths_are_text_and_numbers_are_those_of_python():
    given = {"run": Path("a") / "run", "out": Path("out"), "ksample": np.int64(5)}
    settings = unchecked(raydrgn.AnalyzeSettings, **given, epoch=np.float64(3))
    assert (settings.run, settings.out, settings.epoch, settings.ksample) == ("a/run", "out", 3, 5)
    assert json.dumps([settings.epoch, settings.ksample]) == "[3, 5]"
    assert isinstance(typed(bool, "x", np.bool_(True)), bool)
    assert typed(tuple[float, float], "x", [1, np.float32(2)]) == (1, 2.0)
    source = unchecked(raydrgn.ParticleSource, particles=Path("a.star"), passthrough=[Path("b.cs")])
    assert (source.particles, source.passthrough) == ("a.star", ("b.cs",))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, "4", "a whole number, got '4'"),
        (int, 4.5, "a whole number, got 4.5"),
        (int, True, "a whole number, got True"),
        (float | None, "a", "a number, got 'a'"),
        (bool, "yes", "True or False, got 'yes'"),
        (str, None, "text or a path, got None"),
        (str, b"run", "text or a path, got b'run'"),
        (int | str | None, [2], "a whole number or text or a path, got"),
        (tuple[str, ...], "a.cs", "a list, got 'a.cs'"),
        (tuple[float, float], [1], "2 numbers, got"),
        (str, np.zeros((9, 9)), "text or a path, got a ndarray"),
    ],
)
def test_what_was_expected_and_what_was_given(kind, value, message):
    with pytest.raises(ConfigError, match=rf"--x takes {message}"):
        typed(kind, "--x", value)


def test_a_record_inside_settings_is_of_its_class():
    with pytest.raises(ConfigError, match=r"source takes a ParticleSource, got 'particles\.star'"):
        unchecked(raydrgn.BackprojectSettings, source="particles.star", out="x")
    with pytest.raises(ConfigError, match="volumes takes a VolumeOptions, got"):
        unchecked(raydrgn.AnalyzeSettings, run="run", volumes={"flip": True})

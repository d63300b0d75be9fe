"""Settings, and the commands made of them."""

import dataclasses
import importlib
import inspect
import pkgutil
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args, get_origin

import pytest
import typer
from typer.testing import CliRunner

import raydrgn.workflows
from phantoms import unchecked
from raydrgn.cli.command import command
from raydrgn.errors import ConfigError
from raydrgn.mfa.config import EPOCHS, MfaConfig
from raydrgn.model.config import ModelConfig
from raydrgn.protocol.settings import BOXES, HIGH, ProtocolSettings
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.run.recipe import (
    FAST_IMAGES,
    PROTOCOL_BOX,
    PROTOCOL_WIDTH,
    RECIPES,
    TrainConfig,
    fast_epochs,
)
from raydrgn.settings import Setting, build, check_bounds, setting_fields, whole_numbers
from raydrgn.training.mixture_latents import MOST_COMPONENTS
from raydrgn.workflows.sweep import SweepSettings
from raydrgn.workflows.train_settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Settings inside settings."""

    low_pass_angstrom: Annotated[
        float | None, Setting("Low-pass filter, Å.", flags=("--low-pass",), above=0)
    ] = None

    invert: Annotated[bool, Setting("Change the sign.")] = False

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class Base:
    """Settings that others share."""

    run: Annotated[str, Setting("Run directory.", is_argument=True)]

    epoch: Annotated[int | None, Setting("Epoch.", is_argument=True, min=1)] = None

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class Example(Base):
    """Settings of a command."""

    out: Annotated[str, Setting("Folder.", flags=("-o", "--out"))]

    states: Annotated[int, Setting("States.", flags=("-M", "--states"), min=2, max=20)] = 10

    sample: Annotated[int, Setting("Sample.", min=1)] = 100

    percentiles: Annotated[tuple[float, float], Setting("Percentiles.")] = (1.0, 99.0)

    names: Annotated[tuple[str, ...], Setting("Names; repeatable.", flags=("--name",))] = ()

    share: Annotated[float, Setting("Share.", above=0, max=1)] = 0.5

    volumes: Filter = field(default_factory=Filter)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.states > self.sample:
            raise ConfigError(
                f"--states {self.states} must not be larger than --sample {self.sample}."
            )


def run(*words, **options):
    """Run a command of ``Example``; return typer's result and what its body was given."""
    seen = []

    @command(Example, **options)
    def example(
        settings: Example,
        executor: Executor,
        progress: Progress,
        watch: Annotated[bool, typer.Option("--watch", help="Go on.")] = False,
    ) -> None:
        """Do something."""
        seen.append((settings, executor, progress, watch))

    application = typer.Typer()
    application.command()(example)
    result = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(application, list(words))
    return result, seen[0] if seen else None


def test_words_become_settings():
    words = "RUN 3 -o out -M 5 --low-pass 8 --invert --name a --name b --percentiles 5 95 --watch"
    result, given = run(*words.split())
    assert result.exit_code == 0, result.output
    settings, executor, progress, watch = given
    assert settings == Example(
        run="RUN",
        epoch=3,
        out="out",
        states=5,
        percentiles=(5.0, 95.0),
        names=("a", "b"),
        volumes=Filter(low_pass_angstrom=8.0, invert=True),
    )
    assert isinstance(executor, Executor)
    assert isinstance(progress, Progress)
    assert watch is True


def test_without_words_the_defaults_of_the_settings_hold():
    result, given = run("RUN", "-o", "out")
    assert result.exit_code == 0, result.output
    assert given[0] == Example(run="RUN", out="out")
    assert given[3] is False


@pytest.mark.parametrize("words", [["RUN"], ["-o", "out"], []])
def test_a_setting_without_default_must_be_given(words):
    result, given = run(*words)
    assert (result.exit_code, given) == (2, None)
    assert "Missing" in result.output


def test_help_has_everything():
    text = run("--help")[0].output
    words = " ".join(text.replace("│", " ").split())
    for part in (
        "Do something.", "RUN", "EPOCH", "-o", "--states", "-M", "[default: 10]", "--low-pass",
        "Low-pass filter, Å.", "[default: 0.5]", "[default: 1.0, 99.0]", "--watch", "--workers",
        "--cpus-per-worker", "--gpus-per-worker", "--wait", "--address", "2<=x<=20", "[required]",
    ):  # fmt: skip
        assert part in words, part


@pytest.mark.parametrize(
    ("option", "value"),
    [("--states", "1"), ("--states", "21"), ("--states", "many"), ("--workers", "0")],
)
def test_whole_numbers_are_checked_by_the_command_line(option, value):
    result, given = run("RUN", "-o", "out", option, value)
    assert (result.exit_code, given) == (2, None)
    assert f"{option}'" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--low-pass", "0"], "--low-pass must be greater than 0, got 0."),
        (["--low-pass", "nan"], "--low-pass must be a finite number, got nan."),
        (["--sample", f"1{'0' * 400}"], "--sample is a whole number beyond 1.8e+308: too large."),
        (["--share", "1.5"], "--share must be at most 1, got 1.5."),
        (["--sample", "5"], "--states 10 must not be larger than --sample 5."),
    ],
)
def test_what_settings_refuse_is_a_mistake_of_the_user(words, message):
    result, given = run("RUN", "-o", "out", *words)
    assert isinstance(result.exception, ConfigError)  # main() prints it, and ends with code 2
    assert str(result.exception) == message
    assert given is None


def test_a_refusal_of_settings_ends_with_code_2_in_words(tmp_path):
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "raydrgn", "volumes", "run", "-o", "out", "--low-pass=-1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --low-pass must be greater than 0, got -1."


def test_commands_for_tasks_have_no_number_of_workers_by_default():
    result, given = run("RUN", "-o", "out", are_tasks=True)
    assert result.exit_code == 0
    assert given[1]._workers is None
    result, given = run("RUN", "-o", "out", "--workers", "3", are_tasks=True)
    assert given[1]._workers == 3


def test_fields_come_with_their_records_own_before_inherited():
    found = [(item.name, item.path) for item in setting_fields(Example)]
    assert [name for name, _ in found][:2] == ["out", "states"]
    assert found[-2:] == [("run", ()), ("epoch", ())]
    assert ("low_pass_angstrom", ("volumes",)) in found


def test_records_are_built_of_flat_values():
    made = build(Example, {"run": "RUN", "out": "o", "invert": True})
    assert made == Example(run="RUN", out="o", volumes=Filter(invert=True))
    with pytest.raises(ConfigError, match="--low-pass"):
        build(Example, {"run": "RUN", "out": "o", "low_pass_angstrom": -1.0})


@pytest.mark.parametrize(
    ("setting", "name", "option"),
    [
        (Setting("x"), "pixel_size", "--pixel-size"),
        (Setting("x", flags=("-M", "--states")), "states", "--states"),
        (Setting("x", flags=("--amp/--no-amp",)), "amp", "--amp"),
        (Setting("x", is_argument=True), "run", "RUN"),
        (Setting("x", is_argument=True, metavar="file"), "particles", "FILE"),
    ],
)
def test_messages_name_settings_as_the_command_line_does(setting, name, option):
    assert setting.option(name) == option


def helped(settings, *names):
    return " ".join(f.setting.help for f in setting_fields(settings) if f.name in names)


def test_the_defaults_that_help_texts_name_are_those_of_the_code():
    paper, model, mixture = RECIPES["protocol"], ModelConfig(), MfaConfig()
    most, fewest = fast_epochs(0), fast_epochs(10**9)
    last, first = FAST_IMAGES // most, FAST_IMAGES // fewest
    epochs = f"{most} for up to {last:,} of them, falling to {fewest} for {first:,} and more; "
    for settings in (TrainSettings, SweepSettings):
        assert f"{epochs}{paper['epochs']} by --recipe" in helped(settings, "epochs")
    assert f"{EPOCHS} by --method mfa" in helped(TrainSettings, "epochs")
    batch = f"{TrainConfig(epochs=1).batch_size}; {paper['batch_size']} by"
    assert batch in helped(TrainSettings, "batch_size")
    rate = TrainConfig(epochs=1).peak_rate(model.decoder_width)
    rates = f"which is {rate:.5f} for the default network; {paper['learning_rate']:.4f} by"
    assert rates in helped(TrainSettings, "lr")
    for coder in ("enc", "dec"):
        widths = f"{model.encoder_width}; {PROTOCOL_WIDTH} above {PROTOCOL_BOX} px"
        assert widths in helped(TrainSettings, f"{coder}_dim")
        assert f"default: {model.encoder_layers}" in helped(TrainSettings, f"{coder}_layers")
    assert f"default: {mixture.components}" in helped(TrainSettings, "components")
    assert f"default: {mixture.states}" in helped(TrainSettings, "states")
    assert f"at most {MOST_COMPONENTS}." in helped(TrainSettings, "init")
    assert "default: {},{}".format(*BOXES) in helped(ProtocolSettings, "boxes")
    assert f'default: "{BOXES[1]} {HIGH}"' in helped(ProtocolSettings, "high")


# --- all workflows --------------------------------------------------------------------------------


def settings_classes():
    for module in pkgutil.iter_modules(raydrgn.workflows.__path__):
        home = importlib.import_module(f"raydrgn.workflows.{module.name}")
        for name, item in inspect.getmembers(home, inspect.isclass):
            is_own = name.endswith("Settings") and item.__module__ == home.__name__
            if is_own and not inspect.isabstract(item):
                yield item


@pytest.mark.parametrize("settings", list(settings_classes()), ids=lambda item: item.__name__)
def test_every_settings_class_makes_a_command(settings):
    def body(given):
        """Do something."""

    body.__annotations__ = {"given": settings}
    application = typer.Typer()
    application.command()(command(settings)(body))
    text = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(application, ["--help"]).output
    words = " ".join(text.replace("│", " ").split())
    flags = []
    for item in setting_fields(settings):
        option = item.setting.option(item.name)
        flags += item.setting.flags or (option,)
        assert option in words
        assert item.setting.help.endswith((".", "…")), f"{option}: help is a sentence"
        shown = isinstance(item.default, int | float | str) and not isinstance(item.default, bool)
        if shown and item.default != "":
            assert "[default: " in words
    assert len(flags) == len(set(flags)), "two settings have the same option"


def a_value(item):
    """Return a value of the field's type, within its bounds."""
    if item.type is int:
        return item.setting.min
    return ("x",) if get_origin(item.type) is tuple else "x"


@pytest.mark.parametrize("settings", list(settings_classes()), ids=lambda item: item.__name__)
def test_settings_are_frozen_records_that_check_themselves(settings):
    assert dataclasses.is_dataclass(settings)
    assert settings.__dataclass_params__.frozen
    assert all(item.kw_only for item in dataclasses.fields(settings))
    required = {
        item.name: a_value(item)
        for item in setting_fields(settings)
        if item.default is dataclasses.MISSING
    }
    for item in setting_fields(settings):
        limit = item.setting.min if item.setting.min is not None else item.setting.above
        if limit is None:
            continue
        wrong = (
            limit - 1 if int in (item.type, *getattr(item.type, "__args__", ())) else limit - 0.5
        )
        with pytest.raises(ConfigError, match=item.setting.option(item.name)):
            build(settings, {**required, item.name: type(wrong)(wrong)})


def records(settings):
    """Yield a settings class and the records inside it."""
    yield settings
    for item in dataclasses.fields(settings):
        if dataclasses.is_dataclass(item.type):
            yield from records(item.type)


EVERY_RECORD = {record for settings in settings_classes() for record in records(settings)}


def has_choices(hint):
    return get_origin(hint) is Literal or any(map(has_choices, get_args(hint)))


@pytest.mark.parametrize(
    ("record", "item"),
    [
        pytest.param(record, item, id=f"{record.__name__}.{item.name}")
        for record in sorted(EVERY_RECORD, key=lambda record: record.__name__)
        for item in setting_fields(record)
        if not item.path and has_choices(item.type)
    ],
)
def test_choices_are_checked_where_nothing_else_does(record, item):
    given = {
        field.name: "x"
        for field in dataclasses.fields(record)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    option = item.setting.option(item.name)
    with pytest.raises(ConfigError, match=rf"{option} must be one of .*, got 'nonsense'\."):
        unchecked(record, **given, **{item.name: "nonsense"})


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Choices inside other types."""

    one: Annotated[Literal["a", "b"], Setting("One.")] = "a"

    perhaps: Annotated[Literal["a", "b"] | None, Setting("One or none.")] = None

    several: Annotated[tuple[Literal["a", "b"], ...] | None, Setting("Several.")] = None

    def __post_init__(self) -> None:
        check_bounds(self)


def test_choices_are_found_in_optional_types_and_in_sequences():
    unchecked(Chosen, one="b", perhaps="a", several=("a", "b", "a"))
    for name, wrong in [
        ("one", None), ("one", ""), ("perhaps", "None"), ("several", ("a", "c")), ("several", "c"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=f"--{name} must be one of a, b, got "):
            unchecked(Chosen, **{name: wrong})


def test_ranges_of_whole_numbers():
    assert whole_numbers("0,3, 8-12", "--x", ranges=True) == (0, 3, 8, 9, 10, 11, 12)
    assert whole_numbers("7-7", "--x", ranges=True) == (7,)
    assert whole_numbers("-1", "--x", ranges=True) == (-1,)
    for text in ("3-1", "1-99999999", "2-", "a-b"):
        with pytest.raises(ConfigError, match=r"--x takes whole numbers such as 0,3,8-12; got"):
            whole_numbers(text, "--x", ranges=True)
    with pytest.raises(ConfigError, match=r"such as 0,3,5; got '8-12'"):
        whole_numbers("8-12", "--x")

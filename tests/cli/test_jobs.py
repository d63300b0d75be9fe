"""``raydrgn submit`` up to the point where something would be sent."""

import pytest
from typer.testing import CliRunner

from raydrgn.cli.main import app
from raydrgn.errors import ConfigError
from raydrgn.remote import jobserver

SPEC = "entrypoint: raydrgn simulate ${OUT} --particles ${N}\n"


class FakeServer:
    """Stands for a cluster, and keeps what it was sent."""

    sent = None

    def __init__(self, address):
        self.url = self.address = address

    def submit(self, spec, *, folder, **options):
        FakeServer.sent = (self.address, spec, folder)
        FakeServer.options = options
        return "job-1"


@pytest.fixture
def submit(monkeypatch):
    monkeypatch.setattr(jobserver, "JobServer", FakeServer)
    FakeServer.sent = None

    def run(*words):
        result = CliRunner().invoke(app, ["submit", *words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_everything_after_the_command_belongs_to_it(submit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = submit("--cpus", "2", "train", "a b.star", "-o=run", "--set", "train.epochs=3")
    assert result.exit_code == 0
    address, spec, folder = FakeServer.sent
    assert address is None
    assert spec.words == ["train", "a b.star", "-o=run", "--set", "train.epochs=3"]
    assert spec.entrypoint_num_cpus == 2
    assert folder == str(tmp_path)
    assert result.stdout == "job-1\n"
    assert "raydrgn logs job-1 --follow" in result.stderr


def test_the_next_commands_name_the_cluster(submit):
    result = submit("--address", "http://a:1", "simulate", "out")
    assert "raydrgn stop job-1 --address http://a:1" in result.stderr


def test_what_a_job_works_on_goes_with_it(submit):
    submit("train", "in.star", "-o", "run7")
    assert FakeServer.sent[1].metadata == {
        "raydrgn.run": "run7",
        "raydrgn.particles": "in.star",
    }
    submit("--priority", "5", "analyze", "run7")
    assert FakeServer.sent[1].metadata == {"raydrgn.run": "run7", "raydrgn.priority": "5"}


def test_retries_and_notices_are_for_the_job(submit, tmp_path):
    submit("simulate", "out")
    assert FakeServer.options == {"retries": 0, "notify": None}
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    more = ("--retries", "3", "--notify", "http://a/b", "--set", "OUT=a", "--set", "N=1")
    assert submit(str(path), *more).exit_code == 0
    assert FakeServer.options == {"retries": 3, "notify": "http://a/b"}


@pytest.mark.parametrize("command", ["submit", "jobs", "top", "status", "logs", "stop"])
def test_commands_that_run_on_this_machine_only_are_refused(submit, command):
    with pytest.raises(ConfigError, match=f"raydrgn {command} runs on this machine only"):
        submit(command, "simulate", "out")
    assert FakeServer.sent is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulat", "out"], "No such command 'simulat'"),
        (["simulate", "out", "--particle", "3"], "No such option"),
        (["simulate", "out", "--particles", "many"], "whole number"),
        (["simulate"], "Missing argument"),
        (["bench", "steps"], "No such command 'steps'"),
    ],
)
def test_a_command_that_would_fail_is_refused_before_it_is_sent(submit, words, message):
    result = submit(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert FakeServer.sent is None


def test_options_of_submit_come_first(submit):
    with pytest.raises(ConfigError, match="raydrgn submit --follow simulate …"):
        submit("simulate", "out", "--follow")
    with pytest.raises(ConfigError, match="raydrgn submit --address http://a:1 train …"):
        submit("train", "in", "-o", "run", "--address", "http://a:1")
    with pytest.raises(ConfigError, match="--set before COMMAND"):
        submit("--set", "A=1", "simulate", "out")


def test_commands_of_a_group_are_known(submit):
    assert submit("bench", "step", "--box", "32").exit_code == 0
    assert FakeServer.sent[1].words == ["bench", "step", "--box", "32"]


def test_options_before_and_after_a_spec(submit, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    result = submit(
        "--set", "N=5", "--address", "http://a:1", str(path), "--set", "OUT=a b", "--folder", "/x"
    )
    assert result.exit_code == 0
    address, spec, folder = FakeServer.sent
    assert (address, folder) == ("http://a:1", "/x")
    assert spec.words == ["simulate", "a b", "--particles", "5"]


def test_a_spec_is_a_whole_command(submit, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    with pytest.raises(ConfigError, match="'out' follows the spec"):
        submit(str(path), "out")
    with pytest.raises(ConfigError, match="entrypoint_num_cpus"):
        submit(str(path), "--cpus", "2", "--set", "OUT=a", "--set", "N=1")
    assert submit(str(path), "--set", "OUT=a", "--set", "N=many").exit_code == 2
    assert FakeServer.sent is None


def test_variables_are_sent_when_they_are_named(submit, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_PROFILE", "facility")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not to be seen")
    result = submit("--env", "AWS_PROFILE", "simulate", "out")
    assert FakeServer.sent[1].runtime_env == {"env_vars": {"AWS_PROFILE": "facility"}}
    path = tmp_path / "spec.yaml"
    path.write_text("{entrypoint: raydrgn simulate out, runtime_env: {env_vars: {A: '1'}}}")
    result = submit("--env", "AWS_PROFILE", str(path), "--env", "AWS_SECRET_ACCESS_KEY")
    assert FakeServer.sent[1].runtime_env["env_vars"] == {
        "A": "1",
        "AWS_PROFILE": "facility",
        "AWS_SECRET_ACCESS_KEY": "not to be seen",
    }
    assert "not to be seen" not in result.output
    submit("simulate", "out")
    assert FakeServer.sent[1].runtime_env == {}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("NOWHERE_SET", r"--env NOWHERE_SET: this variable is not set here"),
        ("AWS_PROFILE=x", r"--env takes the name of a variable, such as AWS_PROFILE;"),
        ("RAY_AUTH_TOKEN", r"RAY_AUTH_TOKEN cannot be set"),
    ],
)
def test_variables_that_cannot_be_sent(submit, monkeypatch, word, message):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    with pytest.raises(ConfigError, match=message):
        submit("--env", word, "simulate", "out")
    assert FakeServer.sent is None


@pytest.mark.parametrize("pipe", ["-", "/dev/stdin", "/dev/fd/63", "/proc/self/fd/12"])
def test_pipes_of_this_machine_are_refused(submit, pipe):
    with pytest.raises(ConfigError, match="is a pipe of this machine"):
        submit("train", "p.star", "-o", "run", "--ind", pipe)
    assert FakeServer.sent is None

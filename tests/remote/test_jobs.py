"""Job specs, what is sent of them, and the script that runs them; no Ray."""

import os
import re
import shlex
import subprocess
import zipfile
from pathlib import Path

import pytest

import raydrgn
from raydrgn.errors import ConfigError, StorageError
from raydrgn.remote.jobs import JobSpec, folder_here, parse_value, write_package

SCRIPT = Path(raydrgn.__file__).parent / "remote" / "job.sh"
AWKWARD = ["train", "my data/it's $HOME.star", "-o=a b", "-z", "0.1, -0.2", '"', "", "*"]


def write(tmp_path, text):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return path


def test_words_of_a_command_survive_as_they_were_typed():
    assert JobSpec.from_command(AWKWARD).words == AWKWARD


def test_a_value_stays_one_word_whatever_it_contains(tmp_path):
    path = write(
        tmp_path,
        "entrypoint: raydrgn train ${IN} -o ${OUT}\n"
        "runtime_env: {env_vars: {A: '${OUT}', B: '$${PATH}'}}\nmetadata: {run: '${OUT}'}\n",
    )
    spec = JobSpec.read(path)
    assert spec.placeholders == {"IN", "OUT"}
    filled = spec.filled({"IN": "my $(data) ${OUT}.star", "OUT": "a; b"}, where="spec.yaml")
    assert filled.words == ["train", "my $(data) ${OUT}.star", "-o", "a; b"]
    assert filled.runtime_env["env_vars"] == {"A": "a; b", "B": "${PATH}"}
    assert filled.metadata == {"run": "a; b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("entrypoin: raydrgn demo", r"Unknown key 'entrypoin' in .*spec\.yaml\. Known: entrypoint"),
        ("metadata: {}", r"spec\.yaml has no key 'entrypoint'"),
        ("entrypoint: python train.py", r"spec\.yaml: entrypoint should be a raydrgn command"),
        ("entrypoint: raydrgn", r"spec\.yaml: entrypoint should be a raydrgn command"),
        ("entrypoint: ''", r"spec\.yaml: entrypoint should be a raydrgn command"),
        ("entrypoint: raydrgn 'demo", r"spec\.yaml: entrypoint is not a command: No closing"),
        ("entrypoint: [raydrgn, demo]", r"spec\.yaml: entrypoint is \['raydrgn', 'demo'\]"),
        ("{entrypoint: raydrgn demo, entrypoint_num_cpus: many}", r"entrypoint_num_cpus is 'many'"),
        ("{entrypoint: raydrgn demo, entrypoint_num_gpus: -1}", r"entrypoint_num_gpus must not be"),
        ("{entrypoint: raydrgn demo, metadata: {a: [1]}}", r"spec\.yaml: metadata\.a is \[1\]"),
        (
            "{entrypoint: raydrgn demo, runtime_env: {working_dir: .}}",
            r"spec\.yaml: runtime_env\.working_dir cannot be set",
        ),
        (
            "{entrypoint: raydrgn demo, runtime_env: {env_vars: {N: 4}}}",
            r"runtime_env\.env_vars\.N should be text, got 4; put it in quotes",
        ),
        (
            "{entrypoint: raydrgn demo, runtime_env: {env_vars: [N]}}",
            r"runtime_env\.env_vars should be a table",
        ),
        (
            "{entrypoint: raydrgn demo, runtime_env: {env_vars: {RAY_AUTH_TOKEN: abc}}}",
            r"RAY_AUTH_TOKEN cannot be set: Ray shows",
        ),
        ("- a", r"spec\.yaml should contain keys and values; found a list"),
        ("a: [", r"spec\.yaml is not YAML"),
        (
            "entrypoint: raydrgn demo\nentrypoint: raydrgn info",
            r"line 2: .*'entrypoint' is .* twice",
        ),
    ],
)
def test_what_is_wrong_with_a_spec_is_said_with_its_file_and_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        JobSpec.read(write(tmp_path, text))


def test_a_spec_that_is_not_there(tmp_path):
    with pytest.raises(StorageError, match=r"none\.yaml does not exist; check the path"):
        JobSpec.read(tmp_path / "none.yaml")


def test_every_place_has_a_value_and_every_value_a_place():
    spec = JobSpec.from_dict({"entrypoint": "raydrgn train ${A} -o ${B}"}, where="s.yaml")
    with pytest.raises(ConfigError, match=r"s\.yaml has the placeholder \$\{A\}; add --set A=…"):
        spec.filled({}, where="s.yaml")
    with pytest.raises(ConfigError, match=r"no placeholder \$\{C\}; its placeholders: A, B\."):
        spec.filled({"A": "1", "B": "2", "C": "3"}, where="s.yaml")


def test_values_are_assignments():
    assert parse_value("RUN=a=b c") == ("RUN", "a=b c")
    for text in ("RUN", "=a", "train.epochs=3"):
        with pytest.raises(ConfigError, match="--set takes NAME=VALUE"):
            parse_value(text)


def test_what_ray_is_asked_for(tmp_path):
    spec = JobSpec.from_dict(
        {
            "entrypoint": "raydrgn simulate 'a b'",
            "entrypoint_num_cpus": 2,
            "runtime_env": {"env_vars": {"A": "1", "RAY_JOB_STOP_WAIT_TIME_S": "5"}, "pip": ["x"]},
            "metadata": {"a": "b"},
        },
        where="s.yaml",
    )
    request = spec.submit_arguments(
        job_id="raydrgn-1", folder="/home/me/my project", package=tmp_path / "p.zip"
    )
    assert request["entrypoint"] == "exec sh raydrgn/remote/job.sh simulate 'a b'"
    assert request["entrypoint_num_cpus"] == 2
    assert "entrypoint_num_gpus" not in request
    assert request["metadata"]["raydrgn.command"] == "raydrgn simulate 'a b'"
    assert request["metadata"]["a"] == "b"
    environment = request["runtime_env"]["env_vars"]
    assert environment["RAYDRGN_JOB_FOLDER"] == "/home/me/my project"
    assert environment["RAYDRGN_JOB_CPUS"] == "2.0"
    assert environment["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
    assert environment["RAY_JOB_STOP_WAIT_TIME_S"] == "5"
    assert request["runtime_env"]["pip"] == ["x"]
    assert request["runtime_env"]["working_dir"] == str(tmp_path / "p.zip")


def test_the_token_of_the_user_is_not_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    request = JobSpec.from_command(["demo"]).submit_arguments(
        job_id="raydrgn-1", folder="/", package=tmp_path / "p.zip"
    )
    assert "secret" not in repr(request)
    assert "TOKEN" not in repr(request)


def test_the_package_is_small_whole_and_always_the_same(tmp_path):
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    write_package(first)
    write_package(second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 3 * 2**19  # a third of it the page of `explore`
    with zipfile.ZipFile(first) as archive:
        names = set(archive.namelist())
    root = Path(raydrgn.__file__).parent
    modules = {f"raydrgn/{path.relative_to(root).as_posix()}" for path in root.rglob("*.py")}
    assert modules | {"raydrgn/remote/job.sh", "raydrgn/py.typed"} <= names
    assert all(name.startswith("raydrgn/") for name in names)


def test_data_beside_the_modules_is_not_sent(tmp_path, monkeypatch):
    package = tmp_path / "raydrgn"
    (package / "__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "particles.mrcs", "__pycache__/a.py", "__pycache__/a.pyc", "z.pkl"):
        (package / name).write_bytes(b"x")
    monkeypatch.setattr(raydrgn, "__file__", str(package / "__init__.py"))
    write_package(tmp_path / "p.zip")
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert archive.namelist() == ["raydrgn/__init__.py"]


def test_the_folder_keeps_the_name_by_which_its_user_knows_it(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "link")
    monkeypatch.setenv("PWD", str(tmp_path / "link"))
    assert folder_here() == str(tmp_path / "link")
    monkeypatch.setenv("PWD", str(tmp_path))  # left by a program that changed its folder
    assert folder_here() == str((tmp_path / "real").resolve())


# --- the script -----------------------------------------------------------------------------------


def run_script(tmp_path, words, *, folder, python=None):
    """Run the script as Ray does, with a stand-in for Python that writes its folder and words."""
    stub = tmp_path / "bin" / "python"
    stub.parent.mkdir(exist_ok=True)
    # Called first with a question alone, and then with what it is to do and the words.
    stub.write_text(
        '#!/bin/sh\n[ "$1" = -c ] && [ $# -gt 2 ] || exit 0\nshift 2\npwd\nprintf "%s\\n" "$@"\n'
    )
    stub.chmod(0o755)
    command = f"exec sh {shlex.quote(str(SCRIPT))} {shlex.join(words)}"
    return subprocess.run(
        ["sh", "-c", command],
        env={
            "PATH": os.environ["PATH"],
            "RAYDRGN_JOB_FOLDER": str(folder),
            "RAYDRGN_JOB_PYTHON": str(stub if python is None else python),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_goes_where_the_user_stood_and_keeps_the_words(tmp_path):
    folder = tmp_path / "my project"
    folder.mkdir()
    done = run_script(tmp_path, AWKWARD, folder=folder)
    assert done.returncode == 0
    assert done.stdout.split("\n")[:-1] == [str(folder), "raydrgn", *AWKWARD]


def test_the_script_refuses_a_folder_that_is_not_there(tmp_path):
    done = run_script(tmp_path, ["demo"], folder=tmp_path / "none")
    assert done.returncode == 2
    assert re.match(r"error: The folder .*none, .* is not on the node .*--folder", done.stderr)


def test_the_script_refuses_where_no_python_has_ray(tmp_path):
    (tmp_path / "bin").mkdir()
    done = subprocess.run(
        ["/bin/sh", str(SCRIPT), "demo"],
        env={"PATH": str(tmp_path / "bin"), "RAYDRGN_JOB_FOLDER": "/"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: No Python with Ray and torch was found")

"""Jobs on a real cluster that wants a token, as a user drives them from a shell."""

import re
import time

import pytest

from job_cluster import TOKEN, job_id
from raydrgn.io.mrc import read_header
from raydrgn.simulation.dataset import Simulation, simulate

pytestmark = [pytest.mark.ray, pytest.mark.clusters]

BEGIN_SECONDS = 60


@pytest.fixture(scope="module")
def failing(head, tmp_path_factory):
    """A folder, and the id of a job that fails in it."""
    folder = tmp_path_factory.mktemp("failing")
    words = ("parse", "none.star", "--table", "t.parquet")
    code, text = head.raydrgn("submit", *words, folder=folder)
    assert code == 0, text
    assert f"raydrgn logs {job_id(text)} --follow" in text
    return folder, job_id(text)


@pytest.mark.usefixtures("failing")  # so that it runs meanwhile
def test_a_job_does_what_the_command_would_do_where_the_user_stands(cluster, tmp_path):
    folder = tmp_path / "my project"
    (folder / "raydrgn").mkdir(parents=True)
    (folder / "raydrgn" / "__init__.py").write_text("raise ImportError('not this one')")
    code, text = cluster.raydrgn(
        "submit", "--follow", "simulate", "my data", "--particles", "20", folder=folder
    )
    assert code == 0, text
    assert "20 particles of 32 px → my data" in text
    assert (folder / "my data" / "particles.star").is_file()

    name = job_id(text)
    code, status = cluster.raydrgn("status", name, folder=tmp_path)
    assert code == 0
    assert "SUCCEEDED" in status
    assert "raydrgn simulate 'my data' --particles 20" in status
    assert str(folder) in status
    for path in (f"/api/jobs/{name}", f"/api/jobs/{name}/logs"):
        assert TOKEN not in cluster.get(path)


def test_the_exit_code_is_that_of_the_job(cluster, failing, tmp_path):
    folder, name = failing
    code, again = cluster.raydrgn("logs", name, "--follow", folder=tmp_path)
    assert code == 2
    assert f"{folder}/none.star does not exist" in again
    code, listed = cluster.raydrgn("jobs", folder=tmp_path)
    assert code == 0
    assert re.search(rf"^{name} +FAILED +\w+ +2 +\S+ +raydrgn parse none.star", listed, re.M)


def test_a_job_is_stopped_as_by_ctrl_c(cluster, tmp_path):
    words = ("simulate", "out", "--particles", "1000000", "--box", "16", "--chunk", "500")
    code, text = cluster.raydrgn("submit", *words, folder=tmp_path)
    assert code == 0
    name = job_id(text)
    deadline = time.monotonic() + BEGIN_SECONDS
    while "simulating" not in cluster.get(f"/api/jobs/{name}/logs"):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    code, text = cluster.raydrgn("stop", name, folder=tmp_path)
    assert code == 0
    assert f"{name}: STOPPED" in text
    code, text = cluster.raydrgn("logs", name, "--follow", folder=tmp_path)
    assert code == 130
    assert "simulating" in text


def test_a_token_that_the_user_has_is_shown_to_a_head_that_wants_one(cluster, tmp_path):
    code, text = cluster.raydrgn("jobs", folder=tmp_path, RAY_AUTH_MODE="")
    assert (code, "wants a token" in text) == (0, False)
    proxy = "http://127.0.0.1:9"  # nobody is there, and this machine needs none
    code, text = cluster.raydrgn("jobs", folder=tmp_path, RAY_AUTH_MODE="", http_proxy=proxy)
    assert code == 0, text
    nobody = {"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}
    code, text = cluster.raydrgn("jobs", folder=tmp_path, **nobody)
    assert code == 2
    assert "wants a token" in text


def test_what_cannot_be_is_one_message(cluster, tmp_path):
    code, text = cluster.raydrgn("logs", "none", "--follow", folder=tmp_path)
    assert code == 2
    assert f"There is no job none at {cluster.url}" in text
    words = ("submit", "simulate", "x")
    code, text = cluster.raydrgn(*words, folder=tmp_path, RAY_AUTH_TOKEN="wrong")
    assert code == 2
    assert "does not accept the token of RAY_AUTH_TOKEN" in text
    code, text = cluster.raydrgn(*words, folder=tmp_path, RAY_AUTH_MODE="disabled")
    assert code == 2
    assert "wants a token. Set RAY_AUTH_MODE=token" in text
    assert "Traceback" not in text


def test_a_job_and_its_workers_have_the_variables_that_were_sent(
    cluster, tmp_path, s3_server, s3_folder
):
    simulate(f"{s3_folder}/data", Simulation(num_particles=40, box=16, snr=1.0, seed=1))
    words = ("downsample", f"{s3_folder}/data/particles.star", "-D", "8", "--workers", "2")
    sent = [word for name in s3_server.environment for word in ("--env", name)]
    code, text = cluster.raydrgn(
        *("submit", "--follow", *sent, *words, "-o", f"{s3_folder}/small.mrcs"),
        folder=tmp_path,
        **s3_server.environment,
    )
    assert code == 0, text
    assert read_header(f"{s3_folder}/small.mrcs").shape == (40, 8, 8)
    secret = s3_server.environment["AWS_SECRET_ACCESS_KEY"]
    assert secret not in text
    assert secret not in cluster.raydrgn("status", job_id(text), folder=tmp_path)[1]

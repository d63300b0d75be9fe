"""One head for all tests that submit jobs."""

import json

import pytest

import job_cluster


@pytest.fixture(scope="session")
def head():
    with job_cluster.head() as found:
        yield found


@pytest.fixture
def cluster(head, tmp_path):
    """The head; what a test that has failed leaves running is stopped."""
    yield head
    for job in json.loads(head.get("/api/jobs/")):
        if job["status"] in ("PENDING", "RUNNING") and job["submission_id"]:
            head.raydrgn("stop", job["submission_id"], folder=tmp_path)

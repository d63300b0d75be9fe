"""Cancels a job that waits for resources; run on its cluster, as a job of its own.

Ray's job server can stop only what has begun: it sends the request to the actor of the job, and
that actor is what waits. So the job is marked as stopped, and its actor is ended.
"""

import asyncio
import os
import sys

import ray
from ray.dashboard.modules.job.common import (
    JOB_ACTOR_NAME_TEMPLATE,
    SUPERVISOR_ACTOR_RAY_NAMESPACE,
    JobInfoStorageClient,
)
from ray.job_submission import JobStatus


def main(job_id: str) -> None:
    """Cancel a job, unless it has begun meanwhile."""
    ray.init(
        address=os.environ["RAY_ADDRESS"],
        namespace=SUPERVISOR_ACTOR_RAY_NAMESPACE,
        log_to_driver=False,
        logging_level="ERROR",
    )
    actor = ray.get_actor(JOB_ACTOR_NAME_TEMPLATE.format(job_id=job_id))
    if asyncio.run(_mark_as_stopped(job_id)):
        ray.kill(actor)


async def _mark_as_stopped(job_id: str) -> bool:
    jobs = JobInfoStorageClient(ray._private.worker.global_worker.gcs_client)
    if await jobs.get_status(job_id) is not JobStatus.PENDING:
        return False
    await jobs.put_status(job_id, JobStatus.STOPPED, message="Cancelled before it had begun.")
    return True


if __name__ == "__main__":
    main(sys.argv[1])

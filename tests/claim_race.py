"""What processes do that want one run at the same moment."""

from raydrgn.run.claim import ClaimError, RunClaim


def race(folder, barrier, queue):
    """Try to have the run; tell whether it worked, and keep it until all have tried."""
    barrier.wait()
    try:
        with RunClaim(folder) as claim:
            claim.take()
            queue.put(True)
            barrier.wait()
    except ClaimError:
        queue.put(False)
        barrier.wait()

"""What this process knows of the job that it is: what Ray gave it of what was submitted."""

import json
import os
from typing import Any

RAY_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable in which Ray gives a job what was submitted with it."""


def submitted() -> dict[str, Any]:
    """Return the ``metadata`` and ``runtime_env`` of this job; empty if this process is none.

    Raises:
        ValueError: If the variable holds no JSON.
    """
    found: dict[str, Any] = json.loads(os.environ.get(RAY_JOB_CONFIG) or "{}")
    return found

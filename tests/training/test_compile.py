"""What ``torch.compile`` makes of the training step fits as the step itself does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FIT = """
import json, sys
import torch
from pathlib import Path
from plain import assemble, small_run

folder = Path(sys.argv[1])
found = {}
for mode in ("off", "on"):
    run = small_run(folder, folder / mode, num_particles=53, **{"resources.compile": mode})
    parts, of_steps = assemble(run), []
    for epoch in range(1, 9):
        of_steps += parts.loop._steps.take(epoch, 0, parts.plan.batches(epoch))
    found[mode] = torch.stack(of_steps)[:50].tolist()
print(json.dumps(found))
"""


@pytest.mark.clusters  # compiling takes most of a minute
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None,
    reason="torch.compile needs a C++ compiler: install g++, or name one in CXX",
)
def test_compiled_losses_are_those_of_the_plain_step(tmp_path):
    """Fifty steps, in a process without the checks of shapes, which cannot be compiled."""
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests.parent.parent), str(tests.parent), str(tests)])
    environment = {**os.environ, "PYTHONPATH": path, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-c", FIT, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    found = json.loads(answer.stdout.splitlines()[-1])
    assert len(found["on"]) == len(found["off"]) == 50
    for compiled, plain in zip(found["on"], found["off"], strict=True):
        assert compiled == pytest.approx(plain, rel=1e-4)

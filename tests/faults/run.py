"""All trials of faults: ``python tests/faults/run.py [--only NAME …]`` prints a table.

Machines of a cluster are processes of this machine, and are killed in the middle of a command. A
trial takes one to three minutes on two cores.
"""

import argparse
import os
import sys
import tempfile
import traceback
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "training")]
os.environ["PYTHONPATH"] = f"{TESTS.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
os.environ.update(RAY_AUTH_MODE="disabled", OMP_NUM_THREADS="1")

from faults import commands, training  # noqa: E402 - the folders above are searched first
from faults.trial import Result, table  # noqa: E402

TRIALS = [*commands.TRIALS, *training.TRIALS]


def main() -> int:
    """Run trials; return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [trial.name for trial in TRIALS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    chosen = [trial for trial in TRIALS if trial.name in parser.parse_args().only]
    rows = []
    for trial in chosen:
        if trial in training.TRIALS:  # which have nodes of their own
            commands.end_machines()
        print(f"{trial.name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = trial.run(Path(folder))
            except Exception:
                traceback.print_exc()
                result = Result(noticed=None, recovered=None, lost="the trial itself failed")
        rows.append((trial, result))
        print(*table(rows)[-1:], sep="\n", file=sys.stderr, flush=True)
    commands.end_machines()
    print(*table(rows), sep="\n")
    return int(any(result.lost for _, result in rows))


if __name__ == "__main__":
    sys.exit(main())

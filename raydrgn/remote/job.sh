#!/bin/sh
# Entrypoint of a job: runs a raydrgn command where its user stood, with the package that came with
# the job. Ray starts this in the folder into which it has unpacked that package.

fail() {
    echo "error: $*" >&2
    exit 2
}

# Ray need not run on the `python` of PATH: a head may have been started as /some/venv/bin/ray.
works() {
    "$1" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("ray") and u.find_spec("torch")))' \
        2>/dev/null
}
for python in "${RAYDRGN_JOB_PYTHON:-python}" python python3; do
    works "$python" && break
    python=
done
[ -n "$python" ] || fail "No Python with Ray and torch was found on the node that runs the job." \
    "Activate its environment before \`ray start\`, so that \`python\` is the one that runs Ray."

module=${RAYDRGN_JOB_MODULE:-raydrgn} # or one that watches over the command, wherever it is
[ "$module" != raydrgn ] || cd -- "$RAYDRGN_JOB_FOLDER" 2>/dev/null || fail "The folder $RAYDRGN_JOB_FOLDER, in which the" \
    "command is to run, is not on the node that runs the job. Submit from a folder on shared" \
    "storage, or name one with --folder; absolute paths and URLs mean the same in any."

COLUMNS=${COLUMNS:-120} # a log has no width of its own
export COLUMNS
unset RAYDRGN_JOB_FOLDER RAYDRGN_JOB_PYTHON RAYDRGN_JOB_MODULE

# Ctrl-C, by which jobs are stopped, is ignored below a `ray start … &` of a script, and no shell
# can take that back. -P: a raydrgn/ in the user's folder is not the package.
exec "$python" -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-P", "-m", *sys.argv[1:]])' "$module" "$@"

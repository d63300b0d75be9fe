"""The start of the program, where Ctrl-C may come before its commands are loaded."""

import sys

from raydrgn.cli.exit_codes import EXIT_INTERRUPTED


def main() -> None:
    """Load the command line and run it."""
    try:
        from raydrgn.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(EXIT_INTERRUPTED)
    run()

"""How the program ends, for scripts that call it."""

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130

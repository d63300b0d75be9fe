"""Run the command line as ``python -m raydrgn``."""

from raydrgn.cli.start import main

if __name__ == "__main__":
    main()

"""`python -m compresskit` is the command `compresskit`."""

from compresskit.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())

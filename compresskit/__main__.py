"""`python -m compresskit` is the command `compresskit`."""

from __future__ import annotations


def main() -> int:
    """Run the command line of this process, and tell the exit code; Ctrl-C while it is imported is one line too."""
    try:
        from compresskit.importing import watched

        with watched():
            from compresskit.cli.app import main as run

            return run()
    except KeyboardInterrupt:
        from compresskit import console
        from compresskit.errors import EXIT_INTERRUPTED

        console.error("interrupted")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())

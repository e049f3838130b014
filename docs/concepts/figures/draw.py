"""Draw the figures of docs/concepts/mamba.md anew, beside this file or into another folder.

    python -m docs.concepts.figures.draw [FOLDER]

Whatever they show as numbers is computed here, by the package's own code; the same code gives the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from compresskit.checkpoint.store import write_text
from docs.concepts.figures import block, cache, prefix, recurrence
from docs.concepts.figures.svg import Sheet

FIGURES: Mapping[str, Callable[[], Sheet]] = {
    "recurrence": recurrence.figure,
    "prefix": prefix.figure,
    "block": block.figure,
    "cache": cache.figure,
}


def main() -> None:
    """Write all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in FIGURES.items():
        write_text(folder / f"{name}.svg", figure().svg())


if __name__ == "__main__":
    main()

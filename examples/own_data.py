"""Your own questions: from rows of a table to a checkpoint that answers them, and a report on it.

    python examples/own_data.py

Rows need a passage (`context`), a question and its answers; no offsets. A question whose answers are empty is one that
the passage does not answer. docs/reference/data.md lists all the forms that files may have.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import compresskit as ck

PEOPLE = ("Anna", "Ben", "Clara", "David", "Ella", "Felix", "Greta", "Hugo", "Ida", "Jonas")
TOWNS = ("Rome", "Oslo", "Lima", "Cairo", "Delhi", "Quito", "Riga", "Turin")


def rows(people: Iterable[str]) -> list[dict[str, str]]:
    """What your table would hold: here passages about where people live, and where nobody says what they eat."""
    made = []
    for number, name in enumerate(people):
        town, other = TOWNS[number % len(TOWNS)], TOWNS[(number + 3) % len(TOWNS)]
        context = f"{name} lives in {town}. The market of {other} opens at noon."
        made.append({"context": context, "question": f"Where does {name} live?", "answer": town})
        made.append({"context": context, "question": f"What does {name} eat?", "answer": ""})
    return made


def write(path: Path, people: Iterable[str]) -> Path:
    """A CSV file of them, as a spreadsheet exports it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["context", "question", "answer"])
        writer.writeheader()
        writer.writerows(rows(people))
    return path


def main(folder: Path = Path("runs/own-data"), steps: int = 150) -> ck.Report:
    """Train on one part of the people, and measure on the others."""
    folder.mkdir(parents=True, exist_ok=True)
    train = write(folder / "train.csv", PEOPLE[:7])
    dev = write(folder / "dev.csv", PEOPLE[7:])

    # demo/bert is a small built-in model, so that this runs anywhere; write "bert", a Hub id or a folder for your own.
    reader = ck.train(
        "demo/bert", train_data=train, max_steps=steps, batch_size=8, lr=1e-3, output=folder / "reader", overwrite=True
    )
    print(reader.predict("Where does Anna live?", "Anna lives in Rome. The market of Cairo opens at noon."))

    report = ck.evaluate(reader, data=dev, latency_questions=5)
    report.save(folder / "report.html")
    print(report)
    return report


if __name__ == "__main__":
    main()

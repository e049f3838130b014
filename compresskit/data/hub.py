"""Data sets of the Hugging Face Hub in the columns of SQuAD, through the package `datasets`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit

from compresskit import packages
from compresskit.data.building import Watcher
from compresskit.data.checks import Place
from compresskit.data.examples import ExampleSet
from compresskit.data.mending import Handling
from compresskit.data.pieces import of_rows
from compresskit.data.reading import built
from compresskit.errors import InputError, MissingError

_COLUMNS = ("id", "title", "context", "question", "answers")
_NEEDED = ("context", "question", "answers")
_DEFAULT_ENDPOINT = "https://huggingface.co"
_OFFLINE = "HF_HUB_OFFLINE"


def read(
    ref: str,
    split: str,
    handling: Handling = "mend",
    keep: Sequence[str] = (),
    *,
    watcher: Watcher | None = None,
) -> ExampleSet:
    """The checked questions of the split `split` of the data set `ref`, a Hub id or a local folder.

    Its columns are those of squad_v2: context, question, answers (text, answer_start), and, where it has them, id and
    title; `keep` names further ones that go along. A question with no answers is unanswerable. The set's sha256 is that
    of its rows as JSON lines (these five columns, keys sorted, UTF-8), since no file stands for it.

    Raises InputError (no such data set or split, other columns, invalid rows), MissingError (no Hub). A `watcher` is
    told of invalid rows instead.
    """
    rows = _load(ref, split)
    name = f"{ref} ({split})"
    missing = [column for column in _NEEDED if column not in rows.column_names]
    if missing:
        raise InputError(f"{name}: no column {missing[0]!r}; SQuAD's columns are {', '.join(_COLUMNS)}")
    columns = [column for column in rows.column_names if column in (*_COLUMNS, "is_impossible", *keep)]
    digest = hashlib.sha256()

    def hashed() -> Iterator[tuple[Mapping[str, object], Place]]:
        nonlocal digest
        digest = hashlib.sha256()
        for index, row in enumerate(cast(Iterable[Mapping[str, object]], rows.select_columns(columns))):
            known = {key: value for key, value in row.items() if key in _COLUMNS}
            digest.update(json.dumps(known, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            yield row, Place(f"row {index}")

    store, counts = built(lambda: of_rows(hashed()), name, handling, keep, watcher=watcher)
    return ExampleSet(store, ref, digest.hexdigest(), counts=counts)


def _load(ref: str, split: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - `datasets` has no types
    _stay_offline_without_network()
    datasets = packages.needed("datasets", f"the data set {ref}")

    try:
        with _quiet():
            return datasets.load_dataset(ref, split=split)
    except ConnectionError as error:
        raise MissingError(
            f"{ref}: the Hugging Face Hub cannot be reached; download the data set's SQuAD JSON on a machine "
            "with network and pass the file, or use the built-in 'demo'"
        ) from error
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(
            f"{ref}: no such file, and no such data set on the Hub (or it needs a login: hf auth login)"
        ) from error
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{ref}: the split {split!r} cannot be loaded: {reason}") from error


def _stay_offline_without_network() -> None:
    """Let the Hub's client use its cache at once where its host is unknown, instead of retrying for long.

    The client reads the variable when it is first imported; with a proxy, names are not resolved here.
    """
    if _OFFLINE in os.environ or "huggingface_hub" in sys.modules or urllib.request.getproxies():
        return
    host = urlsplit(os.environ.get("HF_ENDPOINT", _DEFAULT_ENDPOINT)).hostname
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        os.environ[_OFFLINE] = "1"


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings of retries meanwhile; errors are told by exceptions."""
    import datasets

    bars = datasets.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()

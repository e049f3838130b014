"""What every test gets: no network, one thread, seeds; and the folder of real data where there is one."""

import gc
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.models.seq2seq_graphs import ExportedT5

# Before torch and the Hugging Face libraries are imported: they read these once.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs in several processes side by side
for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
    os.environ.pop(name, None)

SEED = 20


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of garbage collections: each training does one, over a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(SEED)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(SEED)
    if torch := sys.modules.get("torch"):  # a test that does without it need not wait for its import
        torch.manual_seed(SEED)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Outcomes of evaluations are kept for this run alone."""
    os.environ["COMPRESSKIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def measured_here() -> Iterator[None]:
    """Evaluations start no process."""
    from tests.here import measuring_here

    with measuring_here():
        yield


@pytest.fixture(scope="session")
def exported_t5(tmp_path_factory: pytest.TempPathFactory) -> "ExportedT5":
    """A tiny T5 and its graphs: exporting it takes ten seconds, so every test has the same."""
    from tests.models.seq2seq_graphs import export_t5

    return export_t5(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with `data/` and `models/` of real size; tests that need it skip where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("COMPRESSKIT_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip(f"no data in {folder}; set COMPRESSKIT_SHARED")
    return folder

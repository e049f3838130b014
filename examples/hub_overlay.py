"""An overlay on the Hub: a mask of a few hundred kilobytes, which stands on a base that others have already.

    hf auth login
    python examples/hub_overlay.py your-name

The base is published once. Each mask (or adapter) names it by its id, its revision and the hash of its weights, and
whoever opens the mask gets the base with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from huggingface_hub import HfApi

import compresskit as ck


def publish(checkpoint: ck.Checkpoint, repository: str) -> None:
    """Upload the folder of a checkpoint as a model.

    `compresskit push` does it with a model card, and tells nobody where files lie on this machine.
    """
    api = HfApi()
    api.create_repo(repository, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=checkpoint.path, commit_message="from compresskit")


def main(owner: str, folder: Path = Path("runs/hub"), steps: int = 200) -> ck.Checkpoint:
    """Publish a base, prune what is on the Hub, publish the mask, and open that as anybody would."""
    dense = ck.train(
        "demo/bert", train_data="demo", max_steps=steps, max_train_samples=32 * steps, output=folder / "dense"
    )
    publish(dense, f"{owner}/demo-reader")

    # From the Hub, not from the folder: so that the mask stands on what others can get.
    mask = ck.prune(
        f"{owner}/demo-reader",
        sparsity=0.5,
        train_data="demo",
        max_steps=steps,
        max_train_samples=32 * steps,
        output=folder / "half",
    )
    assert mask.base is not None
    print(f"{mask.bytes:,} bytes, on {mask.base.ref} at {mask.base.revision}")
    publish(mask, f"{owner}/demo-reader-half")

    # On any other machine:
    found = ck.Checkpoint(f"{owner}/demo-reader-half")
    print(found, "answers:", found.predict("Where does Anna live?", "Anna lives in Rome.").text or "(no answer)")
    return found


if __name__ == "__main__":
    main(sys.argv[1])

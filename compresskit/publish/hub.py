"""The Hub as a place to write to: names of its models, who may write, and what it answers, in one line each."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.errors import CompresskitError, InputError, MissingError, RunFailed, UsageError
from compresskit.models.source import ALIASES, BUILT_IN

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_PATIENCE = 10.0  # seconds that a question beside the upload may take
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def check_name(repo: str, flag: str = "") -> None:
    """UsageError unless `repo` can be the name of a model on the Hub; `flag` is the option that names it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it is documented there

    try:
        if repo.count("/") != 1:
            raise HFValidationError("it has not the form owner/name")
        validate_repo_id(repo)
    except HFValidationError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            f"{flag} {repo!r} is no name of a model on the Hub ({reason}); give owner/name".strip()
        ) from error


def hub_id(ref: object, beside: Path) -> str | None:
    """The id on the Hub that a reference stands for; None for a folder, seen from here or from `beside`, or no id."""
    if not isinstance(ref, str) or ref in BUILT_IN:
        return None
    named = ALIASES.get(ref, ref)
    is_here = os.path.isdir(ref) or os.path.isdir(beside / ref)
    return named if not is_here and _ID.fullmatch(named) else None


def api() -> HfApi:
    """The Hub's client, logged in; MissingError where nobody is."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise MissingError("HF_HUB_OFFLINE is set, which keeps everything from the Hub; unset it to push")
    if (token := get_token()) is None:
        raise MissingError(
            "nobody is logged in to the Hub; run `hf auth login`, or set HF_TOKEN to a token that writes"
        )
    return HfApi(token=token)


@contextlib.contextmanager
def asking(repo: str) -> Iterator[None]:
    """Turn what the Hub answers about `repo`, or that it does not, into an error of one line.

    MissingError where it cannot be reached or the token does not do, InputError where it has no such owner or model,
    RunFailed for any other refusal.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]  # of its transport

    try:
        yield
    except CompresskitError:
        raise
    except HfHubHTTPError as error:
        raise _refused(repo, error) from error
    except (HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:  # a file of ours
            raise
        raise MissingError(
            f"the Hub cannot be reached ({_first(error)}), and nothing was written to {repo}; try again with a network"
        ) from error
    except Exception as error:
        raise RunFailed(f"{repo} was not written: {_first(error)}; what is on the Hub is as before") from error


def _refused(repo: str, error: Exception) -> CompresskitError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status == 401:
        return MissingError(f"the Hub does not know the token that it was given for {repo}; run `hf auth login` again")
    if status == 403:
        return MissingError(f"the token may not write to {repo}; take one that may write there, or another owner")
    if status == 404:
        return InputError(f"the Hub has no {repo}, nor its owner, that this token may see; check the name")
    if status == 429 or (status is not None and status >= 500):
        return MissingError(f"the Hub is busy (it answers {status}), and {repo} is as before; try again later")
    return RunFailed(f"the Hub refuses {repo} ({_first(error)}); what is there is as before")


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def license_on_hub(ref: str) -> str | None:
    """The licence that a model's card on the Hub names; None where it names none, or the Hub does not answer."""
    from huggingface_hub import HfApi

    try:
        card = HfApi().model_info(ref, timeout=_PATIENCE).card_data
    except Exception:  # whatever keeps us from knowing, it is not known
        return None
    found = None if card is None else card.get("license")
    return found if isinstance(found, str) else None


def check_base(client: HfApi, ref: str, revision: str | None, sha256: str) -> None:
    """InputError where a model of the Hub is not the base that an overlay was made on.

    That is told by the hash of its weights where they are one file; of several, whoever opens the overlay tells.
    """
    with asking(ref):
        siblings = client.model_info(ref, revision=revision, files_metadata=True).siblings or []
    weights = [each for each in siblings if each.rfilename.endswith(".safetensors") and "/" not in each.rfilename]
    if not weights:
        raise InputError(f"--base-ref {ref} holds no safetensors weights on the Hub; push the base there first")
    found = weights[0].lfs.sha256 if len(weights) == 1 and weights[0].lfs is not None else sha256
    if found != sha256:
        raise InputError(
            f"--base-ref {ref} has weights sha256 {found} on the Hub, and this was made on {sha256}; name its own base"
        )

"""A stand-in for the Hub: what its client is asked, what it keeps in memory, and errors as the client raises them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

URL = "https://huggingface.co/"


def refusal(status: int, kind: type[HfHubHTTPError] = HfHubHTTPError) -> HfHubHTTPError:
    """What the client raises where the Hub answers a status."""
    response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind(f"{status} Client Error.\n\nmore of it", response=response)


@dataclass
class Repo:
    """A model: its files by branch, and whether it is private."""

    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    license: str | None = None


@dataclass
class FakeHub:
    """The methods of `HfApi` that are used, with their names for arguments; `fails` raises where a method is called."""

    repos: dict[str, Repo] = field(default_factory=dict)
    fails: dict[str, Exception] = field(default_factory=dict)
    commits: list[tuple[str, str, str | None]] = field(default_factory=list)

    def _called(self, method: str) -> None:
        if method in self.fails:
            raise self.fails[method]

    def _repo(self, repo_id: str) -> Repo:
        if repo_id not in self.repos:
            raise refusal(404, RepositoryNotFoundError)
        return self.repos[repo_id]

    def model_info(
        self, repo_id: str, *, revision: str | None = None, timeout: float | None = None, files_metadata: bool = False
    ) -> Any:
        self._called("model_info")
        repo = self._repo(repo_id)
        files = repo.branches[revision or "main"]
        siblings = [
            SimpleNamespace(rfilename=name, lfs=SimpleNamespace(sha256=sha256(text).hexdigest()))
            for name, text in files.items()
        ]
        card = None if repo.license is None else {"license": repo.license}
        return SimpleNamespace(private=repo.private, siblings=siblings, card_data=card)

    def list_repo_files(self, repo_id: str, *, revision: str | None = None) -> list[str]:
        repo = self._repo(repo_id)
        if (revision or "main") not in repo.branches:
            raise refusal(404, huggingface_hub.errors.RevisionNotFoundError)
        return list(repo.branches[revision or "main"])

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False) -> None:
        self._called("create_repo")
        assert exist_ok
        self.repos.setdefault(repo_id, Repo(bool(private)))

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool = False) -> None:
        assert exist_ok
        branches = self._repo(repo_id).branches
        branches.setdefault(branch, dict(branches["main"]))

    def create_commit(
        self,
        repo_id: str,
        operations: Sequence[CommitOperationAdd],
        *,
        commit_message: str,
        revision: str | None = None,
    ) -> Any:
        added: dict[str, bytes] = {}
        for each in operations:
            with each.as_file() as file:
                added[each.path_in_repo] = file.read()
            if len(added) > 1:
                self._called("create_commit")  # in the middle of it
        self._repo(repo_id).branches[revision or "main"].update(added)
        self.commits.append((repo_id, commit_message, revision))
        return SimpleNamespace(commit_url=f"{URL}{repo_id}/commit/0123")

    def files(self, repo_id: str, branch: str = "main") -> dict[str, bytes]:
        return self.repos[repo_id].branches[branch]

    def snapshots(self, place: Path) -> Any:
        """A `snapshot_download` that brings models to a folder, as the client does, by patterns."""

        def snapshot_download(
            repo_id: str,
            *,
            revision: str | None = None,
            cache_dir: str | None = None,
            allow_patterns: Sequence[str] = ("*",),
            ignore_patterns: Sequence[str] = (),
        ) -> str:
            folder = place / repo_id.replace("/", "--") / "0123abcd"
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in self.files(repo_id).items():
                wanted = any(fnmatch(name, pattern) for pattern in allow_patterns)
                if wanted and not any(fnmatch(name, pattern) for pattern in ignore_patterns):
                    (folder / name).write_bytes(text)
            return str(folder)

        return snapshot_download


def put_in_place(monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> None:
    """Let the client be the stand-in, with somebody logged in."""
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token=None: hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

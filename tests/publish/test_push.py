"""What goes to the Hub, and what is said where it cannot; against a stand-in of the client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from compresskit.checkpoint.manifest import Base, Data, KindName, Manifest, Step, read_manifest
from compresskit.checkpoint.store import sha256_weights
from compresskit.errors import CompresskitError, InputError, MissingError, RunFailed, UsageError
from compresskit.models.source import HUB_FILES
from compresskit.publish.options import PushOptions
from compresskit.publish.push import packed, push
from tests.models import tiny
from tests.publish.fake_hub import FakeHub, Repo, put_in_place, refusal

HERE = Data("/home/somebody/train.json", "0" * 64, 90, 30)
SQUAD = Data("rajpurkar/squad_v2", "1" * 64, 130_319, 43_498)


def manifest(
    kind: KindName, method: str, base: Base | None = None, data: Data | None = SQUAD, **config: Any
) -> Manifest:
    steps = [Step("train", {"model": "bert", "lr": 3e-5}, 42, data, 60.0, {})]
    if method != "train":
        steps.append(Step(method, {"model": "dense", **config}, 42, data, 30.0, {"adapter": "peft"}))
    return Manifest("encoder", kind, base, steps)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub()
    put_in_place(monkeypatch, made)
    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("bert", tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def dense(saved: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "dense"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    manifest("full", "train").write(folder)
    (folder / "notes.txt").write_text("mine")  # it came later, and is none of the checkpoint's
    (folder / "next.partial").mkdir()
    return folder


def adapter(dense: Path, ref: str = "../dense") -> Path:
    folder = dense.parent / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(dense)})
    )
    (folder / "adapter_model.safetensors").write_bytes((dense / "model.safetensors").read_bytes())
    manifest("adapter", "lora", Base(ref, None, sha256_weights(dense))).write(folder)
    return folder


def sent(folder: Path, repo: str = "me/small", **options: Any) -> str:
    asked = PushOptions(str(folder), repo, **options)
    return push(asked, packed(asked))


def test_its_own_files_go_in_one_commit(hub: FakeHub, dense: Path) -> None:
    assert sent(dense, message="first") == "https://huggingface.co/me/small/commit/0123"
    own = read_manifest(dense)
    assert own is not None
    assert own.files is not None
    assert set(hub.files("me/small")) == {*own.files, "compresskit.json", "README.md"}
    for name in own.files:
        assert hub.files("me/small")[name] == (dense / name).read_bytes()
    assert hub.commits == [("me/small", "first", None)]
    assert not hub.repos["me/small"].private
    assert not (dense / "README.md").exists()


def test_a_private_one_on_a_branch(hub: FakeHub, dense: Path) -> None:
    sent(dense, private=True, revision="next")
    assert hub.repos["me/small"].private
    assert "model.safetensors" in hub.files("me/small", "next")
    assert hub.files("me/small") == {}
    hub.repos["me/small"].private = False
    with pytest.raises(UsageError, match="me/small is there, and public; leave --private out"):
        sent(dense, private=True, revision="next", readme="new")


def test_no_way_to_a_place_on_this_machine_is_sent(hub: FakeHub, saved: Path) -> None:
    """Neither in the card nor in the manifest, however deep; what decides an answer stays as it is."""
    told = {
        "teacher": "../dense",
        "embeddings": "~/vectors.txt",
        "teacher_training": {"train_data": str(saved / "train.json"), "reads": [str(saved)]},
        "prompt_template": {"template": "/ask {question} /of {context}"},
    }
    metrics = {"selection": {"path": str(saved / "dev.json")}}
    step = Step("train", {"model": str(saved), **told}, 1, HERE, 1.0, metrics)
    Manifest("encoder", "full", Base(str(saved), None, "0" * 64), [step]).write(saved)
    try:
        sent(saved)
    finally:
        (saved / "compresskit.json").unlink()
    there = hub.files("me/small")
    texts = [there[name].decode() for name in ("README.md", "compresskit.json")]
    assert not any(way in text for text in texts for way in (str(saved.parent), "somebody", "../", "~"))
    manifest = json.loads(texts[1])
    (sent_step,) = manifest["steps"]
    assert manifest["base"]["ref"] == sent_step["config"]["model"] == "model"
    assert (sent_step["data"]["path"], sent_step["config"]["teacher"]) == ("train.json", "dense")
    assert sent_step["config"]["teacher_training"] == {"train_data": "train.json", "reads": ["model"]}
    assert sent_step["config"]["prompt_template"] == told["prompt_template"]
    assert sent_step["metrics"] == {"selection": {"path": "dev.json"}}


def test_an_overlay_names_its_base_on_the_hub(hub: FakeHub, dense: Path) -> None:
    folder = adapter(dense)
    with pytest.raises(UsageError, match=r"stands on the folder ../dense, which nobody else has; .*--base-ref"):
        sent(folder)
    with pytest.raises(InputError, match="the Hub has no me/dense, nor its owner"):
        sent(folder, base_ref="me/dense")
    sent(dense, "me/dense")
    sent(folder, base_ref="me/dense")
    there = dict(hub.files("me/small"))
    config = json.loads(there["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["peft_type"]) == ("me/dense", "LORA")
    found = dense.parent / "found"
    found.mkdir()
    for name, text in there.items():
        (found / name).write_bytes(text)
    known, before = read_manifest(found), read_manifest(folder)
    assert known is not None
    assert before is not None
    assert known.base == Base("me/dense", None, sha256_weights(dense))
    assert known.steps == before.steps
    from compresskit.models.kinds import verify  # the whole way: each listed file has the hash of what went there
    from compresskit.models.source import Source

    (dense.parent / "me").mkdir()
    (found.parent / "me" / "dense").symlink_to(dense)
    verify_here = pytest.MonkeyPatch()
    verify_here.chdir(dense.parent)
    try:
        assert len(verify(Source("found", found))) == 2
    finally:
        verify_here.undo()


def test_another_base_is_told_before_anything_is_written(hub: FakeHub, dense: Path) -> None:
    hub.repos["me/other"] = Repo(branches={"main": {"model.safetensors": b"others"}})
    hub.repos["me/empty"] = Repo()
    folder = adapter(dense)
    with pytest.raises(InputError, match=r"--base-ref me/other has weights sha256 .*; name its own base"):
        sent(folder, base_ref="me/other")
    with pytest.raises(InputError, match="--base-ref me/empty holds no safetensors weights"):
        sent(folder, base_ref="me/empty")
    assert "me/small" not in hub.repos


def test_a_readme_is_never_lost_in_silence(hub: FakeHub, dense: Path) -> None:
    (dense / "README.md").write_text("---\nlicense: mit\n---\nmine")
    with pytest.raises(UsageError, match=r"dense/README.md is there; --readme keep .* --readme new"):
        sent(dense)
    assert hub.repos == {}
    sent(dense, readme="keep")
    assert hub.files("me/small")["README.md"].endswith(b"mine")
    (dense / "README.md").unlink()
    with pytest.raises(UsageError, match=r"README\.md of me/small is there"):
        sent(dense)
    sent(dense, readme="keep")
    assert hub.files("me/small")["README.md"].endswith(b"mine")
    sent(dense, readme="new")
    assert b"# small" in hub.files("me/small")["README.md"]


def test_a_readme_that_was_listed_is_replaced_and_not_missed(hub: FakeHub, dense: Path) -> None:
    (dense / "README.md").write_text("by PEFT")
    manifest("full", "train").write(dense)
    sent(dense, readme="new")
    assert "README.md" not in json.loads(hub.files("me/small")["compresskit.json"])["files"]


def test_other_weights_on_the_hub_are_in_the_way(hub: FakeHub, dense: Path) -> None:
    hub.repos["me/small"] = Repo(branches={"main": {"mask.safetensors": b"", "onnx/model.onnx": b""}})
    with pytest.raises(UsageError, match=r"me/small holds mask\.safetensors, which this checkpoint has not"):
        sent(dense)
    assert hub.commits == []


def test_what_is_damaged_or_leads_elsewhere_is_not_sent(hub: FakeHub, dense: Path) -> None:
    vocabulary = dense / "tokenizer.json"
    away = dense.parent / "away.json"
    vocabulary.rename(away)
    vocabulary.symlink_to(away)
    with pytest.raises(InputError, match=r"tokenizer.json is a link that leads out of its folder"):
        sent(dense)
    vocabulary.unlink()
    with pytest.raises(InputError, match=r"dense lacks tokenizer.json, which its manifest lists"):
        sent(dense)
    away.write_text(away.read_text() + " ")
    away.rename(vocabulary)
    with pytest.raises(InputError, match=r"tokenizer.json has .* bytes, not the"):
        sent(dense)
    with pytest.raises(InputError, match="there is no folder me/dense; give the folder of a checkpoint"):
        sent(Path("me/dense"))
    assert hub.repos == {}


def test_a_checkpoint_of_another_tool_has_what_runs_it(hub: FakeHub, saved: Path) -> None:
    sent(saved)
    assert set(hub.files("me/small")) == {path.name for path in saved.iterdir()} | {"README.md"}


@pytest.mark.parametrize("repo", ["small", "me/small/more", "me/sm all", "me/-small", "me/" + "a" * 97, "", "./x"])
def test_a_name_that_cannot_be(repo: str) -> None:
    with pytest.raises(UsageError, match=r"is no name of a model on the Hub .*; give owner/name"):
        PushOptions("dense", repo)


@pytest.mark.parametrize(
    ("method", "raised", "error", "message"),
    [
        ("model_info", refusal(401, RepositoryNotFoundError), MissingError, "does not know the token"),
        ("create_repo", refusal(403), MissingError, "the token may not write to me/small"),
        ("create_repo", refusal(404), InputError, "the Hub has no me/small, nor its owner"),
        ("create_commit", refusal(503), MissingError, r"the Hub is busy \(it answers 503\), and me/small is as before"),
        ("create_commit", refusal(413), RunFailed, r"the Hub refuses me/small \(413 Client Error.\)"),
        ("create_commit", ConnectionError("no route to host"), MissingError, r"cannot be reached \(no route to host\)"),
        ("create_commit", RuntimeError("data plane\nmore"), RunFailed, r"me/small was not written: data plane;"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_what_the_hub_refuses(
    method: str, raised: Exception, error: type[CompresskitError], message: str, hub: FakeHub, dense: Path
) -> None:
    hub.fails[method] = raised
    with pytest.raises(error, match=message) as caught:
        sent(dense)
    assert "\n" not in str(caught.value)
    assert hub.commits == []
    assert all(files == {} for repo in hub.repos.values() for files in repo.branches.values())


def test_nobody_is_logged_in(hub: FakeHub, dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(MissingError, match="nobody is logged in to the Hub; run `hf auth login`, or set HF_TOKEN"):
        sent(dense)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE is set"):
        sent(dense)


def test_options_without_effect() -> None:
    with pytest.raises(UsageError, match="--output has no effect without --dry-run"):
        PushOptions("dense", "me/small", output=Path("card.md"))
    with pytest.raises(UsageError, match="--row has no effect without --report"):
        PushOptions("dense", "me/small", row="dense")
    with pytest.raises(UsageError, match=r"--base-ref 'dense' is no name"):
        packed(PushOptions(str(Path(__file__).parent), "me/small", base_ref="dense"))


def test_what_is_sent_is_what_is_downloaded(hub: FakeHub, dense: Path, tmp_path: Path) -> None:
    """The patterns of the download cover every file that the manifest lists and that is needed."""
    sent(dense)
    place = Path(hub.snapshots(tmp_path)("me/small", allow_patterns=HUB_FILES))
    from compresskit.models.source import Source, check_own_files

    check_own_files(Source("me/small", place))
    assert {path.name for path in place.iterdir()} == set(hub.files("me/small")) - {"README.md"}

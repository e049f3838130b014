"""Formats of other tools: those that are read compute what they hold, and the others are refused in a line."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils import prune

from compresskit import console
from compresskit.cli.app import main
from compresskit.errors import InputError
from compresskit.models import foreign
from compresskit.models.kinds import int8
from compresskit.models.kinds.plain import _tell, mended, unwrapped
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import logits
from compresskit.models.registry import load
from tests import tiny
from tests.contract import makers

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"
WEIGHT = "bert.encoder.layer.0.attention.self.query.weight"
LAYER = WEIGHT.removesuffix(".weight")
Tensors = dict[str, Tensor]


def beside(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, **{f"{LAYER}.{name}": torch.ones(2) for name in names}}


def instead(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: each for name, each in beside(*names)(tensors).items() if name != WEIGHT}


def renamed(change: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {change(name): each for name, each in tensors.items()}


def codes(dtype: torch.dtype, scale: str = "") -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        more = {f"{WEIGHT}{scale}": torch.ones(1)} if scale else {}
        return {**tensors, WEIGHT: (100 * tensors[WEIGHT]).to(dtype), **more}

    return change


def masked(tensors: Tensors) -> Tensors:
    """As torch's own pruning leaves them."""
    layer = torch.nn.Linear(1, 1)
    layer.weight.data = tensors.pop(WEIGHT)
    prune.l1_unstructured(layer, "weight", 0.5)
    return {**tensors, **{f"{LAYER}.{name}": each for name, each in layer.state_dict().items() if name != "bias"}}


HEADS = {"classifier.weight": (3, 8), "bert.pooler.dense.weight": (8, 8), "cls.predictions.bias": (9,)}


def heads(tensors: Tensors) -> Tensors:
    found = {name: torch.ones(shape) for name, shape in HEADS.items()}
    return {**tensors, **found, "bert.embeddings.position_ids": torch.arange(8)[None]}


Change = Callable[[Tensors], Tensors] | tuple[str, str]
# By the first column of the page: how tensors are changed, or the file that lies beside them.
MADE: dict[str, Change] = {
    "`module.` before every name (`nn.DataParallel`)": renamed("module.{}".format),
    "`_orig_mod.` in names (`torch.compile`)": renamed(lambda name: name.replace("bert.", "bert._orig_mod.")),
    "`weight_orig` with `weight_mask` (`torch.nn.utils.prune`)": masked,
    "`weight` with `weight_mask`": beside("weight_mask"),
    "`parametrizations.weight.original`": instead("parametrizations.weight.original"),
    "`lora_A`, `base_layer` (PEFT, the whole saved at once)": instead("base_layer.weight", "lora_A.default.weight"),
    "`base_model.model.` before names": renamed("base_model.model.{}".format),
    "`weight_scale` beside int8 codes": codes(torch.int8, "_scale"),
    "codes of int8 alone": codes(torch.int8),
    "codes of 8-bit floats alone": codes(torch.float8_e4m3fn),
    "`qweight`, `qzeros`, `scales`, `g_idx` (GPTQ, AWQ)": instead("qweight", "qzeros", "scales", "g_idx"),
    "`SCB` (bitsandbytes, 8 bits)": beside("SCB"),
    "`quant_state`, `absmax` (bitsandbytes, 4 bits)": beside("weight.absmax", "weight.quant_state.bitsandbytes__nf4"),
    "`step_size` (LSQ)": beside("step_size"),
    "`activation_post_process`, `fake_quant` (torch, QAT)": beside("activation_post_process.min_val"),
    "`smash_config.json`": ("smash_config.json", "{}"),
    "`quantize_config.json`": ("quantize_config.json", '{"bits": 4}'),
    "`recipe.yaml` that quantizes": ("recipe.yaml", "quant_stage: {QuantizationModifier: {}}"),
    "`compression_config` in `config.json` (older compressed-tensors)": (
        "config.json",
        '{"model_type": "bert", "compression_config": {"format": "int-quantized", "quantization_status": "frozen"}}',
    ),
    "`recipe.yaml` that only prunes": ("recipe.yaml", "stage: {MagnitudePruningModifier: {}}"),
    "a pooler, another task's head, `position_ids`": heads,
    "any other tensor without a place": beside("gate"),
}


def rows() -> dict[str, tuple[str, str]]:
    """The table of the page."""
    cells = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "|" in line]
    return {row[0]: (row[1], row[2]) for row in cells[2:]}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign") / "dense"
    tiny.bert().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def made(dense: Path, folder: Path, change: Change) -> Path:
    shutil.copytree(dense, folder)
    if isinstance(change, tuple):
        (folder / change[0]).write_text(change[1], encoding="utf-8")
        return folder
    path = folder / "model.safetensors"
    save_file({name: each.contiguous() for name, each in change(load_file(path)).items()}, path, {"format": "pt"})
    return folder


def opened(folder: Path) -> TrainableModel:
    found = load(str(folder), device="cpu")
    assert isinstance(found, TrainableModel)
    return found


def test_the_page_tells_of_all_that_are_tried_here() -> None:
    assert list(rows()) == list(MADE)
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in foreign.RECIPES if "*" not in name)


@pytest.mark.parametrize("what", MADE)
def test_it_is_read_or_refused_as_the_page_says(
    what: str, dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(dense, tmp_path / "folder", MADE[what])
    outcome, told = rows()[what]
    said = re.fullmatch("`(.*)`", told)
    if outcome == "refused":
        assert said is not None
        with pytest.raises(InputError, match=re.escape(said[1])) as error:
            opened(folder)
        assert "; " in str(error.value)  # the mend
        assert str(error.value).startswith(str(folder))
        return
    _tell.cache_clear()
    found, expected = logits(opened(folder)), logits(opened(dense))
    assert torch.equal(found, expected) == ("mask" not in told)
    assert (said[1] if said else "") in capsys.readouterr().err


def test_folded_is_what_torch_computes_with(dense: Path, tmp_path: Path) -> None:
    folder = made(dense, tmp_path / "masked", masked)
    files: Any = load_file(folder / "model.safetensors")
    expected = files[f"{WEIGHT}_orig"] * files[f"{WEIGHT}_mask"]
    assert torch.equal(opened(folder).model.get_parameter(WEIGHT), expected)
    assert int((expected == 0).sum()) == expected.numel() // 2


def test_every_verb_refuses_in_a_line(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "discard", lambda: None)  # it would close what pytest captures
    folder = str(made(dense, tmp_path / "lsq", MADE["`step_size` (LSQ)"]))
    makers.data(tmp_path / "data.json")
    run = ["-o", str(tmp_path / "out"), "--train-data", str(tmp_path / "data.json"), "--device", "cpu"]
    for words in (
        ["inspect", folder],
        ["train", folder, *run],
        ["prune", folder, "--sparsity", "0.5", *run],
        ["predict", folder, "-q", "who ?", "-c", "rome .", "--device", "cpu"],
    ):
        capsys.readouterr()
        assert main(words) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert "step_size" in line
        assert not (tmp_path / "out").exists()
    console.configure()


def test_packed_weights_have_no_other_tensors_either(dense: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dense, tmp_path / "int8")
    model = tiny.bert()
    layout = int8.layout(model, [WEIGHT])
    int8.pack(model, [WEIGHT])
    int8.save(model, layout, folder)
    assert opened(folder).made_by == "int8"
    path = folder / "model.safetensors"
    save_file({**load_file(path), f"{LAYER}.step_size": torch.ones(1)}, path, {"format": "pt"})
    with pytest.raises(InputError, match="learned or observed the steps"):
        opened(folder)


def test_what_lacks_tensors_is_told_so_where_names_tell_nothing(dense: Path, tmp_path: Path) -> None:
    folder = made(dense, tmp_path / "other", renamed(lambda name: name.replace("layer.0", "block.0")))
    with pytest.raises(InputError, match=r"lacks \d+ tensors of a bert model"):
        opened(folder)


@pytest.mark.parametrize("name", ["classifier.bias", "score.weight", "intent_head.weight", "lm_head.dense.bias"])
def test_heads_of_other_tasks_are_harmless(name: str) -> None:
    assert foreign.is_harmless(name)
    assert foreign.trace_of(name) is None


@pytest.mark.parametrize("name", [WEIGHT, f"{LAYER}.bias", "encoder.layer.0.output.dense.bias", "gate", "head_mask"])
def test_a_weight_of_a_block_is_not(name: str) -> None:
    assert not foreign.is_harmless(name)


def test_names_of_a_wrapper_are_left_where_two_would_be_one() -> None:
    names = ["a._orig_mod.b", "a.b"]
    assert unwrapped(names) == {name: name for name in names}
    assert unwrapped(["module._orig_mod.module.a"]) == {"module._orig_mod.module.a": "a"}
    assert unwrapped(["module.a", "b"]) == {"module.a": "module.a", "b": "b"}


def test_a_plain_folder_is_opened_as_it_is(dense: Path) -> None:
    with mended(dense) as folder:
        assert folder == dense


def test_a_former_key_that_tells_of_sparsity_alone_is_read(dense: Path, tmp_path: Path) -> None:
    """What is sparse has its zeros in the weights."""
    folder = made(dense, tmp_path / "folder", lambda tensors: tensors)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sparse = {"quantization_config": None, "sparsity_config": {"format": "dense"}}
    (folder / "config.json").write_text(json.dumps({**config, "compression_config": sparse}), encoding="utf-8")
    assert torch.equal(logits(opened(folder)), logits(opened(dense)))

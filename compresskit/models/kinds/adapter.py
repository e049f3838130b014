"""An adapter of PEFT (LoRA and its like) on a checkpoint of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresskit.checkpoint.manifest import KindName, Manifest
from compresskit.checkpoint.store import read_json, read_safetensors_metadata
from compresskit.errors import InputError, MissingError, UsageError
from compresskit.models.kind import Contents, How, ParameterCount
from compresskit.models.kinds.fit import check_adapter, finder
from compresskit.models.source import Source, download, known_aliases, resolve, resolve_base

if TYPE_CHECKING:
    from compresskit.models.loaded import LoadedModel

CONFIG = "adapter_config.json"
WEIGHTS, PICKLED_WEIGHTS = "adapter_model.safetensors", "adapter_model.bin"


class AdapterKind:
    """An adapter's matrices are added to the weights of its base."""

    name: KindName = "adapter"
    stands_on: frozenset[KindName] = frozenset({"full", "mask", "quantized"})
    trainable = False
    instead = "merge it into its base first: compresskit merge {ref}"

    def owns(self, folder: Path, manifest: Manifest | None) -> bool:
        """A folder whose manifest says so, or that has PEFT's configuration."""
        return (manifest is not None and manifest.kind == self.name) or (folder / CONFIG).is_file()

    def base(self, source: Source) -> Source | None:
        """The checkpoint that the manifest names, else the one of PEFT's configuration."""
        manifest = source.manifest
        if manifest is not None and manifest.kind == self.name:
            if manifest.base is None:
                raise InputError(f"{source.path} is an adapter whose manifest names no base; make it again")
            return resolve_base(source.path, manifest.base)
        return _base_of_peft(source.path)

    def packages(self, folder: Path) -> tuple[str, ...]:
        """None."""
        return ()

    def base_opened(self, how: How) -> How:
        """As the adapter itself."""
        return how

    def open(self, source: Source, base: LoadedModel | None, how: How) -> LoadedModel:
        """The base with the adapter in its modules."""
        from compresskit.models.folder import has_tokenizer
        from compresskit.models.kinds.patterns import check_patterns
        from compresskit.models.kinds.peft_adapter import inject_adapter
        from compresskit.models.kinds.weight_adapter import inject_weights, is_linear
        from compresskit.models.loading import stand_on, tokenizer_of
        from compresskit.models.mamba import is_mamba
        from compresskit.models.mamba.adapters import is_lora, open_adapters

        assert base is not None
        model: Any = base.model  # torch's: an adapter does not stand on an ONNX graph
        check_patterns(source.path / CONFIG, (name for name, _ in model.named_modules()))
        head, weights = base.family.head(model), base.family.weights(model)
        if is_mamba(model) and is_lora(source.path):
            open_adapters(model, source.path)
            base.made_by, replaced = "lora", set[str]()
        elif is_linear(weights):
            base.model, base.made_by, replaced = inject_adapter(model, source.path)
        else:
            base.made_by, replaced = "lora", inject_weights(model, weights, source.path)
        # A head without parameters is not one that the adapter brings.
        base.missing_head = base.missing_head and not (head and head <= replaced)
        if has_tokenizer(source.path, base.tokenizer):
            base.tokenizer = tokenizer_of(source.path, base.family, base.model.config)
        return stand_on(self, source, base)

    def check(self, source: Source, bottom: Source) -> None:
        """Formats and shapes of its matrices, against the weights that they are added to."""
        check_adapter(source.path, finder(bottom.path))

    def contents(self, source: Source) -> Contents:
        """The adapter's own matrices, and PEFT's settings. Raises what `check_weights` raises."""
        from compresskit.models.matrices import stored_matrices

        check_weights(source.path)
        config: Any = read_json(source.path / CONFIG) if (source.path / CONFIG).is_file() else {}
        facts = [(key, _told(config[key])) for key in _SHOWN if isinstance(config, dict) and config.get(key)]
        opened_by = _opened_by(source.manifest)
        if opened_by is not None:
            facts.append(("opened by", opened_by))
        return Contents(stored_matrices(source.path), facts)

    def stored(self, loaded: LoadedModel) -> ParameterCount:
        """The base's parameters and the adapter's."""
        from compresskit.models.counting import count

        return count(loaded.model)


def check_weights(folder: Path) -> None:
    """InputError where an adapter's weights are not there, are a pickle, or not a whole safetensors file."""
    if not (folder / WEIGHTS).is_file() and (folder / PICKLED_WEIGHTS).is_file():
        raise InputError(
            f"{folder} holds its adapter as a pickle ({PICKLED_WEIGHTS}), which can run any code; convert it where you "
            f"trust it: PeftModel.from_pretrained(base, folder).save_pretrained(folder) writes {WEIGHTS}"
        )
    read_safetensors_metadata(folder / WEIGHTS)


# What PEFT's configuration tells that a person asks for.
_SHOWN = (
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "modules_to_save",
    "base_model_name_or_path",
)


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _opened_by(manifest: Manifest | None) -> str | None:
    """Which programs open an adapter, in words, as its manifest tells; None where that does not."""
    steps = manifest.steps if manifest is not None else ()
    found = next((step.metrics["adapter"] for step in reversed(steps) if "adapter" in step.metrics), None)
    mends = "export --peft-plain, or merge," if manifest is not None and manifest.family == "causal" else "merge"
    told = {"peft": "plain PEFT, and compresskit", "weights": f"compresskit alone; {mends} makes what others open"}
    return told.get(str(found))


def _base_of_peft(adapter: Path) -> Source:
    """The base that `adapter_config.json` names: a folder (from here, or from the adapter), or a Hub id."""
    path = adapter / CONFIG
    config = read_json(path)
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(name, str) or not name:
        raise InputError(f"{path} names no base; write its folder or Hub id there as base_model_name_or_path")
    revision = config.get("revision")
    if revision is not None and not isinstance(revision, str):
        raise InputError(f"{path} names the revision {revision!r}, which is not a text; leave it out")
    mend = f"put it there, or write its folder into {path} as base_model_name_or_path"
    try:
        return _named_base(name, adapter, revision)
    except (InputError, UsageError) as error:
        raise InputError(f"the base {name} of the adapter {adapter} is not there; {mend}") from error
    except MissingError as error:
        raise MissingError(
            f"the base {name} of the adapter {adapter} is not a folder, and the Hub cannot be reached; {mend}"
        ) from error


def _named_base(name: str, adapter: Path, revision: str | None) -> Source:
    if (adapter / name).is_dir() and not Path(name).is_dir():
        return Source(name, adapter / name)
    if "/" in name or Path(name).exists() or name in known_aliases():
        return resolve(name, revision)
    # The Hub's oldest models have no owner in their names, and many adapters stand on them.
    folder = download(name, revision)
    return Source(name, folder, revision=folder.name)

"""ONNX graphs in the layout of Optimum: `model.onnx`, or the three of an encoder-decoder; configuration, tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compresskit import console
from compresskit.checkpoint.manifest import KindName, Manifest
from compresskit.checkpoint.store import weight_files
from compresskit.errors import InputError
from compresskit.models.kind import Contents, How, ParameterCount
from compresskit.models.source import Source, graphs_below

if TYPE_CHECKING:
    from compresskit.models.loaded import LoadedModel


# The graphs of an encoder-decoder, in the order in which they are asked.
SEQ2SEQ = ("encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx")


class OnnxKind:
    """A graph that onnxruntime runs, or the three of an encoder-decoder."""

    name: KindName = "onnx"
    stands_on: frozenset[KindName] = frozenset()
    trainable = False
    instead = "eval and predict take it; give what it came from"

    def owns(self, folder: Path, manifest: Manifest | None) -> bool:
        """A folder whose manifest says so, or that holds a graph and no weights of torch's."""
        if manifest is not None and manifest.kind == self.name:
            return True
        return not weight_files(folder) and (any(folder.glob("*.onnx")) or bool(graphs_below(folder)))

    def base(self, source: Source) -> Source | None:
        """None: it stands alone."""
        return None

    def packages(self, folder: Path) -> tuple[str, ...]:
        """What runs graphs."""
        return ("onnxruntime",)

    def base_opened(self, how: How) -> How:
        """There is no base."""
        return how

    def open(self, source: Source, base: LoadedModel | None, how: How) -> LoadedModel:
        """A session of onnxruntime that is asked as a torch model is."""
        from compresskit.models.loading import open_graph

        if how.dtype != "float32":
            console.warn(f"{source.ref} is an ONNX graph, whose numbers stay as they are, whatever --dtype says")
        return open_graph(self, source, graph_files(source.path), how)

    def check(self, source: Source, bottom: Source) -> None:
        """There is no base."""

    def contents(self, source: Source) -> Contents:
        """The graphs' files, how they compute, and how many weights they hold where the package onnx can tell."""
        from compresskit.models.kinds.onnx_graph import count_weights, method_of_graph

        paths = graph_files(source.path)
        counts = count_weights(paths)
        weights = "not counted (needs the package onnx, and weights that are not packed)"
        if counts is not None:
            weights = f"{counts[0]:,}, of which {counts[1]:,} are not zero"
        graphs = [("graph", f"{path.name} ({method_of_graph(path)})") for path in paths]
        return Contents(facts=[*graphs, ("weights", weights)])

    def stored(self, loaded: LoadedModel) -> ParameterCount:
        """The weights of the graphs, each once; none of them learns."""
        from compresskit.models.kinds.onnx_graph import count_weights

        counts = count_weights(graph_files(loaded.path)) if loaded.path is not None else None
        return ParameterCount(None, None, None) if counts is None else ParameterCount(*counts, 0)


def graph_files(folder: Path) -> list[Path]:
    """The graphs of an ONNX checkpoint: the three of `SEQ2SEQ`, or one, `model.onnx` or the only one.

    They lie in its folder, or as on the Hub in a folder `onnx` within.

    Raises InputError where one of the three is not there, where there is none, or there are several and none is called
    `model.onnx`.
    """
    folder = folder / "onnx" if graphs_below(folder) else folder
    files = sorted(folder.glob("*.onnx"))
    names = [file.name for file in files]
    if set(SEQ2SEQ).intersection(names):
        if lacking := [name for name in SEQ2SEQ if name not in names]:
            raise InputError(f"{folder} lacks {' and '.join(lacking)}; copy or export it again, with its past")
        return [folder / name for name in SEQ2SEQ]
    if "model.onnx" in names:
        return [folder / "model.onnx"]
    if not files:
        raise InputError(f"{folder} holds no ONNX file, although its manifest says so; copy or make it again")
    if len(files) > 1:
        raise InputError(
            f"{folder} holds several ONNX files ({', '.join(names)}); give a folder with one, or name one model.onnx, "
            f"or three {', '.join(SEQ2SEQ)}"
        )
    return files

"""CSV and TSV with the columns of `datasets`: context, question, and answers in any of their forms."""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from typing import Any

from compresskit.data.checks import Fault, Place
from compresskit.data.forms import delimiter_of, header_of
from compresskit.data.pieces import Broken, Piece, Row, of_rows
from compresskit.data.text_stream import MOST_IN_ONE, TextStream
from compresskit.text import check_depth, from_json, whole_json

_LISTS = ("answers", "detected_answers", "answers.text", "answers.answer_start", "answer_start", "answer_text")
_CONSTANTS = {"nan": None, "NaN": None, "null": None, "true": True, "false": False}
_LONGEST_LITERAL = 1_000_000  # characters; Python's own parser takes a hundred times as much memory


def pieces(stream: TextStream) -> Iterator[Piece]:
    """The pieces of a table. Raises Fault."""
    yield from of_rows(_rows(stream))


def _rows(stream: TextStream) -> Iterator[Row]:
    lines = stream.lines()
    first = next(lines)
    delimiter = delimiter_of(first)
    assert delimiter is not None  # by which the form was told
    header = header_of(first, delimiter)
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise Fault(f"the column {twice!r} stands twice; remove one", Place("line 1"))
    csv.field_size_limit(MOST_IN_ONE)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        place = Place(f"line {reader.line_num + 2}")
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Broken(f"not a row of a table ({error}); quote its texts as CSV does", place)
            continue
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(header):
            yield Broken(f"it has {len(cells)} columns, the first line {len(header)}; quote texts as CSV does", place)
            continue
        row = {name: cell for name, cell in zip(header, cells, strict=True) if cell or name in ("context", "question")}
        for name in _LISTS:
            if name in row:
                row[name] = value_of(row[name])
        # No answer begins so: taken as a text, it would be scored, and no answer would ever be right.
        cut = next((name for name in _LISTS if isinstance(row.get(name), str) and row[name].lstrip()[:1] == "{"), None)
        if cut is not None:
            yield Broken(f"{cut!r} begins as JSON does, but is none (nor what pandas writes); write JSON there", place)
        else:
            yield row, place
        stream.next_piece()


def value_of(cell: str) -> Any:
    """What a cell holds: the value where it is one of JSON or of Python (as pandas writes it), else its text."""
    text = cell.strip()
    if not text.startswith(("{", "[")):
        return cell
    try:
        return from_json(whole_json(text.encode("utf-8", "replace")))
    except ValueError:
        pass
    if len(text) > _LONGEST_LITERAL:
        return cell
    try:
        value = ast.literal_eval(_Plain().visit(ast.parse(text, mode="eval")))
        check_depth(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return cell
    return value


class _Plain(ast.NodeTransformer):
    """Python without the names that pandas, numpy and JSON write in it: `array([515], dtype=int32)`, `NaN`, `true`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """What is called on, in the place of the call."""
        made = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        is_numpy = isinstance(made, ast.Name) and made.id in ("array", "np")
        return self.visit(node.args[0]) if is_numpy and node.args else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """The value of a name that stands for one."""
        return ast.Constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else node

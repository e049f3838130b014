"""The rules of MLQA's official script for languages other than English (Lewis et al. 2020, arXiv 1910.07475).

Punctuation of every script goes, not that of ASCII alone; each language has articles of its own; Chinese, which has no
spaces, is compared character by character.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Mapping

ARTICLES: Mapping[str, str | None] = {
    "ar": "ال",  # wherever it stands, within a word too
    "de": r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "en": r"\b(?:a|an|the)\b",
    "es": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
    "hi": None,
    "vi": r"\b(?:của|là|cái|chiếc|những)\b",
    "zh": None,
}
"""What is taken for an article, by language; these are the languages of MLQA."""

_SEGMENTED = "zh"
_HAN = re.compile("([\u4e00-\u9fa5])")


def normalize_answer(text: str, language: str) -> str:
    """`text` in small letters, without punctuation and articles of its language, its tokens between single blanks.

    >>> normalize_answer("Das Haus, «am See»", "de")
    'haus am see'
    >>> normalize_answer("《红楼梦》 1791年", "zh")
    '红 楼 梦 1791 年'
    """
    plain = text.lower().translate(_punctuation())
    articles = ARTICLES[language]
    if articles is not None:
        plain = re.sub(articles, " ", plain)
    if language == _SEGMENTED:
        plain = _HAN.sub(r" \1 ", plain)
    return " ".join(plain.split())


@functools.cache
def _punctuation() -> Mapping[int, None]:
    """All punctuation of Unicode, and of ASCII what Unicode calls symbols ($, +, <, …)."""
    ascii_symbols = "$+<=>^`|~"
    everything = map(chr, range(sys.maxunicode))
    return {ord(one): None for one in everything if one in ascii_symbols or unicodedata.category(one).startswith("P")}

"""Texts of other languages are made comparable as MLQA's official script does: examples made by hand from its rules."""

import pytest

from compresskit.data.match import Golds, normalizer
from compresskit.errors import UsageError


@pytest.mark.parametrize(
    ("language", "text", "normal"),
    [
        ("en", "The  U.S. Army, an “army”", "us army army"),
        ("en", "$5 + €6", "5 €6"),
        ("de", "Das Haus, «am See» des Königs", "haus am see königs"),
        ("de", "the Haus", "the haus"),
        ("es", "¿La casa de los Pérez?", "casa de pérez"),
        ("vi", "Những cái nhà của tôi", "nhà tôi"),
        ("ar", "البيت، والكتاب", "بيت و كتاب"),
        ("hi", "राम का घर।", "राम का घर"),
        ("zh", "《红楼梦》 1791年abc def", "红 楼 梦 1791 年 abc def"),
        ("zh", "　the “北京”　", "the 北 京"),
    ],
)
def test_by_the_rules_of_each_language(language: str, text: str, normal: str) -> None:
    assert normalizer(f"mlqa:{language}")(text) == normal


def test_chinese_by_characters_and_as_one_word() -> None:
    gold = ["北京大学"]
    assert Golds(gold, normalizer("mlqa:zh")).score("北京")[1] == pytest.approx(2 / 3)
    assert Golds(gold).score("北京") == (0, 0)
    assert Golds(["「北京」"], normalizer("mlqa:zh")).score("北京")[0] == 1
    assert Golds(["「北京」"]).score("北京")[0] == 0


@pytest.mark.parametrize("name", ["mlqa", "mlqa:", "mlqa:fr", "squad:en", "SQuAD", ""])
def test_another_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"--normalize .* is not one of squad, mlqa:ar, .*, mlqa:zh$"):
        normalizer(name)

"""Gold answers that are longer than any answer that is given."""

from compresskit.data.examples import Answer, Example
from compresskit.models.tasks.lengths import told_too_long, too_long
from tests.models import tiny


def example(*answers: str) -> Example:
    return Example("q", "", "head?", "face", tuple(Answer(text, 0) for text in answers), not answers, 0)


def test_questions_are_counted_whose_answers_are_all_too_long() -> None:
    """In tokens: the tokenizer spells words letter by letter but for some that it knows."""
    examples = [example(), example("abc"), example("abcd"), example("abcd", "a"), example("head", "abcdef")]
    examples += [example("abcd", "bcdea"), example("yes no bad face")]
    tokens = tiny.wordpiece()
    assert too_long(tokens, examples, 3) == 3
    assert too_long(tokens, examples, 4) == 0
    assert too_long(tokens, examples, 1) == 4
    assert told_too_long(1, 3, "d.json").startswith("the gold answers to 1 question of d.json have more than 3 tokens")


def test_characters_of_several_bytes_are_several_tokens() -> None:
    assert too_long(tiny.bpe(), [example("日本")], 3) == 1

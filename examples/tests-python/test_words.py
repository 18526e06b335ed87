import pytest

from words import count


@pytest.mark.parametrize("words, counted", [([], {}), (["a", "A", "b"], {"a": 2, "b": 1})])
def test_words_are_counted_whatever_their_case(words, counted):
    assert count(words) == counted

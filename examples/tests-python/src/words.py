"""How often words occur."""

import sys
from collections import Counter


def count(words: list[str]) -> dict[str, int]:
    return dict(Counter(word.lower() for word in words))


if __name__ == "__main__":
    for word, times in sorted(count(sys.argv[1:]).items()):
        print(word, times)

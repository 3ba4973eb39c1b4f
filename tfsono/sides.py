"""Names of labels and landmarks that differ in left and right alone; standard library only.

A mirror image of a body has its left on the right. So wherever an odd number of axes is mirrored, such names are
exchanged; otherwise a network is taught that both sides are each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

PAIRS = (("left", "right"), ("l", "r"), ("lt", "rt"), ("lh", "rh"), ("sin", "dex"), ("sinister", "dexter"),
         ("sinistra", "dextra"), ("sinistrum", "dextrum"))
OTHER_SIDE = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^A-Za-z0-9\\s_.,;:()/-]+")


def side_pairs(names: Sequence[str], first: int = 0) -> tuple[tuple[int, int], ...]:
    """The numbers of each two names of which one is the other with left and right exchanged.

    Args:
      names: such as `left_eye` and `Right eye`, or `FemurL` and `FemurR`.
      first: the number of the first name: 1 for the classes of a mask.
    """
    words = [_words(name) for name in names]
    mirrored = [tuple(map(_other_side, own)) for own in words]
    return tuple((one + first, other + first) for other in range(len(names)) for one in range(other)
                 if mirrored[one] == words[other] != words[one])


def one_sided(names: Sequence[str]) -> tuple[str, ...]:
    """The names that say left or right and lack the one of the other side; of an `L` alone it is not known."""
    words = [_words(name) for name in names]
    return tuple(name for name, own in zip(names, words, strict=True)
                 if any(word.startswith(("left", "right")) for word in own)
                 and tuple(map(_other_side, own)) not in words)


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in small letters, at separators and capitals."""
    return tuple(word.lower() for word in WORD.findall(name))


def _other_side(word: str) -> str:
    """`leftventricle` becomes `rightventricle`; a word of no side stays as it is."""
    return OTHER_SIDE.get(word) or re.sub("left|right", lambda found: OTHER_SIDE[found.group()], word)

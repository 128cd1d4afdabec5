"""Sums of what pieces of a batch give, in an order that depends on their number alone.

Floats add up differently in another order. Here neighbours are added first, then neighbouring sums,
as in a knockout: whoever holds some pieces in a row can add up what lies whole within them, and
others can finish it to the same bits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Node:
    """The sum of pieces `index * 2**level` up to the next node of its level: a tensor for each part
    of a piece.
    """

    level: int
    index: int
    parts: Sequence[Tensor]


def put(nodes: list[Node], node: Node) -> None:
    """Put the next node in order behind `nodes`, and add up all that then has its neighbour."""
    nodes.append(node)
    while len(nodes) > 1 and nodes[-2].level == nodes[-1].level and nodes[-2].index % 2 == 0:
        right, left = nodes.pop(), nodes.pop()
        nodes.append(Node(left.level + 1, left.index // 2, plus(left.parts, right.parts)))


def total(nodes: Iterable[Node]) -> Sequence[Tensor]:
    """Return the sum of all pieces, of which `nodes` is what `put` left."""
    *rest, last = nodes
    parts = last.parts
    for node in reversed(rest):
        parts = plus(node.parts, parts)
    return parts


def plus(one: Sequence[Tensor], two: Sequence[Tensor]) -> list[Tensor]:
    """Return the sums part by part."""
    return [left + right for left, right in zip(one, two, strict=True)]

"""Sums over the pieces of a batch, in an order that processes do not change.

Floating-point sums depend on the order of their terms. Here neighbours are added first, then
neighbouring sums, as in a binary tree. A process that holds consecutive pieces can add up every
subtree that it holds completely, and others can finish the sum to the same bits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Node:
    """The sum of the pieces `index * 2**level` to `(index + 1) * 2**level - 1`.

    `tensors` has one tensor for each result of a piece.
    """

    level: int
    index: int
    tensors: Sequence[Tensor]


def append_node(nodes: list[Node], node: Node) -> None:
    """Append the next node in order to `nodes`, and add up all nodes that now have a neighbour."""
    nodes.append(node)
    while len(nodes) > 1 and nodes[-2].level == nodes[-1].level and nodes[-2].index % 2 == 0:
        right, left = nodes.pop(), nodes.pop()
        nodes.append(Node(left.level + 1, left.index // 2, add(left.tensors, right.tensors)))


def add_up(nodes: Iterable[Node]) -> Sequence[Tensor]:
    """Return the sum of all pieces from the `nodes` that `append_node` left."""
    *earlier, last = nodes
    parts = last.tensors
    for node in reversed(earlier):
        parts = add(node.tensors, parts)
    return parts


def add(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    """Return the sum of each part of `first` and the same part of `second`."""
    return [a + b for a, b in zip(first, second, strict=True)]

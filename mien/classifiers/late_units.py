"""Late fusion: a network whose last layer also sees coded action units."""

from jaxtyping import Float
from torch import Tensor, cat, nn

from mien.classifiers.networks import name_head
from mien.errors import SpecError


class HeadWithUnits(nn.Module):
    """A linear head that sees the features of the images, and then their action units.

    `coding` is float [n, columns], as `action_units.encode_units` returns it; `give_units` sets it
    before each batch.
    """

    coding: Tensor | None

    def __init__(self, head: nn.Linear, columns: int) -> None:
        super().__init__()
        self.linear = nn.Linear(head.in_features + columns, head.out_features)
        self.coding = None

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Return logits of the features `x` and of the units of the same images."""
        if self.coding is None:
            raise RuntimeError("give_units must be called before each batch")
        return self.linear(cat([x, self.coding.to(x.dtype)], dim=1))


def add_units(network: nn.Module, name: str, columns: int) -> None:
    """Replace the head of a network by one that also sees `columns` numbers, with random weights.

    Raises SpecError unless the head is a single linear layer; `name` names the network.
    """
    names = name_head(network)
    head = network.get_submodule(names[0]) if len(names) == 1 else None
    if not isinstance(head, nn.Linear):
        raise SpecError(
            f"units = true needs a network whose last layer is a single linear one; that of {name} "
            "is not. Use another network, or remove units"
        )
    parent, _, last = names[0].rpartition(".")
    setattr(network.get_submodule(parent), last, HeadWithUnits(head, columns))


def give_units(network: nn.Module, coding: Tensor | None) -> None:
    """Give a network the units of its next batch; networks without such a head do not need them."""
    if coding is not None:
        for module in network.modules():
            if isinstance(module, HeadWithUnits):
                module.coding = coding

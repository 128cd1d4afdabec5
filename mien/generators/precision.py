"""Arithmetic in half the width, in training alone: faster on cards that have it, and half the
memory for what it keeps.

Weights, their averages, the loss and its gradient stay in float32, and so does all that is drawn.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mien import progress, training
from mien.generators.specs import GeneratorSpec, TrainSpec

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Of the loss, so that small gradients are none in fp16. It is halved where a gradient overflows,
# and doubled after so many steps in which none did.
SCALE, GROWTH = 2.0**14, 2000


class Lowered(nn.Module):
    """A network whose products and convolutions are done in `dtype`; what it returns is float32."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor, *told: Any) -> Tensor:
        """Return what the network makes of `x`."""
        # Without the cache of weights in the other width, which threads would share: each weight is
        # used once anyway.
        with torch.autocast(x.device.type, dtype=self.dtype, cache_enabled=False):
            return self.network(x, *told).float()


def lowered(network: nn.Module, spec: TrainSpec) -> nn.Module:
    """Return the network that does its arithmetic as `spec` says."""
    return Lowered(network, DTYPES[spec.precision]) if spec.precision in DTYPES else network


def scaler(spec: TrainSpec, where: torch.device) -> torch.amp.GradScaler:
    """Return what scales the loss: by 1 unless the arithmetic is fp16."""
    wanted = spec.precision == "fp16"
    made = torch.amp.GradScaler(
        where.type, init_scale=SCALE, growth_interval=GROWTH, enabled=wanted
    )
    made.scale(torch.zeros((), device=where))  # it has no tensors before it has scaled something
    return made


def pack(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """Return what a checkpoint has to keep of it: nothing where it does nothing."""
    state = scaler.state_dict()
    kept = {"scale": "scale", "grown": "_growth_tracker"}
    return {name: torch.tensor(float(state[key])) for name, key in kept.items()} if state else {}


def unpack(scaler: torch.amp.GradScaler, tensors: dict[str, Tensor]) -> None:
    """Take back what `pack` returned."""
    if tensors:
        state = {"scale": float(tensors["scale"]), "_growth_tracker": int(tensors["grown"])}
        scaler.load_state_dict({**scaler.state_dict(), **state})


def suited(spec: GeneratorSpec, device: str = "auto") -> GeneratorSpec:
    """Return `spec` with the nearest arithmetic that the device is fast at: float32 but on NVIDIA's
    cards.
    """
    if not isinstance(spec, TrainSpec) or spec.precision == "float32":
        return spec
    where, wanted = training.device(device).type, spec.precision
    if where != "cuda":
        wanted = "float32"
    elif wanted == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        wanted = "fp16"
    if wanted != spec.precision:
        progress.say(f"training in {wanted}: this device ({where}) is not fast at {spec.precision}")
    return spec.model_copy(update={"precision": wanted})

"""Mixed precision for training: 16-bit arithmetic where it is fast.

It is faster, and halves the memory of the saved activations. Weights, their averages, the loss and
its gradient stay in float32, and so does everything at sampling time.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mien.generators.specs import GeneratorSpec, TrainSpec
from mien.runs import devices, progress

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

# The initial scale of the loss, so that small gradients do not underflow to zero in fp16. It is
# halved when a gradient overflows, and doubled after GROWTH steps without an overflow.
INITIAL_LOSS_SCALE, STEPS_TO_GROW = 2.0**14, 2000


class MixedPrecision(nn.Module):
    """A network whose products and convolutions run in `dtype`; its output is float32."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor, *conditions: Any) -> Tensor:
        """Return the output of the network for `x`."""
        # No cache of the weights in `dtype`: threads would share it, and each weight is used only
        # once anyway.
        with torch.autocast(x.device.type, dtype=self.dtype, cache_enabled=False):
            return self.network(x, *conditions).float()


def lower_precision(network: nn.Module, spec: TrainSpec) -> nn.Module:
    """Return the network with the precision that `spec` names."""
    return MixedPrecision(network, DTYPES[spec.precision]) if spec.precision in DTYPES else network


def make_scaler(spec: TrainSpec, torch_device: torch.device) -> torch.amp.GradScaler:
    """Return the scaler of the loss: its factor is 1 unless the precision is fp16."""
    enabled = spec.precision == "fp16"
    scaler = torch.amp.GradScaler(
        torch_device.type,
        init_scale=INITIAL_LOSS_SCALE,
        growth_interval=STEPS_TO_GROW,
        enabled=enabled,
    )
    scaler.scale(torch.zeros((), device=torch_device))  # creates its tensors, which are made lazily
    return scaler


def pack_scaler(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """Return the state of a scaler for a checkpoint; empty if the scaler is disabled."""
    state = scaler.state_dict()
    keys = {"scale": "scale", "grown": "_growth_tracker"}
    return {name: torch.tensor(float(state[key])) for name, key in keys.items()} if state else {}


def unpack_scaler(scaler: torch.amp.GradScaler, tensors: dict[str, Tensor]) -> None:
    """Restore the state that `pack_scaler` returned."""
    if tensors:
        state = {"scale": float(tensors["scale"]), "_growth_tracker": int(tensors["grown"])}
        scaler.load_state_dict({**scaler.state_dict(), **state})


def suit_device(spec: GeneratorSpec, device: str = "auto") -> GeneratorSpec:
    """Return `spec` with the nearest precision that the device is fast at.

    That is float32 on Apple GPUs, and on processors without instructions for products of bf16.
    """
    if not isinstance(spec, TrainSpec) or spec.precision == "float32":
        return spec
    device_type, precision = devices.find_device(device).type, spec.precision
    if device_type == "cuda":
        if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            precision = "fp16"
    elif device_type != "cpu" or precision != "bf16" or not multiplies_bf16():
        precision = "float32"
    if precision != spec.precision:
        progress.say(
            f"training in {precision}: this device ({device_type}) is not fast at {spec.precision}"
        )
    return spec.model_copy(update={"precision": precision})


def multiplies_bf16() -> bool:
    """Return whether this processor has instructions for products of bf16 numbers."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

"""ONNX files written by hand: a YuNet that takes the lightest square of 32 pixels for a face."""

import numpy as np


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer: a number, or bytes with their length."""
    if isinstance(value, int):
        return number_of(number << 3) + number_of(value)
    content = value.encode() if isinstance(value, str) else value
    return number_of(number << 3 | 2) + number_of(len(content)) + content


def number_of(value: int) -> bytes:
    """A number in groups of seven bits."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def node(kind: str, inputs: list[str], output: str, **ints: list[int]) -> bytes:
    """An operation."""
    attributes = [
        field(5, field(1, name) + b"".join(field(8, value) for value in values) + field(20, 7))
        for name, values in ints.items()
    ]
    given = b"".join(field(1, name) for name in inputs)
    return field(
        1, given + field(2, output) + field(3, output) + field(4, kind) + b"".join(attributes)
    )


def tensor(name: str, values: np.ndarray) -> bytes:
    """A constant."""
    kind = 7 if values.dtype == np.int64 else 1
    return field(
        5,
        b"".join(field(1, side) for side in values.shape)
        + field(2, kind)
        + field(8, name)
        + field(9, values.tobytes()),
    )


def value(number: int, name: str, shape: list[int]) -> bytes:
    """An input or output of floats."""
    sides = b"".join(field(1, field(1, side)) for side in shape)
    return field(number, field(1, name) + field(2, field(1, field(1, 1) + field(2, sides))))


def yunet() -> bytes:
    """A YuNet by its inputs and outputs; box and eyes lie at fixed places around the lightest cell
    of 32 pixels.

    The box is as large as four cells, around the cell's middle; the left eye 32 pixels to the left
    of it, the right eye 32 to the right and 16 lower.
    """
    nodes, constants, outputs = [], [], []
    eyes = [-1 + 0.5, 0.5, 1 + 0.5, 1.0, *[0.5] * 6]  # in strides from the cell's corner
    size = float(np.log(4))
    for stride in (8, 16, 32):
        light = 1 / (3 * stride**2 * 255) if stride == 32 else 0.0
        for name, biases in (
            ("cls", [0.0]),
            ("obj", [0.0]),
            ("bbox", [0.5, 0.5, size, size]),
            ("kps", eyes),
        ):
            weight = np.full(
                (len(biases), 3, stride, stride),
                light if name in ("cls", "obj") else 0.0,
                np.float32,
            )
            key = f"{name}_{stride}"
            constants += [
                tensor(f"{key}_w", weight),
                tensor(f"{key}_b", np.array(biases, np.float32)),
            ]
            constants.append(tensor(f"{key}_s", np.array([1, -1, len(biases)], np.int64)))
            sides = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
            nodes += [
                node("Conv", ["input", f"{key}_w", f"{key}_b"], f"{key}_map", **sides),
                node("Transpose", [f"{key}_map"], f"{key}_last", perm=[0, 2, 3, 1]),
                node("Reshape", [f"{key}_last", f"{key}_s"], key),
            ]
            outputs.append(value(12, key, [1, (640 // stride) ** 2, len(biases)]))
    graph = b"".join(
        [*nodes, field(2, "yunet"), *constants, value(11, "input", [1, 3, 640, 640]), *outputs]
    )
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))

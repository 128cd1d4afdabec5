"""Logs of a training for TensorBoard (`pip install mien[tensorboard]`).

Logging changes no result. Steps are counted in images seen, so that trainings with different batch
sizes can be compared. TensorBoard is imported only when it is used.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mien.errors import UsageError
from mien.outside import describe_system_error


class TensorBoardLog:
    """The log of a training; it writes nothing if `writer` is None."""

    def __init__(self, writer: Any) -> None:
        self.writer: Any = writer
        self.rows = 0

    def log_losses(self, rows: Sequence[Sequence[float | int]], rate: float) -> None:
        """Log the learning rate and the last row (step, images seen, loss), if it is new."""
        if self.writer is not None and len(rows) > self.rows:
            self.rows = len(rows)
            _, images_seen, loss = rows[-1]
            self.writer.add_scalar("loss", loss, int(images_seen))
            self.writer.add_scalar("learning rate", rate, int(images_seen))

    def log_levels(self, rows: Sequence[Sequence[float | int]]) -> None:
        """Log the losses at each noise level after one step: rows of `heldout.LEVEL_COLUMNS`."""
        if self.writer is None:
            return
        for _, images_seen, _, noise_level, train, held_out in rows:
            self.writer.add_scalar(f"level {noise_level:.2g}/train", train, int(images_seen))
            self.writer.add_scalar(f"level {noise_level:.2g}/held out", held_out, int(images_seen))


@contextmanager
def open_log(folder: Path | None, run: str, images_seen: int = 0) -> Iterator[TensorBoardLog]:
    """Yield the log of a run in `folder`; entries at more than `images_seen` images are purged."""
    if folder is None:
        yield TensorBoardLog(None)
        return
    writer = _import_writer()(str(folder / run), purge_step=images_seen)
    try:
        yield TensorBoardLog(writer)
    finally:
        writer.close()


def show_sheet(folder: Path, run: str, sheet: Path, images_seen: int) -> None:
    """Log the sheet of sample images of a finished training."""
    with (
        open_log(folder, run, images_seen + 1) as training_log,
        Image.open(sheet, formats=("PNG",)) as image,
    ):
        training_log.writer.add_image(
            "sheet", np.asarray(image.convert("RGB")), images_seen, dataformats="HWC"
        )


def require_tensorboard(folder: Path) -> None:
    """Raise UsageError unless TensorBoard is installed and `folder` can be written.

    The folder is created if it does not exist.
    """
    _import_writer()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--tensorboard must name a writable folder; {describe_system_error(error, folder)}"
        ) from None


def _import_writer() -> Any:
    try:
        import tensorboard  # noqa: F401
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            f"--tensorboard needs TensorBoard, which is not installed ({error}); run pip install "
            "'mien[tensorboard]'"
        ) from None
    return SummaryWriter

"""What TensorBoard shows of a training: an extra (`pip install mien[tensorboard]`), imported when
asked for.

It only watches. Steps are counted in images seen, so that trainings with other batches lie beside
each other.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mien.errors import UsageError
from mien.outside import told


class Board:
    """Where a training's figures go; nowhere if `writer` is None."""

    def __init__(self, writer: Any) -> None:
        self.writer: Any = writer
        self.rows = 0

    def losses(self, rows: Sequence[Sequence[float | int]], rate: float) -> None:
        """Show the last of the rows (step, images seen, loss) if it is new, beside the learning
        rate.
        """
        if self.writer is not None and len(rows) > self.rows:
            self.rows = len(rows)
            _, seen, loss = rows[-1]
            self.writer.add_scalar("loss", loss, int(seen))
            self.writer.add_scalar("learning rate", rate, int(seen))

    def levels(self, rows: Sequence[Sequence[float | int]]) -> None:
        """Show the losses of one moment at each noise level: rows of `heldout.COLUMNS`."""
        if self.writer is None:
            return
        for _, seen, _, level, train, held_out in rows:
            self.writer.add_scalar(f"level {level:.2g}/train", train, int(seen))
            self.writer.add_scalar(f"level {level:.2g}/held out", held_out, int(seen))


@contextmanager
def opened(folder: Path | None, run: str, seen: int = 0) -> Iterator[Board]:
    """Yield the board of a run in `folder`, where later figures than those at `seen` images are
    forgotten.
    """
    if folder is None:
        yield Board(None)
        return
    writer = _writer()(str(folder / run), purge_step=seen)
    try:
        yield Board(writer)
    finally:
        writer.close()


def show_sheet(folder: Path, run: str, sheet: Path, seen: int) -> None:
    """Show the sheet of images that a finished training drew."""
    with opened(folder, run, seen + 1) as board, Image.open(sheet, formats=("PNG",)) as image:
        board.writer.add_image("sheet", np.asarray(image.convert("RGB")), seen, dataformats="HWC")


def require(folder: Path) -> None:
    """Raise UsageError unless TensorBoard is installed and `folder`, which is made if need be, can
    be written.
    """
    _writer()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--tensorboard must name a folder that can be written; {told(error, folder)}"
        ) from None


def _writer() -> Any:
    try:
        import tensorboard  # noqa: F401
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            f"--tensorboard must have TensorBoard installed, and it is not ({error}); pip install "
            "'mien[tensorboard]'"
        ) from None
    return SummaryWriter

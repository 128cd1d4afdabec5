"""Input from outside: files and names of any content, and system errors.

Texts are read with a limit and only from regular files, control characters are printed as escapes,
files that a system leaves in any folder are known by name, and an error of the system becomes one
message that says what to do.
"""

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePath

from mien.errors import DataError, UsageError

TEXT_BYTES = 512 << 20  # the largest text that is read: a table of a million rows is smaller

SETTINGS_BYTES = 4 << 20  # the largest file of settings that is read

NO_SPACE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_SHORT_WRITE = re.compile(r"[0-9]+ requested and [0-9]+ written")  # numpy's message for a full disk

_FULL_MESSAGES = ("No space left on device", "Disk quota exceeded", "File too large")

_FOREIGN = re.compile(
    r"(\.DS_Store|\.AppleDouble|\.LSOverride|\.Spotlight-V100|\.Trashes|\.Trash-[0-9]+|\.TemporaryItems"
    r"|\.DocumentRevisions-V100|\.fseventsd|\.VolumeIcon\.icns|\.apdisk|\._.*|Icon\r|__MACOSX"
    r"|thumbs\.db(:encryptable)?|ehthumbs(_vista)?\.db|desktop\.ini|\$RECYCLE\.BIN|System Volume "
    r"Information"
    r"|\.nfs[0-9a-f]+|\.fuse_hidden.*|\.smbdelete.*|\.directory|\.hidden|lost\+found|\.snapshots?|~snapshot"
    r"|@eaDir|@tmp|#recycle|\.~lock\..*#|~\$.*|\.stfolder.*|\.stignore|\.stversions|\.syncthing\..*\.tmp"
    r"|\.dropbox(\.attr|\.cache)?|\.owncloudsync\.log|\.sync_[0-9a-f]+\.db(-shm|-wal)?|\.ipynb_checkpoints)",
    re.IGNORECASE,
)

_ADVICE = {
    errno.ENOENT: "check the path",
    errno.EACCES: "make it readable and writable for you, or choose another path",
    errno.EPERM: "make it readable and writable for you, or choose another path",
    errno.EROFS: "choose a path on a disk that can be written",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOTDIR: "part of this path is a file and must be a folder; check the path",
    errno.EISDIR: "it is a folder and must be a file; check the path",
    errno.ELOOP: "the link leads back to itself; check the path",
    errno.EMFILE: "raise the number of files that may be open (ulimit -n), or give fewer --workers",
    errno.ENFILE: "the machine has too many open files; close some programs",
    errno.ENOMEM: "free memory, or give fewer --workers",
    errno.EIO: "the disk cannot be read or written; check its cables, its mount and its health",
    errno.ESTALE: "the file server no longer has it; mount the disk again",
    errno.EEXIST: "it exists already; move it, or choose another path",
}


def show_controls(text: str, keep: str = "\n\t") -> str:
    """Return a text with its control, format and direction characters as printable escapes.

    An ESC becomes the four characters `\\x1b`, a zero-width space `\\u200b`; the characters of
    `keep` are not changed.
    """
    if text.isprintable():
        return text
    return "".join(char if char in keep else _escape_char(char) for char in text)


def _escape_char(char: str) -> str:
    code = ord(char)
    if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return char
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def is_foreign(path: PurePath | str) -> bool:
    """Whether a path is one that systems leave in any folder, such as .DS_Store.

    Everything in such a folder is foreign too, so `path` should be relative to a folder of ours.
    """
    return any(_FOREIGN.fullmatch(component) for component in PurePath(path).parts)


# Files


def expand_home(path: Path) -> Path:
    """Return the path with `~` and `~user` replaced; raises UsageError for an unknown user."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path} begins with the home folder of a user who is not known here; write the whole "
            "path"
        ) from None


def read_file(
    path: Path, noun: str = "a file", most: int = TEXT_BYTES, fault: type[UsageError] = DataError
) -> bytes:
    """Return the bytes of a regular file of at most `most` bytes; `noun` names it in messages.

    Raises `fault` if it is missing, a folder, a pipe or a device, too large, or cannot be
    read.
    """
    try:
        # A pipe or device could be read without end
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise fault(f"{path} must be {noun}, and is a folder; check the path")
        if not stat.S_ISREG(state.st_mode):
            raise fault(
                f"{path} must be {noun}, and is a pipe, a socket or a device; save it as a file "
                "first"
            )

        # One byte more than is allowed shows that the file is too large
        with path.open("rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        raise fault(f"there must be {noun} at {path}, and there is none; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise fault(
            f"{path} must be {noun} that can be read, and is not: {reason}; check the path"
        ) from None
    if len(content) > most:
        raise fault(
            f"{path} must be {noun} of at most {most >> 20} MB, and is larger; check that it is "
            "the right file"
        )
    return content


def read_text(
    path: Path,
    noun: str = "a text file",
    most: int = TEXT_BYTES,
    fault: type[UsageError] = DataError,
) -> str:
    """Return the text of a regular file in UTF-8, with or without a byte-order mark.

    The limits are those of `read_file`. Raises `fault` also if it is not UTF-8, or holds NUL
    bytes.
    """
    content = read_file(path, noun, most, fault)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise fault(
            f"{path} must be {noun}, written in UTF-8, and line {line} is not; save it as UTF-8"
        ) from None
    if "\0" in text:
        raise fault(
            f"{path} must be {noun}, and holds NUL bytes, which no text file has; check that it is "
            "the right file"
        )
    return text


# Errors of the system


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is full, or that a file is too large."""
    for cause in _walk_causes(error):
        if isinstance(cause, OSError) and (
            cause.errno in NO_SPACE_ERRNOS or _SHORT_WRITE.search(str(cause))
        ):
            return True
        if isinstance(cause, OSError | RuntimeError | ValueError) and any(
            text in str(cause) for text in _FULL_MESSAGES
        ):
            return True
    return False


def describe_system_error(error: OSError, where: Path | str = "") -> str:
    """Return an error of the system as a message: which path, what happened, what to do.

    `where` is the path where the error names none.
    """
    filename = error.filename if isinstance(error.filename, str | bytes) else where
    path = os.fsdecode(filename) if filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    if is_disk_full(error):
        on_disk = f" on the disk of {path}" if path else ""
        return (
            f"there is no space left{on_disk} ({reason}); make room there, and give the same "
            "command again"
        )
    advice = _ADVICE.get(error.errno or 0, "fix that, or choose another path")
    return f"{path}: {reason}; {advice}" if path else f"{reason}; {advice}"


def _walk_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    visited: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in visited:
        visited.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__

"""Sending a release to a hub: private first, public only on request.

An extra, `pip install 'mien[hub]'`. HF_ENDPOINT and HF_TOKEN name the hub and the account, as for
all of huggingface_hub.
"""

import contextlib
import glob
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from mien.errors import DataError, GateRefused, UsageError
from mien.pages.escape import make_printable
from mien.publish.checking import check, list_members, open_release
from mien.runs.files import hash_file
from mien.runs.progress import quantify, say

Access = Literal["private", "gated", "public"]

ACCESS: tuple[Access, ...] = ("private", "gated", "public")


def push(
    folder: Path, repository: str, access: str = "private", *, dry_run: bool = False
) -> list[str]:
    """Send the release in `folder` to the dataset repository OWNER/NAME; return the steps done.

    The release is checked first. A new repository is private until all files have arrived and been
    compared; `gated` then opens it to those whom its owner admits, `public` to everyone. Files of
    an older version that are not in this one are deleted there. `dry_run` sends nothing.

    Raises UsageError for a wrong argument or a repository that cannot be written, GateRefused if a
    private build would be opened, and DataError if the release has a fault or arrives damaged.
    """
    # Refuse what must not be sent
    if access not in ACCESS:
        raise UsageError(f"access must be one of {', '.join(ACCESS)}; given: '{access}'")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise UsageError(f"the repository must be given as OWNER/NAME; given: '{repository}'")
    release = open_release(folder)
    if release["private"] and access != "private":
        raise GateRefused(
            f"{folder} was built with --private, and must not be {access}: build it without "
            "--private, or push with --access private"
        )
    foreign = check(folder, libraries=False).foreign
    if foreign:
        rest_text = " and more" * (len(foreign) > 5)
        say(f"ignored, and not sent: {', '.join(foreign[:5])}{rest_text}")

    # Describe the steps
    files = sorted(list_members(folder)[0].values())
    size = sum(path.stat().st_size for path in files)
    steps = [
        f"make the dataset repository {repository}, private",
        f"send {quantify(len(files), 'file')}, {size / 1e6:.1f} MB, version {release['version']}",
        "compare what arrived with checksums.sha256",
    ]
    if access == "gated":
        steps.append("open it: gated, the owner admits each person who asks")
    if access == "public":
        steps.append("open it: public, to everyone")
    if dry_run:
        return steps

    # Send, and open the repository only once everything has arrived
    library = _import_huggingface_hub()
    api = library.HfApi()
    try:
        with _silence_hub(library):
            _send(api, folder, repository, access, files, release["version"], steps)
            if access != "private":
                gated = "manual" if access == "gated" else False
                api.update_repo_settings(
                    repository, repo_type="dataset", gated=gated, private=False
                )
    # No network, no permission, or an invalid name
    except (library.errors.HTTPError, OSError, ValueError) as error:
        reason = make_printable(str(error).strip().split("\n")[0])[:200]
        raise UsageError(
            f"{repository} must be a repository at {api.endpoint} that can be written, and that "
            f"failed ({type(error).__name__}: {reason}). Check network, name and HF_TOKEN; what "
            "was sent stays private"
        ) from None
    return steps


def _send(
    api: Any,
    folder: Path,
    repository: str,
    access: str,
    files: Sequence[Path],
    version: str,
    steps: Sequence[str],
) -> None:
    """Make the repository, send all files, and compare what arrived."""
    # An open repository must not receive what was to stay private
    say(steps[0])
    api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
    if access == "private" and not api.repo_info(repository, repo_type="dataset").private:
        raise UsageError(
            f"{repository} exists and is open already: give --access gated or public, or send to "
            "another repository"
        )

    # Everything but what systems and hubs left in the folder
    say(steps[1])
    ignored = [glob.escape(name) + end for name in list_members(folder)[1] for end in ("", "/*")]
    api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        repo_type="dataset",
        commit_message=f"Version {version}",
        ignore_patterns=ignored or None,
        delete_patterns="*",
    )

    # Compare by content, as the hub reports it
    say(steps[2])
    arrived = {
        entry.path: entry
        for entry in api.list_repo_tree(repository, repo_type="dataset", recursive=True)
    }
    names = {path: path.relative_to(folder).as_posix() for path in files}
    damaged = [name for path, name in names.items() if not _has_arrived(path, arrived.get(name))]
    if damaged:
        raise DataError(
            f"{repository} must hold what was sent, and {len(damaged)} of "
            f"{quantify(len(files), 'file')} are not as they are here: {', '.join(damaged[:5])}; "
            "push again"
        )


def _has_arrived(path: Path, entry: Any) -> bool:
    """Whether an entry of the repository has the content of `path`.

    The hub states the sha256 of large files, and git's digest of all others.
    """
    if entry is None or getattr(entry, "size", None) != path.stat().st_size:
        return False
    if entry.lfs is not None:
        return entry.lfs.sha256 == hash_file(path)
    content = path.read_bytes()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextlib.contextmanager
def _silence_hub(library: Any) -> Iterator[None]:
    """Silence the hub's own lines and progress bars; mien reports each step once."""
    logger, bars_disabled = (
        logging.getLogger("huggingface_hub"),
        library.utils.are_progress_bars_disabled(),
    )
    log_level = logger.level
    logger.setLevel(logging.CRITICAL)
    if not bars_disabled:
        library.utils.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(log_level)
        if not bars_disabled:
            library.utils.enable_progress_bars()


def _import_huggingface_hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(
            "push needs huggingface_hub, which is not installed: pip install 'mien[hub]'"
        ) from None
    return huggingface_hub

"""Sending a release to a repository of a hub: private first, then gated or public only when asked
for.

An extra, `pip install 'mien[hub]'`. Where HF_ENDPOINT and HF_TOKEN point is where it goes, as for
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
from mien.escape import printable
from mien.progress import many, say
from mien.publish.checking import check, members, open_release
from mien.store import sha256

Access = Literal["private", "gated", "public"]
ACCESS: tuple[Access, ...] = ("private", "gated", "public")


def push(
    folder: Path, repository: str, access: str = "private", *, dry_run: bool = False
) -> list[str]:
    """Send the release in `folder` to the dataset repository OWNER/NAME, and return what was done,
    step by step.

    The release is checked first. A new repository is made private, and stays so until all files are
    there and have been compared; `gated` then opens it to whom its owner lets in, `public` to
    everyone. Files of an older version that are not in this one are deleted there. `dry_run` sends
    nothing.

    Raises GateRefused if a private build is to be opened, DataError if the release has a fault or
    did not arrive whole.
    """
    if access not in ACCESS:
        raise UsageError(f"access must be one of {', '.join(ACCESS)}; given: '{access}'")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise UsageError(f"the repository must be given as OWNER/NAME; given: '{repository}'")
    told = open_release(folder)
    if told["private"] and access != "private":
        raise GateRefused(
            f"{folder} was built with --private, and must not be {access}: build it without, or "
            "push private"
        )
    found = check(folder, libraries=False)
    if found.foreign:
        say(
            "passed over, and not sent: "
            f"{', '.join(found.foreign[:5])}{' and more' * (len(found.foreign) > 5)}"
        )
    files = sorted(members(folder)[0].values())
    size = sum(path.stat().st_size for path in files)
    steps = [
        f"make the dataset repository {repository}, private",
        f"send {many(len(files), 'file')}, {size / 1e6:.1f} MB, version {told['version']}",
        "compare what arrived with checksums.sha256",
    ]
    if access != "private":
        steps.append(
            f"open it: {access}"
            + (", by hand for each who asks" if access == "gated" else " to everyone")
        )
    if dry_run:
        return steps
    library = _library()
    api = library.HfApi()
    try:
        with _quiet(library):
            _send(api, folder, repository, access, files, told["version"], steps)
            if access != "private":
                gated = "manual" if access == "gated" else False
                api.update_repo_settings(
                    repository, repo_type="dataset", gated=gated, private=False
                )
    except (
        library.errors.HTTPError,
        OSError,
        ValueError,
    ) as error:  # no network, no right, no such name
        told_first = printable(str(error).strip().split("\n")[0])[:200]
        raise UsageError(
            f"{repository} must be a repository at {api.endpoint} that can be written, and that "
            "failed "
            f"({type(error).__name__}: {told_first}). Check network, name and HF_TOKEN; what was "
            "sent stays private"
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
    say(steps[0])
    api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
    if access == "private" and not api.repo_info(repository, repo_type="dataset").private:
        raise UsageError(
            f"{repository} is there and open already: say --access gated or public, or send to "
            "another"
        )
    say(steps[1])
    left = [glob.escape(name) + end for name in members(folder)[1] for end in ("", "/*")]
    api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        repo_type="dataset",
        commit_message=f"Version {version}",
        ignore_patterns=left or None,
        delete_patterns="*",
    )
    say(steps[2])
    there = {
        one.path: one for one in api.list_repo_tree(repository, repo_type="dataset", recursive=True)
    }
    lost = [
        name
        for path in files
        if not _arrived(path, there.get(name := path.relative_to(folder).as_posix()))
    ]
    if lost:
        raise DataError(
            f"{repository} must hold what was sent, and {len(lost)} of {many(len(files), 'file')} "
            "are not "
            "as they are here: "
            f"{', '.join(lost[:5])}; push again"
        )


def _arrived(path: Path, there: Any) -> bool:
    """Whether a file of the repository has the content of `path`: large ones are told by sha256,
    others as git does.
    """
    if there is None or getattr(there, "size", None) != path.stat().st_size:
        return False
    if there.lfs is not None:
        return there.lfs.sha256 == sha256(path)
    data = path.read_bytes()
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Keep the hub's own lines, bars and tries away: what is said is said by mien, once."""
    log, bars = logging.getLogger("huggingface_hub"), library.utils.are_progress_bars_disabled()
    before = log.level
    log.setLevel(logging.CRITICAL)
    if not bars:
        library.utils.disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(before)
        if not bars:
            library.utils.enable_progress_bars()


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(
            "push must have huggingface_hub, which is not installed: pip install 'mien[hub]'"
        ) from None
    return huggingface_hub

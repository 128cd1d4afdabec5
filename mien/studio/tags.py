"""Tags of images, kept in a small file of the store, with undo."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mien.errors import StoreError, UsageError
from mien.runs.files import read_json, write_json_file
from mien.runs.store import Store

TAG_CHARACTERS = 40

UNDONE_CHANGES = 100  # changes that can be undone


class Tags:
    """The tags of a store: studio/tags.json.

    The file has `tags`, the keys of the images by run and tag, and `changes`, the last changes,
    each with its run, tag and the keys that got the tag or lost it. It is read before each change,
    so that two pages, or two studios, do not undo each other's work.
    """

    def __init__(self, store: Store) -> None:
        self.path: Path = store.root / "studio" / "tags.json"
        self._lock = threading.Lock()

    def read(self, run: str) -> dict[str, list[str]]:
        """Return the keys of the tagged images of a run by tag, in the order of the tags."""
        tags = self._read_file()["tags"].get(run, {})
        return {tag: list(keys) for tag, keys in sorted(tags.items()) if keys}

    def change(self, run: str, tag: str, keys: Iterable[str], add: bool) -> int:
        """Give images a tag, or take it from them; return how many images this changed.

        Raises UsageError unless the tag is a short text of one line.
        """
        tag = tag.strip()
        if not tag or len(tag) > TAG_CHARACTERS or not tag.isprintable():
            raise UsageError(f"a tag must have 1 to {TAG_CHARACTERS} printable characters")
        with self._lock:
            content = self._read_file()
            had = content["tags"].setdefault(run, {}).setdefault(tag, [])
            known = set(had)
            changed = [key for key in dict.fromkeys(keys) if (key in known) != add]
            self._apply(content, run, tag, changed, add)
            if changed:
                change = {"run": run, "tag": tag, "keys": changed, "add": add}
                content["changes"] = [*content["changes"], change][-UNDONE_CHANGES:]
                self._write(content)
        return len(changed)

    def undo(self) -> dict[str, Any] | None:
        """Undo the last change; return it, or None if there is nothing to undo."""
        with self._lock:
            content = self._read_file()
            if not content["changes"]:
                return None
            change = content["changes"].pop()
            self._apply(content, change["run"], change["tag"], change["keys"], not change["add"])
            self._write(content)
        return change

    def count_changes(self) -> int:
        """Return how many changes can be undone."""
        return len(self._read_file()["changes"])

    def _apply(
        self, content: dict[str, Any], run: str, tag: str, keys: list[str], add: bool
    ) -> None:
        had = content["tags"].setdefault(run, {}).setdefault(tag, [])
        moved = set(keys)
        kept = [key for key in had if key not in moved]
        content["tags"][run][tag] = [*kept, *keys] if add else kept

    def _read_file(self) -> dict[str, Any]:
        """Return the content of the file, an empty one if there is none.

        Raises StoreError for a damaged file, which is never written over.
        """
        if not self.path.exists():
            return {"tags": {}, "changes": []}
        content = read_json(self.path)
        if not isinstance(content, dict) or not isinstance(content.get("tags"), dict):
            raise StoreError(f"{self.path} must hold tags, and is damaged; move it away")
        changes = content.get("changes")
        return {"tags": content["tags"], "changes": changes if isinstance(changes, list) else []}

    def _write(self, content: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json_file(self.path, content)

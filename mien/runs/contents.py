"""What a run holds, in a few words."""

from typing import TYPE_CHECKING

from mien.runs.progress import quantify

if TYPE_CHECKING:
    from mien.runs.store import Run


def describe_content(run: "Run") -> str:
    """Return in a few words what a run holds."""
    summary = run.summary
    if "holds" in summary:
        return str(summary["holds"])
    total = next((row for row in summary.get("counts", []) if row["class"] == "total"), None)
    if total is None:
        return run.stage
    return ", ".join(
        quantify(total[f"{name}s"], name)
        for name in ("image", "clip", "subject")
        if total[f"{name}s"]
    )

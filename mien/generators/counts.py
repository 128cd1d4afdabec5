"""Counts: how many images of each class a database gets, as people write it on the command line and
in studies.
"""

from collections.abc import Callable, Mapping, Sequence

from mien.errors import UsageError
from mien.faces import EMOTIONS
from mien.progress import many
from mien.published import TABLE_2
from mien.spec import nearest

DIGITS = 12  # more than any database has
FORMS = (
    "'preprint', 'like', 'like:DATASET', 'balanced:N' (N in all), or emotions, each once, as "
    "in 'happiness=100,fear=50'"
)


def parse_counts(
    text: str, faces_counts: Callable[[str], dict[str, int]], classes: Sequence[str]
) -> dict[str, int]:
    """Return images an emotion for `text`; `classes` are those that the generator saw.

    `preprint` is the preprint's Table 2; `like` what `faces_counts` says of "", the faces that the
    generator saw, and `like:DATASET` what it says of a dataset; `balanced:N` N images in all,
    shared equally over `classes`, what is left over going to the first. `happiness=100,fear=50` is
    itself, and behind one of the others it changes single classes: `like,happiness=40`; 0 leaves a
    class out.

    Raises UsageError on anything else, an unknown emotion, a class that the generator never saw, or
    fewer images in all than there are classes to share them.
    """
    base, changes = _parts(text)
    if base == "preprint":
        counts = dict(TABLE_2)
    elif base == "like" or base.removeprefix("like:") not in ("", base):
        counts = faces_counts(base.removeprefix("like").removeprefix(":"))
    elif base.startswith("balanced:"):
        counts = _shared(_number(base.removeprefix("balanced:"), text, 1), classes, text)
    elif base:
        raise UsageError(f"counts must be {FORMS}; given: '{text}'")
    else:
        counts = {}
    counts |= changes
    _require_known([*counts], {name for name, count in counts.items() if count}, classes, text)
    found = {name: count for name, count in counts.items() if count > 0}
    if not found:
        raise UsageError(f"counts '{text}' must ask for one image or more, and they ask for none")
    return found


def _parts(text: str) -> tuple[str, dict[str, int]]:
    """Return what stands in front (nothing, for a list of emotions alone), and the counts of single
    emotions.
    """
    base, changes = "", dict[str, int]()
    for place, part in enumerate(text.split(",")):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if place == 0 and name and not equals:
            base = name
        elif not equals or not name or name in changes:
            raise UsageError(f"counts must be {FORMS}; given: '{text}'")
        else:
            changes[name] = _number(number, text, 0 if base else 1)
    return base, changes


def _shared(total: int, classes: Sequence[str], text: str) -> dict[str, int]:
    """Return `total` images shared equally over the classes, what is left over going to the
    first.
    """
    each, more = divmod(total, len(classes))
    if not each:
        raise UsageError(
            f"counts '{text}': balanced:N is N images in all, shared equally over "
            f"{many(len(classes), 'class')} "
            f"({', '.join(classes)}), and {total} would leave some without any; give "
            f"balanced:{len(classes)} or more, "
            f"or balanced:{total * len(classes)} for {total} of each"
        )
    return {name: each + (place < more) for place, name in enumerate(classes)}


def _require_known(
    names: Sequence[str], wanted: set[str], classes: Sequence[str], text: str
) -> None:
    unknown = [name for name in names if name not in EMOTIONS]
    if unknown:
        raise UsageError(
            f"counts '{text}': there is no emotion "
            f"'{unknown[0]}'.{nearest(unknown[0], list(EMOTIONS))} "
            f"The emotions are {', '.join(EMOTIONS)}"
        )
    unseen = [name for name in names if name in wanted and name not in classes]
    if unseen:
        zero = f"; '{text},{unseen[0]}=0' leaves it out" if "=" not in text.split(",")[0] else ""
        raise UsageError(
            f"counts '{text}' must name only what the generator has seen, which is "
            f"{', '.join(classes)}; "
            f"it never saw {', '.join(unseen)}{zero}"
        )


def _number(digits: str, text: str, least: int) -> int:
    if not (
        digits.isascii() and digits.isdigit() and len(digits) <= DIGITS and int(digits) >= least
    ):
        shown = digits if len(digits) <= 2 * DIGITS else f"{digits[:DIGITS]}..."
        text = text if len(text) <= 200 else f"{text[:100]}..."
        raise UsageError(
            f"counts '{text}': '{shown}' must be a whole number {'above 0' if least else 'from 0'}"
        )
    return int(digits)


def uneven(counts: Mapping[str, int], text: str) -> str:
    """Say what each class gets where `balanced:N` cannot be shared out equally, nothing where it
    can.
    """
    fewest = min(counts.values())
    if not text.startswith("balanced:") or "," in text or len(set(counts.values())) == 1:
        return ""
    more = [name for name, count in counts.items() if count > fewest]
    whole = len(counts) * fewest
    return (
        f"{text} is {many(sum(counts.values()), 'image')} in all: {fewest:,} of each class, and "
        "one more of "
        f"{', '.join(more)}; balanced:{whole} or balanced:{whole + len(counts)} is equal"
    )

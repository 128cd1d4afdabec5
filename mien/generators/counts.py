"""Counts: images per class of a database, as written on the command line."""

from collections.abc import Callable, Mapping, Sequence

from mien.errors import UsageError
from mien.faces import EMOTIONS
from mien.published import TABLE_2
from mien.runs.progress import count_of
from mien.runs.spec import suggest

MAX_DIGITS = 12  # the longest number that is read: more images than any database has

FORMS = (
    "'preprint', 'like', 'like:DATASET', 'each:N' (N per class), 'balanced:N' (N in all), or "
    "emotions, each once, as in "
    "'happiness=100,fear=50'"
)


def parse_counts(
    text: str, count_faces: Callable[[str], dict[str, int]], classes: Sequence[str]
) -> dict[str, int]:
    """Return the images per emotion that `text` names; `classes` are those of the
    generator.

    - `preprint`: Table 2 of the preprint
    - `like`: the counts of the faces that the generator was trained on, `count_faces("")`
    - `like:DATASET`: the counts of a dataset, `count_faces("DATASET")`
    - `each:N`: N images of each of `classes`
    - `balanced:N`: N images in all, shared equally over `classes`; a remainder goes to the first
    - `happiness=100,fear=50`: the counts of single emotions. After one of the other forms it
      changes single classes, as in `like,happiness=40`; 0 removes a class.

    Raises UsageError for anything else, for an unknown emotion, for a class that the generator was
    not trained on, and for fewer images in all than classes.
    """
    # What the text says, class by class
    base, changes = _split_terms(text)
    if base == "preprint":
        counts = dict(TABLE_2)
    elif base == "like" or base.removeprefix("like:") not in ("", base):
        counts = count_faces(base.removeprefix("like").removeprefix(":"))
    elif base.startswith("each:"):
        counts = dict.fromkeys(classes, _parse_number(base.removeprefix("each:"), text, 1))
    elif base.startswith("balanced:"):
        counts = _share_equally(
            _parse_number(base.removeprefix("balanced:"), text, 1), classes, text
        )
    elif base:
        raise UsageError(f"counts must be {FORMS}; given: '{text}'")
    else:
        counts = {}
    counts |= changes

    # At least one image, and only of classes that the generator knows
    _require_known([*counts], {name for name, count in counts.items() if count}, classes, text)
    positive = {name: count for name, count in counts.items() if count > 0}
    if not positive:
        raise UsageError(f"counts '{text}' must ask for at least one image, and ask for none")
    return positive


def _split_terms(text: str) -> tuple[str, dict[str, int]]:
    """Return the base form (empty for a list of emotions), and the counts of single emotions."""
    base, changes = "", dict[str, int]()
    for position, term in enumerate(text.split(",")):
        name, equals, number = (piece.strip() for piece in term.partition("="))
        if position == 0 and name and not equals:
            base = name
        elif not equals or not name or name in changes:
            raise UsageError(f"counts must be {FORMS}; given: '{text}'")
        else:
            changes[name] = _parse_number(number, text, 0 if base else 1)
    return base, changes


def _share_equally(total: int, classes: Sequence[str], text: str) -> dict[str, int]:
    """Return `total` images shared equally over the classes; a remainder goes to the first."""
    per_class, remainder = divmod(total, len(classes))
    if not per_class:
        raise UsageError(
            f"counts '{text}': balanced:N is N images in all, shared equally over "
            f"{count_of(len(classes), 'class')} ({', '.join(classes)}), and {total} would leave "
            f"some classes without images; give balanced:{len(classes)} or more, or each:{total} "
            f"for {total} of each"
        )
    return {name: per_class + (position < remainder) for position, name in enumerate(classes)}


def _require_known(
    names: Sequence[str], wanted: set[str], classes: Sequence[str], text: str
) -> None:
    unknown = [name for name in names if name not in EMOTIONS]
    if unknown:
        raise UsageError(
            f"counts '{text}': there is no emotion "
            f"'{unknown[0]}'.{suggest(unknown[0], list(EMOTIONS))} The emotions are "
            f"{', '.join(EMOTIONS)}"
        )
    unseen = [name for name in names if name in wanted and name not in classes]
    if unseen:
        zero = f"; '{text},{unseen[0]}=0' leaves it out" if "=" not in text.split(",")[0] else ""
        raise UsageError(
            f"counts '{text}' must name only classes that the generator was trained on, which are "
            f"{', '.join(classes)}; it was not trained on {', '.join(unseen)}{zero}"
        )


def _parse_number(digits: str, text: str, least: int) -> int:
    if not (
        digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS and int(digits) >= least
    ):
        shown = digits if len(digits) <= 2 * MAX_DIGITS else f"{digits[:MAX_DIGITS]}..."
        text = text if len(text) <= 200 else f"{text[:100]}..."
        raise UsageError(
            f"counts '{text}': '{shown}' must be a whole number {'above 0' if least else 'from 0'}"
        )
    return int(digits)


def note_uneven(counts: Mapping[str, int], text: str) -> str:
    """Return a note for a `balanced:N` that does not divide evenly, else an empty text."""
    fewest = min(counts.values())
    if not text.startswith("balanced:") or "," in text or len(set(counts.values())) == 1:
        return ""
    more = [name for name, count in counts.items() if count > fewest]
    multiple = len(counts) * fewest
    return (
        f"{text} is {count_of(sum(counts.values()), 'image')} in all: {fewest:,} of each class, "
        f"and one more of {', '.join(more)}; balanced:{multiple} or "
        f"balanced:{multiple + len(counts)} gives equal classes"
    )

"""Counts: images per class of a database, as written on the command line."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from mien.errors import UsageError
from mien.faces import EMOTIONS
from mien.published import TABLE_2
from mien.runs.progress import quantify
from mien.runs.spec import suggest

MAX_DIGITS = 12  # the longest number that is read: more images than any database has

FORMS = (
    "'preprint', 'like', 'like:DATASET', 'like*N' (N times as many), 'each:N' (N per class), "
    "'balanced:N' (N in all), "
    "'only,happiness=100' (no other class), or emotions, each once, as in 'happiness=100,fear=50'"
)


def parse_counts(
    text: str,
    count_faces: Callable[[str], dict[str, int]],
    classes: Sequence[str],
    required: Sequence[str] | None = None,
) -> dict[str, int]:
    """Return the images per emotion that `text` names; `classes` are those of the generator.

    Classes without images are not in the result. `required` are those that must have images unless
    the text asks for none of them (default: `classes`).

    - `preprint`: Table 2 of the preprint
    - `like`: the counts of the faces that the generator was trained on, `count_faces("")`
    - `like:DATASET`: the counts of a dataset, `count_faces("DATASET")`
    - `like*N`, `like:DATASET*N`: N times as many, rounded, but one image of each class or more;
      N is a number such as 2 or 0.5
    - `each:N`: N images of each of `classes`
    - `balanced:N`: N images in all, shared equally over `classes`; a remainder goes to the first
    - `happiness=100,fear=50`: the counts of single emotions. After one of the other forms it
      changes single classes, as in `like,happiness=40`; 0 removes a class.
    - `only,happiness=100`: no images of the classes that are not named

    Raises UsageError for anything else, for an unknown emotion, for a class that the generator was
    not trained on, for fewer images in all than classes, and for a required class without images
    that the text does not ask to leave out.
    """
    # What the text says, class by class
    base, changes = _split_terms(text)
    rule, times, factor = (part.strip() for part in base.partition("*"))
    if base == "preprint":
        counts = dict(TABLE_2)
    elif rule == "like" or rule.removeprefix("like:") not in ("", rule):
        counts = count_faces(rule.removeprefix("like").removeprefix(":"))
        counts = _multiply(counts, factor, text) if times else counts
    elif base.startswith("each:"):
        counts = dict.fromkeys(classes, _parse_number(base.removeprefix("each:"), text, 1))
    elif base.startswith("balanced:"):
        counts = _share_equally(
            _parse_number(base.removeprefix("balanced:"), text, 1), classes, text
        )
    elif base and base != "only":
        raise UsageError(f"counts must be {FORMS}; given: '{text}'")
    else:
        counts = {}
    counts |= changes

    # Only classes that the generator knows, and all of them unless the text leaves one out
    _require_known(counts, set(changes), classes, text)
    positive = {name: count for name, count in counts.items() if count > 0}
    if not positive:
        raise UsageError(f"counts '{text}' must ask for at least one image, and ask for none")
    if base != "only":
        chosen = {**dict.fromkeys(classes if required is None else required, 0), **counts}
        _require_images(chosen, set(changes), text)
    return positive


def _split_terms(text: str) -> tuple[str, dict[str, int]]:
    """Return the base form (empty for a list of emotions), and the counts of single emotions."""
    base, changes = "", dict[str, int]()
    for position, term in enumerate(text.split(",")):
        name, equals, number = (word.strip() for word in term.partition("="))
        if position == 0 and name and not equals:
            base = name
        elif not equals or not name or name in changes:
            raise UsageError(f"counts must be {FORMS}; given: '{text}'")
        else:
            changes[name] = _parse_number(number, text, 0)
    return base, changes


def _multiply(counts: Mapping[str, int], factor: str, text: str) -> dict[str, int]:
    """Return the counts times a factor, rounded, and at least 1 where there was an image."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", factor) or not Fraction(factor):
        factor = factor if len(factor) <= 2 * MAX_DIGITS else f"{factor[:MAX_DIGITS]}..."
        raise UsageError(
            f"counts '{text[:100]}': '{factor}' must be a number above 0, such as 2 or 0.5, with "
            "up to six digits before and after the point"
        )
    half = Fraction(1, 2)
    return {
        name: max(1, math.floor(count * Fraction(factor) + half)) if count else 0
        for name, count in counts.items()
    }


def _share_equally(total: int, classes: Sequence[str], text: str) -> dict[str, int]:
    """Return `total` images shared equally over the classes; a remainder goes to the first."""
    per_class, remainder = divmod(total, len(classes))
    if not per_class:
        raise UsageError(
            f"counts '{text}': balanced:N is N images in all, shared equally over "
            f"{quantify(len(classes), 'class')} ({', '.join(classes)}), and {total} would leave "
            f"some classes without images; give balanced:{len(classes)} or more, or each:{total} "
            f"for {total} of each"
        )
    return {name: per_class + (position < remainder) for position, name in enumerate(classes)}


def _require_known(
    counts: Mapping[str, int], asked: set[str], classes: Sequence[str], text: str
) -> None:
    """Raise UsageError for an unknown emotion, or one that the generator was not trained on.

    `asked` are the emotions that the text names one by one.
    """
    unknown = [name for name in counts if name not in EMOTIONS]
    if unknown:
        raise UsageError(
            f"counts '{text}': there is no emotion "
            f"'{unknown[0]}'.{suggest(unknown[0], list(EMOTIONS))} The emotions are "
            f"{', '.join(EMOTIONS)}"
        )
    unseen = [name for name, count in counts.items() if count and name not in classes]
    if unseen:
        zeros = "" if set(unseen) & asked else ",".join(f"{name}=0" for name in unseen)
        hint = f"; '{text},{zeros}' leaves {'it' if len(unseen) == 1 else 'them'} out"
        raise UsageError(
            f"counts '{text}' must name only classes that the generator was trained on, which are "
            f"{', '.join(classes)}; it was not trained on {', '.join(unseen)}"
            f"{hint if zeros else ''}"
        )


def _require_images(counts: Mapping[str, int], asked: set[str], text: str) -> None:
    """Raise UsageError if a class has no images and is not among those that were `asked` for."""
    empty = [name for name, count in counts.items() if count == 0 and name not in asked]
    if empty:
        zeros = ",".join(f"{name}=0" for name in empty)
        raise UsageError(
            f"counts '{text}' must give images to every class that the generator was trained on; "
            f"given: {describe_counts(counts)}. If this is meant, write '{text},{zeros}', or "
            f"name the classes that you want after 'only', as in 'only,{_name_example(counts)}=100'"
        )


def _name_example(counts: Mapping[str, int]) -> str:
    """Return the class that has most images."""
    return max(counts, key=lambda name: counts[name])


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return the number of images of each class, and of all, as `fear 5, disgust 3 (8 in all)`."""
    per_class = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"{per_class} ({sum(counts.values()):,} in all)"


def _parse_number(digits: str, text: str, least: int) -> int:
    if not (
        digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS and int(digits) >= least
    ):
        digits_text = digits if len(digits) <= 2 * MAX_DIGITS else f"{digits[:MAX_DIGITS]}..."
        text = text if len(text) <= 200 else f"{text[:100]}..."
        raise UsageError(
            f"counts '{text}': '{digits_text}' must be a whole number "
            f"{'above 0' if least else 'from 0'}, of at most {MAX_DIGITS} digits"
        )
    return int(digits)


def note_uneven(counts: Mapping[str, int], text: str) -> str:
    """Return a note for a `balanced:N` that does not divide evenly, else an empty text."""
    fewest = min(counts.values())
    if not text.startswith("balanced:") or "," in text or len(set(counts.values())) == 1:
        return ""
    larger = [name for name, count in counts.items() if count > fewest]
    multiple = len(counts) * fewest
    return (
        f"{text} is {quantify(sum(counts.values()), 'image')} in all: {fewest:,} of each class, "
        f"and one more of {', '.join(larger)}; balanced:{multiple} or "
        f"balanced:{multiple + len(counts)} gives equal classes"
    )

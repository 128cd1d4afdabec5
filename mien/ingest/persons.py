"""The identity of people in a listing: spellings of one person's name become one name, and names
that were merged, or that look alike, are reported.
"""

from collections import Counter
from dataclasses import replace

from mien import spellings
from mien.ingest import Finding, IngestSpec, Listing


def folded(listing: Listing, spec: IngestSpec) -> Listing:
    """Return the listing with one name for each person, by the rules of spelling and the spec.

    Raises DataError if the spec's `same_subject` has a name that does not occur.
    """
    rows = listing.rows
    known = spellings.people(Counter(rows["subject"]), spec.same_subject, spec.subjects_as_written)
    subjects = [known.names.get(name, "") for name in rows["subject"]]
    triples = zip(rows["clip"], rows["subject"], subjects, strict=True)
    clips = [spellings.renamed(clip, old, new) for clip, old, new in triples]
    renamed = {old: new for old, new in zip(rows["clip"], clips, strict=True) if old != new}
    return replace(
        listing,
        rows=rows.assign(subject=subjects, clip=clips),
        read={row: renamed.get(gives, gives) for row, gives in listing.read.items()},
        findings=(*listing.findings, *told(known)),
    )


def told(known: spellings.People) -> list[Finding]:
    """Return findings about names that were merged into one person, and about names that look alike
    and were not.
    """
    findings = []
    if known.folded:
        message = (
            "people whose names are spelled in several ways, each read as one person: "
            f"{len(known.folded)}; --subjects-as-written keeps the spellings apart"
        )
        where = spellings.listed(known.folded)
        findings.append(Finding("warning", "one person, several spellings", where, message))

    if known.alike:
        message = (
            f"groups of names that look alike, read as different people: {len(known.alike)}; "
            "--same-subject NAME=OTHER says that two names are one person's"
        )
        where = spellings.listed(known.alike)
        findings.append(Finding("warning", "look-alike subjects", where, message))
    return findings

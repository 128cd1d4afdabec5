"""Who is who in a listing: spellings of one person become one, and what was folded, or looks alike,
is said.
"""

from collections import Counter
from dataclasses import replace

from mien import spellings
from mien.ingest import Finding, IngestSpec, Listing


def folded(listing: Listing, spec: IngestSpec) -> Listing:
    """Return the listing with one name for each person, as far as spellings and the spec tell.

    Raises DataError if the spec says of a name that is not there whose it is.
    """
    rows = listing.rows
    known = spellings.people(Counter(rows["subject"]), spec.same_subject, spec.subjects_as_written)
    subjects = [known.names.get(name, "") for name in rows["subject"]]
    triples = zip(rows["clip"], rows["subject"], subjects, strict=True)
    clips = [spellings.renamed(clip, old, new) for clip, old, new in triples]
    changed = rows.assign(subject=subjects, clip=clips)
    clipped = {old: new for old, new in zip(rows["clip"], clips, strict=True) if old != new}
    read = {row: clipped.get(gives, gives) for row, gives in listing.read.items()}
    return replace(listing, rows=changed, read=read, findings=(*listing.findings, *told(known)))


def told(known: spellings.People) -> list[Finding]:
    """Return what is said of names that were taken for one person's, and of those that were not."""
    findings = []
    if known.folded:
        what = (
            "people whose names are spelled in several ways, each read as one: "
            f"{len(known.folded)}; "
            "--subjects-as-written keeps the spellings apart"
        )
        findings.append(
            Finding(
                "warning", "one person, several spellings", spellings.listed(known.folded), what
            )
        )
    if known.alike:
        what = (
            f"groups of names that look alike, read as different people: {len(known.alike)}; "
            "--same-subject NAME=OTHER "
            "says that two are one person's"
        )
        findings.append(
            Finding("warning", "look-alike subjects", spellings.listed(known.alike), what)
        )
    return findings

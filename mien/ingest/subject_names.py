"""Subjects in a listing: the spellings of one name become one name."""

from collections import Counter
from dataclasses import replace

from mien import spellings
from mien.findings import Finding
from mien.ingest.reader import Listing
from mien.ingest.specs import IngestSpec


def merge_spellings(listing: Listing, spec: IngestSpec) -> Listing:
    """Return the listing with one name for each person, by the rules of spelling and the spec.

    Raises DataError if the spec's `same_subject` has a name that does not occur.
    """
    rows = listing.rows
    subject_names = spellings.identify_people(
        Counter(rows["subject"]), spec.same_subject, spec.subjects_as_written
    )
    subjects = [subject_names.names.get(name, "") for name in rows["subject"]]
    triples = zip(rows["clip"], rows["subject"], subjects, strict=True)
    clips = [spellings.rename_clip(clip, old, new) for clip, old, new in triples]
    renamed = {old: new for old, new in zip(rows["clip"], clips, strict=True) if old != new}
    return replace(
        listing,
        rows=rows.assign(subject=subjects, clip=clips),
        annotation_rows={
            row: renamed.get(gives, gives) for row, gives in listing.annotation_rows.items()
        },
        findings=(*listing.findings, *report_spellings(subject_names)),
    )


def report_spellings(subject_names: spellings.SubjectNames) -> list[Finding]:
    """Return findings about names that were merged into one person, and about names that look alike
    and were not.
    """
    findings = []
    if subject_names.folded:
        message = (
            "people whose names are spelled in several ways, each read as one person: "
            f"{len(subject_names.folded)}; --subjects-as-written keeps the spellings apart"
        )
        where = spellings.format_groups(subject_names.folded)
        findings.append(Finding("warning", "one person, several spellings", where, message))

    if subject_names.alike:
        message = (
            "groups of names that look alike, read as different people: "
            f"{len(subject_names.alike)}; --same-subject NAME=OTHER says that two names are one "
            "person's"
        )
        where = spellings.format_groups(subject_names.alike)
        findings.append(Finding("warning", "look-alike subjects", where, message))
    return findings

"""Workbooks: xlsx files whose bytes do not depend on the time of writing."""

import io
import re
import zipfile
from datetime import datetime

import openpyxl


def pack_workbook(book: openpyxl.Workbook, written: datetime) -> bytes:
    """Return a workbook as the bytes of an xlsx file that says it was made at the time `written`.

    Equal workbooks give equal bytes. Without this, openpyxl stores the time of saving.
    """
    book.properties.created = written
    raw = io.BytesIO()
    book.save(raw)

    # Pack it again with fixed times
    fixed = io.BytesIO()
    stamp = written.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(fixed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stamp, content)
            new.writestr(
                zipfile.ZipInfo(name, written.timetuple()[:6]), content, zipfile.ZIP_DEFLATED
            )
    return fixed.getvalue()

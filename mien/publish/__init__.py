"""Publishing: a synthetic database becomes a folder that others can load in one line, trust, and
trace.

build       formats, card, datasheet, croissant.json, registry, provenance, behind gates
check       loads every form back and compares it with all others
push        to a repository of a hub: private first
identify    says whether a picture is one of ours
regenerate  makes an image again (mien.publish.remake, which needs torch)
"""

from mien.publish.checking import check
from mien.publish.hub import push
from mien.publish.registry import identify
from mien.publish.release import build

__all__ = ["build", "check", "identify", "push"]

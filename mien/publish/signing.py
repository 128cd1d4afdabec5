"""C2PA: a signed statement that a machine made a picture. An extra, `pip install 'mien[c2pa]'`.

Signing comes last, because any later change to a file invalidates its signature. Thumbnails are
off: they would be larger than the pictures. A signature holds a time and random numbers, so two
signed builds are never equal byte for byte.
"""

import io
from pathlib import Path
from typing import Any

from mien.errors import DataError, UsageError
from mien.outside import SETTINGS_BYTES, read_file

C2PA_SETTINGS = {"builder": {"thumbnail": {"enabled": False}}}


class Signer:
    """Signs pictures with a chain of certificates and a private key, both PEM files (ES256)."""

    def __init__(self, certificates: Path, key: Path) -> None:
        self.library = import_c2pa()
        chain, secret = (
            read_file(path, "a PEM file", SETTINGS_BYTES, UsageError)
            for path in (certificates, key)
        )
        try:
            signer_info = self.library.C2paSignerInfo(
                alg=b"es256", sign_cert=chain, private_key=secret, ta_url=None
            )
            self.signer = self.library.Signer.from_info(signer_info)
            self.context = self.library.Context(self.library.Settings.from_dict(C2PA_SETTINGS))
        except self.library.C2paError as error:
            raise UsageError(
                f"{certificates} and {key} must be a certificate chain and its ES256 key: {error}"
            ) from None

    def sign(self, data: bytes, name: str) -> bytes:
        """Return a PNG file with a manifest that says a trained algorithm created it."""
        claim = {"claim_generator_info": [{"name": "mien"}], "title": name, "format": "image/png"}
        out = io.BytesIO()
        try:
            with self.library.Builder(claim, context=self.context) as builder:
                builder.set_intent(
                    self.library.C2paBuilderIntent.CREATE,
                    self.library.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
                )
                builder.sign(self.signer, "image/png", io.BytesIO(data), out)
        except self.library.C2paError as error:
            raise DataError(f"{name} could not be signed: {error}") from None
        return out.getvalue()


def import_c2pa() -> Any:
    """Return c2pa-python; raises UsageError if it is not installed."""
    try:
        import c2pa
    except ImportError:
        raise UsageError(
            "signing needs c2pa-python, which is not installed: pip install 'mien[c2pa]'"
        ) from None
    return c2pa

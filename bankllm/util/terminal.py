"""Standard output and error that can show every message: on terminals with few characters, redirected or closed."""

import codecs
import io
import os
import sys
import unicodedata

NEAREST = {"–": "-", "—": "-", "→": "->", "←": "<-", "×": "x", "≤": "<=", "≥": ">=", "‘": "'", "’": "'", "“": '"'}
NEAREST |= {"”": '"', "·": ".", "•": "*", "ß": "ss", "µ": "u"}
"""ASCII for characters that Unicode does not decompose."""


def prepare_output() -> None:
    """Write characters that the encoding lacks as the nearest ASCII, and ignore what goes to a closed stream."""
    codecs.register_error("nearest-ascii", _nearest_ascii)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # `2>&-`; the file also keeps others from getting the descriptor
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="nearest-ascii")


def _nearest_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    plain = (NEAREST.get(c) or unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() for c in found)
    return "".join(text or "?" for text in plain), error.end

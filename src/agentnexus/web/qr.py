"""QR codes as inline SVG that the pages' policy allows: shapes and classes, no styles."""

from __future__ import annotations

import io

import segno

QUIET_ZONE_MODULES = 4


def qr_svg(text: str) -> str:
    """An ``<svg class="qr">`` without a size of its own. Always black on white: many readers know nothing else."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", xmldecl=False, svgns=True, omitsize=True, border=QUIET_ZONE_MODULES, dark="#000", light="#fff",
        svgclass="qr", lineclass=None, nl=False,
    )  # fmt: skip
    return out.getvalue().decode()

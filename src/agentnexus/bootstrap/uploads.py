"""Users' files with the quota of the settings; the API keeps them, a worker forgets them."""

from __future__ import annotations

from agentnexus.bootstrap.ground import Ground
from agentnexus.platform.uploads import UploadLimits, Uploads


def open_uploads(ground: Ground) -> Uploads:
    """Users' files, within the quota of the settings."""
    settings = ground.settings
    limits = UploadLimits(bytes_kept=settings.upload_quota_bytes, files_per_hour=settings.uploads_per_hour)
    return Uploads(ground.database, ground.clock, limits)

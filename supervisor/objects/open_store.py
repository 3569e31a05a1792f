"""The only way to open the file store; STORAGE_URL says which kind it is."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.objects.local_files import LocalFiles
from supervisor.objects.object_store import FileStore


def open_file_store(settings: Settings) -> FileStore:
    """The store behind `STORAGE_URL`; nothing is touched yet.  Raises SettingFault."""
    scheme, _, rest = settings.storage_url.partition("://")
    if scheme == "file" and rest.startswith("/"):
        return LocalFiles(Path(rest))
    if scheme == "s3":
        from supervisor.objects.s3_files import S3Files  # its client need not be installed

        bucket, _, prefix = rest.partition("/")
        return S3Files(bucket, prefix, settings.s3)
    raise SettingFault(f"STORAGE_URL begins with '{scheme}://', but may begin with file:/// or s3://.")

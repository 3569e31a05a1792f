"""The S3 store of files, and the times for which data is kept."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from config.settings_group import Group

Days = Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)]  # 0 = for ever
AUDIT_KEPT_DAYS = 30  # the database's own least, under any settings


class S3(Group):
    """Access to the bucket of an `s3://` STORAGE_URL; empty values come from AWS's own variables and roles.

    addressing_style: `virtual` puts the bucket into the host name, as COS and OSS require; `auto` does so only for
    Amazon.
    """

    endpoint_url: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: SecretStr | None = None
    addressing_style: Literal["auto", "path", "virtual"] = "auto"

    @model_validator(mode="after")
    def _check_together(self) -> S3:
        parts = urlsplit(self.endpoint_url)
        if parts.username or parts.password:
            raise ValueError(
                "DARKROOM_S3__ENDPOINT_URL holds a password; give it as DARKROOM_S3__SECRET_ACCESS_KEY."
            )
        if self.endpoint_url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError(
                f"DARKROOM_S3__ENDPOINT_URL is {self.endpoint_url!r}, but may be empty (Amazon), http://… or https://…."
            )
        if bool(self.access_key_id) != (self.secret_access_key is not None):
            raise ValueError(
                "DARKROOM_S3__ACCESS_KEY_ID and DARKROOM_S3__SECRET_ACCESS_KEY belong together; give both, or neither."
            )
        return self


class Retention(Group):
    """How long the sweep keeps unused data.  0 = for ever.

    upload_days: an upload that no open task and no kept work has used for so long.  task_days: a finished task with its
    work and pictures, from its end.  orphan_days: one of our files in the store that no row names.  event_days: the
    steps of a finished task's history, deleted with their task at the latest.  remote_job_days: the evidence of a
    finished paid request, from its end.  audit_days: the record of operators' actions; at least a month.
    """

    upload_days: Days = 30
    task_days: Days = 0
    orphan_days: Days = 2
    event_days: Days = 30
    remote_job_days: Days = 365
    audit_days: Days = 365

    @model_validator(mode="after")
    def _check_audit(self) -> Retention:
        if 0 < self.audit_days < AUDIT_KEPT_DAYS:
            raise ValueError(
                f"DARKROOM_RETENTION__AUDIT_DAYS is {self.audit_days:g}, but may be 0 (for ever) or at least "
                f"{AUDIT_KEPT_DAYS}: the database refuses to forget earlier what operators did."
            )
        return self

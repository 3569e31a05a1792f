"""Objects in an S3 bucket: Amazon's, or any compatible service (SeaweedFS, Garage, Ceph, COS, OSS, R2 …).

An object is put in one request with its length and MD5, never in several: the service answers when the whole object is
stored, and a process that dies in the middle leaves nothing behind.  No connection is made before the first call, so
the store may be opened before a fork, and a part can start while the service is away.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import io
import threading
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

from config.storage import S3
from supervisor.core.errors import SettingFault
from supervisor.objects.object_store import PIECE_BYTES, Listed, NoSuchPart, StoreAway, checked_key

CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 20.0  # silence of a connection in the middle of a request
TRIES = 3  # tries of one request, with a pause that grows from a fraction of a second
CONNECTIONS_KEPT = 16
_TRIED = (
    # outside our folders, so it is never listed; a process that dies here leaves 27 bytes
    "examination/darkroom-doctor"
)
LISTED_AT_ONCE = 1000  # the most that S3 returns

_MISSING = ("NoSuchKey", "404", "NotFound")
# Codes of MinIO, Ceph and gateways to OpenStack's Swift; a status for answers without a body.
_FULL = ("XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "507")


class S3Files:
    """A FileStore in a bucket, below a prefix.  Credentials that the settings lack come from AWS's usual places."""

    def __init__(self, bucket: str, prefix: str, options: S3) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._options = options
        self._made = threading.Lock()
        self._client: Any = None

    def put(self, key: str, file: BinaryIO) -> None:
        name = self._name(key)
        digest = hashlib.md5(usedforsecurity=False)
        file.seek(0)
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
        length = file.tell()
        file.seek(0)
        with self._said():
            self._s3().put_object(
                Bucket=self._bucket,
                Key=name,
                Body=file,
                ContentLength=length,
                ContentMD5=base64.b64encode(digest.digest()).decode(),
            )

    def open(self, key: str, first: int = 0, last: int | None = None) -> _Part:
        name = self._name(key)
        part = {}
        if first or last is not None:
            part = {
                "Range": f"bytes={first}" if first < 0 else f"bytes={first}-{'' if last is None else last}"
            }
        with self._said(key):
            try:
                return _Part(self._s3().get_object(Bucket=self._bucket, Key=name, **part), self._said)
            except self._s3().exceptions.ClientError as error:
                if _code(error) not in ("InvalidRange", "416"):
                    raise
            whole = self._s3().head_object(Bucket=self._bucket, Key=name)
            raise NoSuchPart(int(whole["ContentLength"]))

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._said(), contextlib.suppress(FileNotFoundError):
            self._s3().delete_object(Bucket=self._bucket, Key=name)

    def local_path(self, key: str) -> Path | None:
        checked_key(key)
        return None

    def listing(self, folder: str, after: str = "") -> Iterator[Listed]:
        more: dict[str, str] = {"StartAfter": self._prefix + after} if after else {}
        while True:
            with self._said():
                page = self._s3().list_objects_v2(
                    Bucket=self._bucket, Prefix=f"{self._prefix}{folder}/", MaxKeys=LISTED_AT_ONCE, **more
                )
            now = _time_of(page)
            for each in page.get("Contents", ()):
                age = (now - each["LastModified"]).total_seconds()
                yield Listed(each["Key"].removeprefix(self._prefix), age)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def tidy(self, older_than_seconds: float) -> int:
        return 0  # a put is one request, so there are no unfinished objects

    def examine(self) -> str:
        with self._said():
            self._s3().list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        # Only a put finds read-only credentials and a full bucket.
        self.put(_TRIED, io.BytesIO(_TRIED.encode()))
        self.open(_TRIED).close()
        self.delete(_TRIED)
        return self._place

    @property
    def _place(self) -> str:
        at = f" at {self._options.endpoint_url}" if self._options.endpoint_url else ""
        return f"s3://{self._bucket}/{self._prefix}{at}"

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _s3(self) -> Any:
        """The client, made at the first call; it may be used by several threads."""
        if self._client is None:
            with self._made:
                if self._client is None:
                    self._client = _open_client(self._options)
        return self._client

    @contextlib.contextmanager
    def _said(self, key: str = "") -> Iterator[None]:
        """Translate the client's errors into those of a FileStore: FileNotFoundError for `key`, StoreAway."""
        from botocore import exceptions
        from urllib3.exceptions import HTTPError

        try:
            yield
        except exceptions.ClientError as error:
            code = _code(error)
            if key and code in _MISSING:
                raise FileNotFoundError(f"There is no file {key}.") from None
            raise StoreAway(self._refusal(code)) from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError):
            raise StoreAway(
                f"There are no credentials for the file store {self._place}: set DARKROOM_S3__ACCESS_KEY_ID and "
                "DARKROOM_S3__SECRET_ACCESS_KEY, or AWS's own variables."
            ) from None
        except (exceptions.BotoCoreError, HTTPError) as error:
            raise StoreAway(
                f"The file store {self._place} does not answer ({type(error).__name__}); check "
                "DARKROOM_S3__ENDPOINT_URL and that the service runs."
            ) from None

    def _refusal(self, code: str) -> str:
        """The sentence for an error answer."""
        match code:
            case "NoSuchBucket":
                return (
                    f"The file store {self._place} has no such bucket; make it, or mend DARKROOM_STORAGE_URL."
                )
            case "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken":
                return (
                    f"The file store {self._place} does not accept the credentials ({code}); check "
                    "DARKROOM_S3__ACCESS_KEY_ID and DARKROOM_S3__SECRET_ACCESS_KEY."
                )
            case "AccessDenied" | "403" | "AllAccessDisabled":
                return (
                    f"The file store {self._place} refuses us ({code}); the credentials need GetObject, PutObject, "
                    "DeleteObject and ListBucket there."
                )
            case _ if code in _FULL:
                return f"The file store {self._place} is full ({code}); free some space there, or raise its quota."
            case "PermanentRedirect" | "AuthorizationHeaderMalformed" | "301":
                return f"The file store {self._place} is in another region; set DARKROOM_S3__REGION."
            case _:
                return f"The file store {self._place} answered with an error ({code or 'no code'}); see its own log."


def _code(error: Any) -> str:
    """The code of the service's error answer."""
    return str(error.response.get("Error", {}).get("Code", ""))


class _Part:
    """An OpenFile that reads the service's answer."""

    def __init__(self, answer: dict[str, Any], said: Any) -> None:
        self._body, self._said = answer["Body"], said
        length = int(answer["ContentLength"])
        self.first, self.last, self.size = 0, length - 1, length
        if "ContentRange" in answer:  # bytes first-last/size
            bounds, _, size = str(answer["ContentRange"]).removeprefix("bytes ").partition("/")
            first, _, last = bounds.partition("-")
            self.first, self.last, self.size = int(first), int(last), int(size)

    def read(self, most: int = -1, /) -> bytes:
        with self._said():
            data: bytes = self._body.read(None if most < 0 else most)
        return data

    def close(self) -> None:
        self._body.close()


def _time_of(page: dict[str, Any]) -> datetime.datetime:
    """The service's own clock, by which the ages of its objects are computed."""
    date = page["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return parsedate_to_datetime(date)
    except ValueError:
        return datetime.datetime.now(datetime.UTC)


def _open_client(options: S3) -> Any:
    try:
        import botocore.session
        from botocore.config import Config
    except ImportError:
        raise SettingFault(
            "DARKROOM_STORAGE_URL names an S3 bucket, for which botocore is needed: pip install 'darkroom-queue[s3]'."
        ) from None

    secret = options.secret_access_key
    session = botocore.session.get_session()
    return session.create_client(
        "s3",
        endpoint_url=options.endpoint_url or None,
        region_name=options.region or session.get_config_variable("region") or "us-east-1",
        aws_access_key_id=options.access_key_id or None,
        aws_secret_access_key=secret.get_secret_value() if secret is not None else None,
        config=Config(
            signature_version="s3v4",
            connect_timeout=CONNECT_SECONDS,
            read_timeout=SILENCE_SECONDS,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            max_pool_connections=CONNECTIONS_KEPT,
            s3={"addressing_style": options.addressing_style},
            # Only Amazon knows newer checksums; every service accepts MD5, which we send.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )

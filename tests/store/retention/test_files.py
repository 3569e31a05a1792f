"""Both file stores pass the same tests: objects are whole, durable, streamed, and never outside their folder."""

from __future__ import annotations

import io
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from supervisor.cli.doctor.doctor import examine
from supervisor.core.errors import NoRoom, SettingFault
from supervisor.objects import s3_files
from supervisor.objects.local_files import LocalFiles
from supervisor.objects.object_store import BadKey, FileStore, StoreAway, copy_to, is_key
from supervisor.objects.open_store import open_file_store
from supervisor.objects.s3_files import S3Files
from tests.support.objects import put_bytes
from tests.support.servers.s3_server import S3Server

BIG = bytes(range(256)) * 4096 * 12  # 12 MiB, more than any buffer


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    server.make_bucket("darkroom")
    yield server
    server.stop()


@pytest.fixture(params=["local", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    """An empty store of each kind."""
    if request.param == "local":
        return open_file_store(Settings(data_dir=tmp_path))
    server: S3Server = request.getfixturevalue("s3")
    place = f"s3://darkroom/{tmp_path.name}"
    return open_file_store(Settings(data_dir=tmp_path, storage_url=place, s3=server.options()))


def whole(files: FileStore, key: str) -> bytes:
    opened = files.open(key)
    try:
        return opened.read()
    finally:
        opened.close()


def test_an_object_is_read_back_and_replaced_as_a_whole(files: FileStore) -> None:
    put_bytes(files, "results/t1/1-0.jpg", b"one, which is longer")
    put_bytes(files, "results/t1/1-0.jpg", b"two")
    assert whole(files, "results/t1/1-0.jpg") == b"two"
    assert [each.key for each in files.listing("results")] == ["results/t1/1-0.jpg"]


def test_a_large_file_comes_and_goes_in_pieces(files: FileStore, tmp_path: Path) -> None:
    class Watched(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None and size >= 0, "the whole file was read at once"
            self.largest = max(self.largest, size)
            return super().read(size)

    source = Watched(BIG)
    source.seek(5)  # a put begins at the start wherever the file stands
    files.put("results/t1/big.bin", source)
    assert source.largest <= 1_048_576
    copy_to(files, "results/t1/big.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == BIG


@pytest.mark.parametrize(
    ("first", "last", "part", "bounds"),
    [
        (0, None, b"0123456789", (0, 9)),
        (0, 1, b"01", (0, 1)),
        (4, None, b"456789", (4, 9)),
        (-3, None, b"789", (7, 9)),
        (8, 100, b"89", (8, 9)),
    ],
)
def test_a_part_of_a_file_can_be_read(
    files: FileStore, first: int, last: int | None, part: bytes, bounds: tuple[int, int]
) -> None:
    put_bytes(files, "a/b.bin", b"0123456789")
    opened = files.open("a/b.bin", first, last)
    assert (opened.size, opened.first, opened.last) == (10, *bounds)
    assert opened.read(1) + opened.read(100) == part and opened.read(1) == b""
    opened.close()


def test_a_part_behind_the_end_is_refused(files: FileStore) -> None:
    put_bytes(files, "a/b.bin", b"0123456789")
    with pytest.raises(ValueError, match="file"):
        files.open("a/b.bin", 10)


def test_an_empty_file_is_a_file(files: FileStore) -> None:
    put_bytes(files, "a/empty.bin", b"")
    assert whole(files, "a/empty.bin") == b""


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        "a/.hidden",
        ".tmp-1",
        "a\\b",
        "a\x00b",
        "a\n",
        "ä",
        "a b",
        "%2e%2e",
        "a/" * 9 + "b",
        "x" * 101,
        "C:",
    ],
)
def test_a_text_that_could_climb_or_surprise_is_no_key(tmp_path: Path, s3: S3Server, key: str) -> None:
    assert not is_key(key)
    for files in (LocalFiles(tmp_path / "files"), S3Files("darkroom", "keys", s3.options())):
        calls: list[Callable[[], object]] = [
            lambda files=files: put_bytes(files, key, b"x"),  # type: ignore[misc]
            lambda files=files: files.open(key),  # type: ignore[misc]
            lambda files=files: files.local_path(key),  # type: ignore[misc]
            lambda files=files: files.delete(key),  # type: ignore[misc]
        ]
        for call in calls:
            with pytest.raises(BadKey):
                call()
    assert not (tmp_path / "files").exists()


def test_a_deleted_object_is_gone_and_may_be_deleted_again(files: FileStore, tmp_path: Path) -> None:
    put_bytes(files, "a/b.jpg", b"x")
    files.delete("a/b.jpg")
    files.delete("a/b.jpg")
    with pytest.raises(FileNotFoundError):
        files.open("a/b.jpg")
    with pytest.raises(FileNotFoundError):
        copy_to(files, "a/b.jpg", tmp_path / "copy")
    assert list(files.listing("a")) == []


def test_a_listing_is_in_order_and_can_be_taken_up_after_any_key(files: FileStore) -> None:
    keys = ["r/a-1.jpg", "r/a.jpg", "r/a/1.jpg", "r/a/2.jpg", "r/a0/1.jpg", "r/b.jpg"]
    for key in [*reversed(keys), "s/1.jpg", "ra/1.jpg"]:
        put_bytes(files, key, b"x")
    assert [each.key for each in files.listing("r")] == keys
    for n, key in enumerate(keys):
        assert [each.key for each in files.listing("r", key)] == keys[n + 1 :]
    assert all(0 <= each.age_seconds < 60 for each in files.listing("r"))
    assert list(files.listing("nothing")) == []


def test_puts_and_deletes_side_by_side_do_not_disturb_each_other(files: FileStore) -> None:
    failures: list[Exception] = []

    def churn(name: int) -> None:
        try:
            for _ in range(10):
                put_bytes(files, f"a/{name}.jpg", b"x" * 100)
                assert whole(files, f"a/{name}.jpg") == b"x" * 100
                files.delete(f"a/{name}.jpg")
        except Exception as error:  # noqa: BLE001  # reported below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# --- the local folder alone ---


def test_a_local_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "files")
    put_bytes(files, "a/b.jpg", b"x")
    path = files.local_path("a/b.jpg")
    assert path is not None and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["b.jpg"]
    files.delete("a/b.jpg")
    assert os.listdir(tmp_path / "files") == []


def test_a_put_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LocalFiles(tmp_path)

    def disk_is_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(NoRoom, match="is full"):
        put_bytes(files, "a/b.jpg", b"x")
    assert os.listdir(tmp_path / "a") == []


def test_the_rest_of_a_crashed_put_is_removed_once_it_is_old(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    put_bytes(files, "a/kept.jpg", b"x")
    old, young = tmp_path / "a" / ".tmp-0123", tmp_path / "a" / ".tmp-4567"
    for path in (old, young):
        path.write_bytes(b"half of")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    os.utime(tmp_path / "a" / "kept.jpg", (1, 1))
    assert [each.key for each in files.listing("a")] == ["a/kept.jpg"]
    assert files.tidy(3600) == 1
    assert sorted(os.listdir(tmp_path / "a")) == [".tmp-4567", "kept.jpg"]


# --- the bucket alone ---


def test_objects_lie_below_the_prefix_and_nothing_else_is_seen(s3: S3Server) -> None:
    bucket = s3.make_bucket("shared-with-others")
    s3.client().put_object(Bucket=bucket, Key="a/foreign.jpg", Body=b"x")
    files = S3Files(bucket, "dark/room", s3.options())
    put_bytes(files, "a/b.jpg", b"x")
    assert s3.keys(bucket) == ["a/foreign.jpg", "dark/room/a/b.jpg"]
    assert [each.key for each in files.listing("a")] == ["a/b.jpg"]


def test_a_listing_continues_beyond_one_page(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_files, "LISTED_AT_ONCE", 3)
    files = S3Files("darkroom", "many", s3.options())
    for n in range(11):
        put_bytes(files, f"a/{n:04}.jpg", b"")
    assert [each.key for each in files.listing("a", "a/0001.jpg")] == [f"a/{n:04}.jpg" for n in range(2, 11)]


def _sentence(settings: Settings) -> str:
    """What `darkroom doctor` says of the store, which must not be well."""
    (finding,) = [each for each in examine(settings) if each.part == "storage"]
    assert not finding.well and "\n" not in finding.sentence
    return finding.sentence


def _settings(tmp_path: Path, s3: S3Server, bucket: str = "darkroom", **options: str) -> Settings:
    return Settings(data_dir=tmp_path, storage_url=f"s3://{bucket}", s3=s3.options(**options))


def test_doctor_names_the_store_that_is_well(tmp_path: Path, s3: S3Server) -> None:
    findings = {each.part: each for each in examine(_settings(tmp_path, s3))}
    assert findings["storage"].well and findings["storage"].sentence == f"s3://darkroom/ at {s3.address}"


def test_a_bucket_that_does_not_exist_is_said(tmp_path: Path, s3: S3Server) -> None:
    assert "no such bucket" in _sentence(_settings(tmp_path, s3, "nobodys"))
    with pytest.raises(StoreAway, match="no such bucket"):
        put_bytes(S3Files("nobodys", "", s3.options()), "a/b.jpg", b"x")


def test_a_wrong_key_is_said_and_no_secret_with_it(tmp_path: Path, s3: S3Server) -> None:
    with s3.refusing_strangers():
        sentence = _sentence(_settings(tmp_path, s3))
    assert "does not accept the credentials" in sentence and "DARKROOM_S3__ACCESS_KEY_ID" in sentence
    assert "a secret key" not in sentence


def test_missing_credentials_are_said(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    settings = Settings(
        data_dir=tmp_path,
        storage_url="s3://darkroom",
        s3={"endpoint_url": s3.address},  # type: ignore[arg-type]
    )
    assert "no credentials" in _sentence(settings)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "as everywhere")
    assert open_file_store(settings).examine().startswith("s3://darkroom/")


def test_a_store_that_is_away_is_said_and_found_again(tmp_path: Path) -> None:
    server = S3Server()
    server.make_bucket("darkroom")
    files = S3Files("darkroom", "", server.options())
    put_bytes(files, "a/b.jpg", b"x")
    server.stop()
    assert "does not answer" in _sentence(_settings(tmp_path, server))
    with pytest.raises(StoreAway, match="DARKROOM_S3__ENDPOINT_URL"):
        files.open("a/b.jpg")


def test_a_store_that_is_silent_is_given_up_and_found_again(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_files, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(s3_files, "TRIES", 2)
    files = S3Files("darkroom", "silence", s3.options())
    put_bytes(files, "a/b.jpg", b"x")
    with s3.frozen(), pytest.raises(StoreAway, match="does not answer"):
        put_bytes(files, "a/b.jpg", b"y")
    put_bytes(files, "a/b.jpg", b"z")
    assert whole(files, "a/b.jpg") == b"z"


def test_a_store_of_another_kind_is_refused_with_a_sentence(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(SettingFault, match="STORAGE_URL"):
        open_file_store(settings.model_copy(update={"storage_url": "ftp://host/x"}))

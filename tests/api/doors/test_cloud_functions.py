"""Cloud functions order here with CloudBase's own SDKs: a customer's functions, the examples, each database call."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.npm_packages import NODE, NPM, PACKAGES, npm_packages
from tests.support.repository import ROOT
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually

CUSTOMER = ROOT.parent / "shared" / "cases" / "customer"
EXAMPLES = ROOT / "examples" / "cloud-functions"
PAGES = [ROOT / "docs" / f"from-cloud-functions{language}.md" for language in ("", ".zh-CN")]
OPENID = "o6_bmjrPTlm6_2sgVt7hMZOPfL2M"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not (NODE and NPM) and not os.environ.get("CI"), reason="there is no Node"),
]
needs_customer = pytest.mark.skipif(
    not CUSTOMER.is_dir() and not os.environ.get("CI"), reason="the customer's functions are not here"
)

PROVIDERS = {
    "WORKER_PROCESSES": "1",
    "WORKER_THREADS": "4",
    "PROVIDERS__paced__KIND": "python",
    "PROVIDERS__paced__OPTIONS__class": "tests.support.providers.paced_provider:PacedProvider",
    "PROVIDERS__paced__OPTIONS__steps": "8",
    "PROVIDERS__paced__OPTIONS__step_seconds": "0.25",
    "TASKS__photography__PROVIDER": "paced",
    "TASKS__photography__SCENES": '["beach", "forest"]',
    "PROVIDERS__refusing__KIND": "python",
    "PROVIDERS__refusing__OPTIONS__class": "tests.support.providers.refusing_provider:RefusingProvider",
    "PROVIDERS__refusing__OPTIONS__says": "rejected",
    "TASKS__fitting__PROVIDER": "refusing",
    "CREDITS__SIGNUP_GRANT": "10",
    "LIMITS__OPEN_TASKS_PER_USER": "3",
}


def _said(house: RunningSystem, *command: str) -> str:
    return house.darkroom(*command, check=True, timeout=60).stdout.strip()


@functools.cache
def _key(house: RunningSystem) -> dict[str, str]:
    key: dict[str, str] = json.loads(_said(house, "key", "cloudbase", "functions", "--json"))
    return key


@functools.cache
def _token(house: RunningSystem) -> str:
    return _said(house, "token", "functions", "--role", "service")


@pytest.fixture(scope="module")
def house() -> Iterator[RunningSystem]:
    with running_system(lifted=False, **PROVIDERS) as running:
        yield running


class Cloud:
    """A Node process with a function's files, as the cloud would run it for one user."""

    def __init__(self, house: RunningSystem, folder: Path, openid: str, **environ: str) -> None:
        (folder / "node_modules").symlink_to(npm_packages() / "node_modules")
        key = _key(house)
        self.house, self.folder = house, folder
        self._process = subprocess.Popen(
            [NODE or "node", str(ROOT / "tests" / "front_ends" / "cloud_function.mjs"), str(folder)],
            env={
                "PATH": os.environ["PATH"],
                "WX_CONTEXT_KEYS": "WX_OPENID",
                "WX_OPENID": openid,
                "DARKROOM_URL": house.url,
                "DARKROOM_SECRET_ID": key["secretId"],
                "DARKROOM_SECRET_KEY": key["secretKey"],
                "DARKROOM_TOKEN": _token(house),
                **environ,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _ask(self, **todo: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(todo) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def main(self, name: str, **event: Any) -> dict[str, Any]:
        """What a function returns."""
        result: dict[str, Any] = self._ask(function=name, event=event)["result"]
        return result

    def db(self, sdk: str, *steps: list[Any]) -> Any:
        """What a chain of calls gives."""
        answer = self._ask(sdk=sdk, steps=steps)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def thrown(self, sdk: str, *steps: list[Any]) -> dict[str, Any]:
        """The exception of a chain of calls."""
        answer = self._ask(sdk=sdk, steps=steps)
        assert "error" in answer, answer
        error: dict[str, Any] = answer["error"]
        return error

    def task(self, task_id: str) -> dict[str, Any]:
        """The task's document, as the function's SDK has it."""
        found: dict[str, Any] = self.db("wx", ["collection", "task_queue"], ["doc", task_id], ["get"])["data"]
        return found

    def balance(self, openid: str) -> int:
        return int(self.house.one("SELECT balance FROM account WHERE user_openid = ?", openid)[0])

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def cloud(house: RunningSystem, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """With all users' files; a separate user for each test."""
    folder = tmp_path / "functions"
    shutil.copytree(EXAMPLES, folder)
    (folder / "old.js").write_text("exports.oldSubmit = () => ({ success: true, data: 'the old way' })\n")
    for name in ("photography.js", "fitting.js") if CUSTOMER.is_dir() else ():
        (folder / name).write_text(with_the_line_of_the_docs((CUSTOMER / name).read_text(encoding="utf-8")))
    running = Cloud(house, folder, f"{OPENID}-{request.node.name[:60]}", DARKROOM_PERCENT="100")
    try:
        yield running
    finally:
        running.end()


def with_the_line_of_the_docs(function: str) -> str:
    """The function as the page says: `cloud.init` is given three members more, and every other byte stays."""
    (init,) = re.findall(
        r"^cloud\.init\(.*?^\}\)\n", (EXAMPLES / "sdk.js").read_text(), re.DOTALL | re.MULTILINE
    )
    lines = function.splitlines(keepends=True)
    assert lines.count("cloud.init({ env: cloud.DYNAMIC_CURRENT_ENV })\n") == 1
    changed = [init if line.startswith("cloud.init(") else line for line in lines]
    assert [line for line in changed if line != init] == [
        line for line in lines if not line.startswith("cloud.init(")
    ]
    return "".join(changed)


PHOTO = "https://example.org/portrait.jpg"


# --- the customer's functions ---


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"{OPENID}-{request.node.name[:60]}"


@needs_customer
def test_the_customers_function_orders_and_the_task_is_seen_to_its_end(cloud: Cloud, user: str) -> None:
    said = cloud.main("photography", images=["sample.jpg"], sceneId="beach")
    assert said["success"] is False and "params.images.0" in said["message"]

    said = cloud.main("photography", images=_uploaded(cloud, user, 3), sceneId="beach", count=2)
    assert said["success"] is True and said["message"] == "任务已提交", said
    task_id = said["data"]["task_id"]
    assert said["data"]["work_id"] == cloud.task(task_id)["work_id"]
    assert cloud.balance(user) == 8
    seen = set()

    def ended() -> dict[str, Any] | None:
        task = cloud.task(task_id)
        seen.add((task["status"], task["progress"]))
        return task if task["status"] == "completed" else None

    task = eventually("the task is completed", ended)
    assert len({progress for status, progress in seen if status == "processing"}) > 1, "its progress was seen"
    assert task["completed_at"] and task["processing_started_at"] and task["failed_at"] is None
    works = cloud.db("wx", ["collection", "works"], ["where", {"user_openid": user}], ["get"])["data"]
    assert [work["status"] for work in works] == ["completed"] and len(works[0]["images"]) == 2
    assert works[0]["images"][0]["url"].startswith(cloud.house.url + "/files/")


@needs_customer
def test_the_customers_function_gets_a_failure_and_the_credits_are_refunded(cloud: Cloud, user: str) -> None:
    said = cloud.main("fitting", images=_uploaded(cloud, user, 2))
    assert said["success"] is True, said
    task_id = said["data"]["task_id"]
    task = eventually("the task has failed", lambda: (t := cloud.task(task_id))["status"] == "failed" and t)
    assert task["error"]["code"] == "content_rejected" and task["failed_at"] and task["result"] is None
    assert cloud.balance(user) == 10


@needs_customer
def test_the_customers_function_gets_our_error_sentence(cloud: Cloud, user: str) -> None:
    photos = _uploaded(cloud, user, 1)
    for event, words in (
        ({"images": ["cloud://prod-1.7072/portrait.jpg"]}, "getTempFileURL"),
        ({"images": photos, "sceneId": "moon"}, "There is no scene 'moon'; there are beach, forest."),
        ({"images": photos, "count": 99}, "params.count"),
        ({"images": photos, "count": 8}, None),
        ({"images": photos, "count": 3}, "This costs 3 credits and the balance is 2."),
        ({"images": photos}, None),
        ({"images": photos}, None),
        ({"images": photos}, "You have 3 open tasks already, which is the limit"),
    ):
        said = cloud.main("photography", **event)
        assert said["success"] is (words is None) and (words or "") in said["message"], said


# --- what else the SDKs' database can do ---


@pytest.mark.parametrize("sdk", ["wx", "node", "token"])
def test_a_task_is_cancelled_and_run_again_by_each_sdk(cloud: Cloud, user: str, sdk: str) -> None:
    task_id = f"task_{sdk}"
    document = {
        "_id": task_id,
        "user_openid": user,
        "type": "photography",
        "params": {"images": _uploaded(cloud, user, 1)},
    }
    tasks = ["collection", "task_queue"]
    data = (lambda value: {"data": value}) if sdk == "wx" else (lambda value: value)
    added = cloud.db(sdk, tasks, ["add", data(document)])
    assert added["_id" if sdk == "wx" else "id"] == task_id
    assert cloud.db(sdk, tasks, ["add", data(document)])["_id" if sdk == "wx" else "id"] == task_id
    assert cloud.balance(user) == 9

    for status, balance in (("cancelled", 10), ("pending", 9), ("cancelled", 10)):
        changes = {"status": status, "updated_at": {"$db": ["serverDate"]}}
        updated = cloud.db(sdk, tasks, ["doc", task_id], ["update", data(changes)])
        assert (updated["stats"] if sdk == "wx" else updated)["updated"] == 1
        now = cloud.house.one("SELECT status FROM task_queue WHERE id = ?", task_id)[0]
        assert now == status or (now, status) == ("processing", "pending")
        assert cloud.balance(user) == balance
    removed = cloud.db(sdk, ["collection", "works"], ["where", {"task_id": task_id}], ["remove"])
    assert (removed["stats"]["removed"] if sdk == "wx" else removed["deleted"]) == 1
    assert cloud.db(sdk, ["collection", "works"], ["where", {"user_openid": user}], ["count"])["total"] == 0


@pytest.mark.parametrize("sdk", ["wx", "node"])
def test_searches_of_each_sdk_find_what_they_mean(cloud: Cloud, user: str, sdk: str) -> None:
    add = (lambda value: ["add", {"data": value}]) if sdk == "wx" else (lambda value: ["add", value])
    photos = _uploaded(cloud, user, 1)
    tasks = ["collection", "task_queue"]
    for n in range(3):
        document = {"_id": f"{sdk}_{n}", "user_openid": user, "type": "photography", "params": {"images": photos},
                    "priority": -n, "run_after": {"$date": 4102444800000}}  # fmt: skip
        cloud.db(sdk, tasks, add(document))

    def found(where: Any, *more: list[Any]) -> list[str]:
        return [each["_id"] for each in cloud.db(sdk, tasks, ["where", where], *more, ["get"])["data"]]

    mine = {"user_openid": user}
    rising = ["orderBy", "priority", "asc"]
    assert found(mine, rising) == [f"{sdk}_2", f"{sdk}_1", f"{sdk}_0"]
    assert found(mine, ["orderBy", "priority", "desc"], ["skip", 1], ["limit", 1]) == [f"{sdk}_1"]
    statuses = {"$command": ["in", ["pending", "failed"]]}
    assert len(found({**mine, "status": statuses, "created_at": {"$command": ["gt", {"$date": 0}]}})) == 3
    assert found({**mine, "priority": {"$command": ["neq", 0]}}, rising) == [f"{sdk}_2", f"{sdk}_1"]
    either = {"$command": ["or", [{**mine, "priority": -1}, {"_id": f"{sdk}_0"}]]}
    assert len(found(either)) == 2
    assert len(found({**mine, "completed_at": None})) == 3
    documents = cloud.db(sdk, tasks, ["where", mine], ["field", {"status": True}], ["get"])["data"]
    assert set(documents[0]) == {"_id", "status"}
    assert cloud.db(sdk, tasks, ["where", {**mine, "status": "pending"}], ["count"])["total"] == 3


@pytest.mark.parametrize("sdk", ["wx", "node"])
def test_calls_that_are_not_offered_raise_a_sentence_in_each_sdk(cloud: Cloud, user: str, sdk: str) -> None:
    mine = ["where", {"user_openid": user}]
    tasks = ["collection", "task_queue"]
    calls: list[tuple[list[list[Any]], str]] = [
        ([tasks, ["get"]], "user_openid"),
        ([["collection", "users"], mine, ["get"]], "task_queue, to order and to look"),
        (
            [tasks, ["where", {"user_openid": user, "type": {"$db": ["RegExp", {"regexp": "^a"}]}}], ["get"]],
            "RegExp",
        ),
        ([tasks, mine, ["remove"]], "cancel it"),
        ([["createCollection", "x"]], "Collections can't be made"),
        ([tasks, ["aggregate"], ["match", {}], ["end"]], "aggregate()"),
    ]
    for steps, words in calls:
        error = cloud.thrown(sdk, *steps)
        assert words in error["message"] and error["code"], error
    if sdk == "wx":
        error = cloud.thrown(sdk, tasks, ["doc", "nobody"], ["get"])
        assert "does not exist" in error["message"], "the SDK's own words for no document"
    else:
        assert cloud.db(sdk, tasks, ["doc", "nobody"], ["get"])["data"] == []


# --- the examples, which the pages quote ---


def _uploaded(cloud: Cloud, user: str, count: int) -> list[str]:
    """Ids of so many photos of the user."""
    import urllib.request

    photo = (ROOT / "examples" / "samples" / "portrait.png").read_bytes()
    token = cloud.house.token(user)
    ids = []
    for _ in range(count):
        request = urllib.request.Request(
            cloud.house.url + "/v1/images",
            data=photo,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "image/png"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            ids.append(json.load(answer)["id"])
    return ids


def test_the_pages_quote_the_files_that_are_tested_here_and_name_the_versions() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for file in EXAMPLES.iterdir():
            assert f"```js\n{file.read_text(encoding='utf-8')}```" in text, (page.name, file.name)
        added = [line[1:] for line in text.splitlines() if line.startswith("+")]
        init = re.search(
            r"^cloud\.init\(.*?^\}\)$", (EXAMPLES / "sdk.js").read_text(), re.DOTALL | re.MULTILINE
        )
        assert init is not None and "\n".join(added) == init[0], page.name
        for package in ("wx-server-sdk", "@cloudbase/node-sdk"):
            assert f"`{package}` {PACKAGES[package]}" in text


@needs_customer
def test_the_function_is_unchanged_where_the_environment_names_our_address(
    house: RunningSystem, tmp_path: Path
) -> None:
    folder = tmp_path / "functions"
    folder.mkdir()
    shutil.copy(CUSTOMER / "photography.js", folder)
    key = _key(house)
    cloud = Cloud(
        house,
        folder,
        f"{OPENID}-unchanged",
        TCB_CONTEXT_CNFG=json.dumps({"URL": f"{house.url}/tcb/admin"}),
        TENCENTCLOUD_SECRETID=key["secretId"],
        TENCENTCLOUD_SECRETKEY=key["secretKey"],
    )
    try:
        said = cloud.main("photography", images=_uploaded(cloud, f"{OPENID}-unchanged", 1))
        assert said["success"] is True, said
    finally:
        cloud.end()


def test_the_example_with_the_sdk_orders_once_however_often_it_is_called(cloud: Cloud, user: str) -> None:
    params = {"images": _uploaded(cloud, user, 1)}
    first = cloud.main("sdk", orderId="order-1", type="photography", params=params)
    assert first["success"] is True, first
    assert cloud.main("sdk", orderId="order-1", type="photography", params=params) == first
    assert cloud.balance(user) == 9
    assert cloud.main("sdk", orderId="order-2", type="painting", params=params)["success"] is False


def test_the_example_over_http_orders_and_refuses_as_the_page_expects(cloud: Cloud, user: str) -> None:
    params = {"images": _uploaded(cloud, user, 1)}
    said = [
        cloud.main("submit", orderId=each, type="photography", params=params) for each in ("a", "a", None)
    ]
    assert [each["success"] for each in said] == [True] * 3
    assert said[0]["data"] == said[1]["data"] != said[2]["data"], (
        "without an id each call is an order of its own"
    )
    assert set(said[0]) == {"success", "data", "message"} and set(said[0]["data"]) == {"task_id", "work_id"}
    said_no = cloud.main("submit", type="photography", params={"images": ["nobody"]})
    assert said_no["success"] is False and "nobody" in said_no["message"]


def test_the_example_asks_the_cloud_for_links_of_its_own_files(cloud: Cloud) -> None:
    script = """
        const { withLinks } = require('./photos.js')
        const linked = (fileID) => ({ fileID, tempFileURL: 'https://tmp.example.org/' + fileID.slice(-1) })
        const cloud = { getTempFileURL: async ({ fileList }) => ({ fileList: fileList.map(linked) }) }
        withLinks(cloud, { images: ['cloud://e/a', 'id-1', 'cloud://e/b'], count: 2 })
          .then((params) => console.log(JSON.stringify(params)))
    """
    told = subprocess.run(
        [NODE or "node", "-e", script],
        cwd=cloud.folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert json.loads(told) == {
        "images": ["https://tmp.example.org/a", "id-1", "https://tmp.example.org/b"],
        "count": 2,
    }


def test_a_share_of_users_still_goes_the_old_way(house: RunningSystem, tmp_path: Path) -> None:
    folder = tmp_path / "functions"
    shutil.copytree(EXAMPLES, folder)
    (folder / "old.js").write_text("exports.oldSubmit = () => ({ success: true, data: 'the old way' })\n")
    cloud = Cloud(house, folder, OPENID, DARKROOM_PERCENT="0")
    try:
        assert cloud.main("submit", type="photography", params={})["data"] == "the old way"
    finally:
        cloud.end()

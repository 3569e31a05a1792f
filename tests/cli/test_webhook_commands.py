"""`darkroom webhooks`: list messages and receivers, send again, show the key."""

from __future__ import annotations

import json

from supervisor.cli.doctor.doctor import examine
from supervisor.store.tasks import user_actions
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.webhooks import deliveries
from supervisor.webhooks.signing_keys import webhook_keys
from tests.conftest import PARAMS, Store
from tests.support.command_line import darkroom


def test_abandoned_messages_are_listed_and_sent_again(store: Store) -> None:
    folder, where = store.settings.data_dir, {"DARKROOM_DATABASE_URL": store.settings.database_url}
    new = NewTask("o-1", "photography", PARAMS, webhook="https://app.example.org/hook?key=1")
    task_id = store.write(lambda tx: user_actions.submit(tx, store.settings, new))["task_id"]
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    assert darkroom(folder, "webhooks", "--failed", **where).stderr == "no webhooks\n"
    (message,) = store.write(lambda tx: deliveries.claim(tx, deliveries.due(tx).get()))
    store.write(lambda tx: deliveries.put_off(tx, message, None, status=500, reason="It answers 500."))

    (found,) = [each for each in examine(store.settings) if each.part == "webhooks"]
    assert found.well and found.sentence.startswith("0 to be delivered, 1 of the last day given up; ")

    shown = darkroom(folder, "webhooks", "--failed", **where).stdout
    assert message.id in shown and "It answers 500." in shown and "key=1" not in shown
    (listed,) = json.loads(darkroom(folder, "webhooks", "--json", **where).stdout)
    assert (listed["id"], listed["state"], listed["last_status"]) == (message.id, "failed", 500)
    assert listed["ended_at"].endswith("Z")

    told = darkroom(folder, "show", task_id, **where).stdout
    assert f"webhook {message.id}  task.cancelled to https://app.example.org/hook: failed" in told
    assert "attempt 1: It answers 500." in told and "key=1" not in told
    (delivery,) = json.loads(darkroom(folder, "show", task_id, "--json", **where).stdout)["webhooks"]
    assert [(each["attempt"], each["status"]) for each in delivery["tries"]] == [(1, 500)]

    assert darkroom(folder, "webhooks", "resend", message.id, **where).stdout == f"{message.id} is waiting\n"
    assert [each.id for each in store.write(lambda tx: deliveries.due(tx).get())] == [message.id]
    nobody = darkroom(folder, "webhooks", "resend", "msg_x_1", **where)
    assert (nobody.returncode, nobody.stdout) == (1, "") and nobody.stderr.count("\n") == 1


def test_the_key_is_printed_alone(store: Store) -> None:
    said = darkroom(store.settings.data_dir, "webhooks", "secret")
    assert said.returncode == 0 and said.stdout == webhook_keys(store.settings)[0] + "\n"

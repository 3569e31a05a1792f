"""Declared prices: the debit equals the estimate, missing pictures are refunded; compared with a model."""

from __future__ import annotations

import json
import math
import os
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.price import Price
from config.settings import Settings
from supervisor.core.price import NoPrice, cost_of
from supervisor.core.task_params import BadTask, check_params, check_submission
from supervisor.store.ledger import credits
from supervisor.store.tasks import user_actions
from supervisor.store.tasks.estimates import estimate
from tests.conftest import Store

EXAMPLE = {"base": 1, "per": "picture", "credits": 2, "by": [{"where": {"quality": "hd"}, "times": 2}]}
IMAGES = ["https://example.org/a.jpg"]
SEEDS, ORDERS_OF_A_PRICE = 3, 4
ORDERS = int(os.environ.get("PRICED_ORDERS", "48"))  # on each database, all seeds together


def _model(price: dict[str, Any], count: int, parameters: dict[str, Any]) -> tuple[int, int, Decimal]:
    """(credits, unit part, units), written again from the description, in decimals."""
    if price["per"] == "picture":
        units = Decimal(count)
    elif price["per"] == "task":
        units = Decimal(1)
    else:
        units = Decimal(str(parameters[price["seconds"].split(".")[1]]))
    part = Decimal(str(price["credits"])) * units
    for rule in price["by"]:
        if all(
            name in parameters and json.dumps(parameters[name]) == json.dumps(value)
            for name, value in rule["where"].items()
        ):
            part = part * Decimal(str(rule["times"]))
    whole = int(part.to_integral_value(rounding="ROUND_CEILING"))
    return price["base"] + whole, whole, units


_NUMBERS = st.sampled_from([0, 1, 2, 3, 0.1, 0.25, 0.3, 1.5, 7])
_VALUES = st.sampled_from(["hd", "sd", 1, True, 2])
_WHERE = st.dictionaries(st.sampled_from(["quality", "style", "fast"]), _VALUES, max_size=2)
_PRICES = st.fixed_dictionaries(
    {
        "base": st.integers(0, 5),
        "per": st.sampled_from(["picture", "second", "task"]),
        "credits": _NUMBERS,
        "by": st.lists(st.fixed_dictionaries({"where": _WHERE, "times": _NUMBERS}), max_size=3),
    }
).map(lambda price: price | ({"seconds": "parameters.length"} if price["per"] == "second" else {}))
_PARAMETERS = st.builds(
    lambda one, length: {**one, "length": length}, _WHERE, st.sampled_from([0, 1, 2.5, 4.75, 30])
)


def test_the_example_of_the_description_costs_5() -> None:
    assert cost_of(Price.model_validate(EXAMPLE), count=1, parameters={"quality": "hd"}).credits == 5
    assert cost_of(Price.model_validate(EXAMPLE), count=1, parameters={}).credits == 3


@given(_PRICES, st.integers(1, 8), _PARAMETERS)
def test_a_price_is_what_the_model_says(price: Any, count: int, parameters: Any) -> None:
    cost = cost_of(Price.model_validate(price), count=count, parameters=parameters)
    credits_, part, units = _model(price, count, parameters)
    assert (cost.credits, cost.credits - cost.base, Fraction(cost.units)) == (credits_, part, Fraction(units))


@given(st.integers(1, 8), st.integers(0, 1000))
def test_cost_credits_is_a_price_per_picture(count: int, each: int) -> None:
    settings = Settings(
        secret="of the tests, and of nothing else 0123", tasks={"own": {"cost_credits": each}}
    )
    assert check_params("own", {"images": IMAGES, "count": count}, settings).cost.credits == each * count


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ({"per": "second"}, 'PRICE is per second, so it must have seconds = "parameters.<name>".'),
        ({"seconds": "parameters.a"}, 'only one with per = "second"'),
        ({"per": "second", "seconds": "length"}, "parameters.<name>"),
        ({"credits": -1}, "greater"),
        ({"per": "hour"}, "second"),
        ({"by": [{"times": 2, "when": {}}]}, "when"),
    ],
)
def test_a_price_that_can_not_be_meant_is_refused(price: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Price.model_validate(price)


def test_a_price_stands_alone_and_looks_only_at_what_there_can_be() -> None:
    for declared, said in (
        ({"price": EXAMPLE, "cost_credits": 1}, "only one of them"),
        (
            {"price": EXAMPLE, "parameters": {"properties": {"a": {}}, "additionalProperties": False}},
            "'quality', which no order can have",
        ),
    ):
        with pytest.raises(ValidationError, match=said):
            Settings(secret="of the tests, and of nothing else 0123", tasks={"own": declared})


def test_wrong_seconds_are_reported_with_their_place() -> None:
    video = {"price": {"per": "second", "credits": 3, "seconds": "parameters.length"}}
    settings = Settings(secret="of the tests, and of nothing else 0123", tasks={"video": video})
    for parameters in ({}, {"length": "4"}, {"length": True}, {"length": -1}, {"length": 10**12}):
        with pytest.raises(BadTask) as refused:
            check_params("video", {"images": IMAGES, "parameters": parameters}, settings)
        assert refused.value.errors[0][0] == "/parameters/length"
    with pytest.raises(NoPrice, match="1,000,000,000"):
        cost_of(Price(per="second", credits=5, seconds="parameters.a"), count=1, parameters={"a": 10**9})


def _priced(store: Store, **price: Any) -> Settings:
    """The store's settings with a type `own` of this price; its quality is `sd` by default."""
    parameters = {"properties": {"quality": {"default": "sd"}}}
    own = {"price": price, "parameters": parameters, "inputs": {"images": [0, 1]}}
    told = store.settings.model_dump(exclude={"tasks", "providers"}) | {
        "secret": "of the tests, and of nothing else 0123",
        "tasks": {"own": own},
    }
    return Settings(**told)


def _order(**params: Any) -> dict[str, Any]:
    return {"type": "own", "params": params}


def _submit(store: Store, settings: Settings, user: str, order: dict[str, Any]) -> str:
    new = user_actions.NewTask(user, order["type"], order["params"])
    return str(store.write(lambda tx: user_actions.submit(tx, settings, new))["task_id"])


def test_the_debit_keeps_its_parts(store: Store) -> None:
    settings = _priced(store, **EXAMPLE)
    task = _submit(store, settings, "o-1", _order(count=3, parameters={"quality": "hd"}))
    (row,) = store.all("SELECT amount, base, per, units FROM credit_entry WHERE task_id = ?", task)
    assert (row["amount"], row["base"], row["per"], row["units"]) == (-13, 1, "picture", 3)
    assert json.loads(store.value("SELECT CAST(params AS TEXT) FROM task_queue WHERE id = ?", task)) == {
        "count": 3, "parameters": {"quality": "hd"},
    }  # fmt: skip


def _complete(store: Store, task: str, missing: int) -> None:
    """What a worker's last write does, as far as the ledger is concerned."""
    store.write(
        lambda tx: tx.execute(
            f"""UPDATE task_queue SET status = 'processing', lease = lease + 1, attempt = attempt + 1,
                worker_id = 'w', deadline_at = {tx.shifted(tx.now, "60.0")}, processing_started_at = {tx.now}
                WHERE id = ?""",
            task,
        )
    )
    store.write(
        lambda tx: tx.execute(
            f"""UPDATE task_queue SET status = 'completed', stage = 'completed', progress = 100, missing = ?,
                images = '[]', deadline_at = NULL, finished_at = {tx.now} WHERE id = ?""",
            missing, task,
        )
    )  # fmt: skip


@pytest.mark.timeout(60 + ORDERS)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_estimate_debit_and_refunds_agree_with_the_model(store: Store, seed: int) -> None:
    """`make priced-orders` makes ten thousand of them on each database."""
    draw = random.Random(seed)
    orders = math.ceil(ORDERS / SEEDS)
    prices = [
        {
            "base": draw.randint(0, 4),
            "per": draw.choice(["picture", "picture", "second", "task"]),
            "credits": draw.choice([0, 1, 2, 0.5, 1.3]),
            "by": [
                {"where": {"quality": draw.choice(["sd", "hd"])}, "times": draw.choice([0.5, 2, 3])}
                for _ in range(draw.randint(0, 2))
            ],
        }
        for _ in range(math.ceil(orders / ORDERS_OF_A_PRICE))
    ]
    store.write(lambda tx: credits.grant(tx, "o-1", 100_000_000, f"test-{seed}"))
    balance = store.value("SELECT balance FROM account WHERE user_openid = 'o-1'")
    for price in prices:
        if price["per"] == "second":
            price["seconds"] = "parameters.length"
        settings = _priced(store, **price)
        for _ in range(ORDERS_OF_A_PRICE):
            count = draw.randint(1, 5)
            parameters = {"length": draw.choice([1, 2.5, 4])}
            parameters |= {"quality": draw.choice(["sd", "hd"])} if draw.random() < 0.6 else {}
            order = _order(count=count, parameters=parameters)
            cost, part, units = _model(price, count, {"quality": "sd", **parameters})
            checked = check_submission(order, settings, may_jump_the_queue=False)
            told = store.database.read(lambda tx, s=settings, c=checked: estimate(tx, s, "o-1", c))
            assert (told["credits"], told["balance"]) == (cost, balance)
            task = _submit(store, settings, "o-1", order)
            assert (
                -(store.value("SELECT coalesce(sum(amount), 0) FROM credit_entry WHERE task_id = ?", task))
                == cost
            )
            missing = draw.randint(0, count - 1)
            if draw.random() < 0.3:
                store.write(lambda tx, t=task: user_actions.cancel(tx, t))
                paid = 0
            else:
                _complete(store, task, missing)
                paid = cost - (math.floor(part * missing / units) if price["per"] == "picture" else 0)
            assert (
                -(store.value("SELECT coalesce(sum(amount), 0) FROM credit_entry WHERE task_id = ?", task))
                == paid
            )
            balance -= paid
            assert store.value("SELECT balance FROM account WHERE user_openid = 'o-1'") == balance


def test_a_debit_of_an_older_program_is_refunded_as_it_was(store: Store) -> None:
    task = _submit(store, _priced(store, per="picture", credits=0), "o-1", _order(count=4))
    store.write(
        lambda tx: tx.execute(
            "INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount) VALUES ('o-1', ?, 1, 'debit', ?)",
            task,
            -8,
        )
    )
    _complete(store, task, 3)
    assert store.value("SELECT amount FROM credit_entry WHERE task_id = ? AND kind = 'refund'", task) == 6

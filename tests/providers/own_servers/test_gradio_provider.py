"""The `gradio` provider: an order joins the app's queue, and its stream is held until it is over.

The fake has the observed behaviour of Gradio 6.31; `make real-servers` runs the adapter with the real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.providers.base import CutOff, ProviderDown, ProviderError, ResultLost
from actors.providers.gradio.events import files_in
from supervisor.core.errors import SettingFault
from tests.support.fakes.gradio_app import GradioApp
from tests.support.providers.adapters import Adapters, colour_of, error_of, images_of


@pytest.fixture
def app() -> Iterator[GradioApp]:
    with GradioApp() as served:
        yield served


@pytest.fixture
async def adapters(tmp_path: Path) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened


def settings_of(app: GradioApp, input_: Any = None, **more: Any) -> dict[str, Any]:
    given = {"image": "${input.0.file}"} if input_ is None else input_
    return {"kind": "gradio", "url": app.url, "options": {"endpoint": "/invert", "input": given}, **more}


async def test_an_order_waits_in_the_apps_queue_and_shows_where_it_is(app, adapters):
    provider = adapters.open(settings_of(app))
    (image,) = images_of(await adapters.submit(provider))
    assert colour_of(image) == "red" and provider.may_bill_twice
    photo, steps = app.data
    assert steps == 20, "inputs that are not named have the app's defaults"
    assert photo["url"].startswith("data:image/png;base64,") and photo["meta"] == {"_type": "gradio.FileData"}
    assert (10, "number 3 in the app's queue") in adapters.progress and (
        50,
        "running in the app",
    ) in adapters.progress


async def test_a_list_keeps_the_places_of_empty_values(app, adapters):
    wanted = ["${params.parameters.style}", "${params.prompt}"]
    images_of(await adapters.submit(adapters.open(settings_of(app, wanted))))
    assert app.data == [None, "by the sea"]


async def test_the_apps_error_reaches_the_user_and_an_empty_one_gets_advice(app, adapters):
    app.fails, app.error = True, "The model has no such style."
    assert "no such style" in error_of(await adapters.submit(adapters.open(settings_of(app)))).message
    app.error = None
    said = error_of(await adapters.submit(adapters.open(settings_of(app))))
    assert type(said) is ProviderError and "show_error=True" in said.message


async def test_settings_that_do_not_fit_the_app_stop_all_orders_and_name_the_right_ones(app, adapters):
    said = error_of(await adapters.submit(adapters.open(settings_of(app, {"imag": 1}))))
    assert type(said) is ProviderDown and "takes no 'imag'; it takes image, steps" in said.message
    nobody = settings_of(app) | {"options": {"endpoint": "nobody"}}
    assert "it has invert" in error_of(await adapters.submit(adapters.open(nobody))).message
    with pytest.raises(SettingFault, match="ENDPOINT is not set"):
        adapters.open(settings_of(app) | {"options": {}})


async def test_an_app_that_dies_with_an_order_has_lost_it_unless_its_result_arrived(app, adapters):
    provider = adapters.open(settings_of(app))
    app.dies = "before"
    assert type(error_of(await adapters.submit(provider))) is CutOff
    app.dies = "after"
    images_of(await adapters.submit(provider))
    app.dies, app.knows = "", False  # it was started anew in between
    assert type(error_of(await adapters.submit(provider))) is CutOff


@pytest.mark.parametrize("output", [[], ["no picture"], [{"path": None, "url": None}]])
async def test_an_output_without_a_picture_is_an_error(app, adapters, output):
    app.output = output
    said = error_of(await adapters.submit(adapters.open(settings_of(app))))
    assert type(said) in (ProviderError, ResultLost)


def test_files_are_found_in_galleries_too():
    file = {"path": "a.webp", "url": None}
    assert files_in({"data": [[{"image": file, "caption": None}], 7, file]}) == [file, file]

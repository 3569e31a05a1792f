"""Headless Chromium, from the system's packages."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.support.npm_packages import npm_packages

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


class Browser:
    """One browser with a profile of its own; `quit` ends it.  languages: as the browser asks for, "zh-CN,zh".

    counts: whether `received` is asked for."""

    def __init__(self, address: str, *, languages: str = "en-US,en", counts: bool = False) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        self.profile = tempfile.mkdtemp(prefix="dk-chromium-")
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in [*FLAGS.split(), f"--user-data-dir={self.profile}", "--window-size=1280,900"]:
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"intl.accept_languages": languages})
        logs = {"browser": "ALL"} | ({"performance": "ALL"} if counts else {})
        options.set_capability("goog:loggingPrefs", logs)
        self._received: dict[str, Received] = {}
        self.driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        self.driver.get(address)

    def quit(self) -> None:
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def received(self) -> dict[str, int]:
        """{address: bytes that came over the wire for it so far, heads included}, of streams that go on too."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            _count(self._received, message["method"], message["params"])
        sums: dict[str, int] = {}
        for each in self._received.values():
            sums[each.address] = sums.get(each.address, 0) + (each.whole or each.head + each.body)
        return sums

    def press(self, key: str) -> None:
        """A key, to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def go_offline(self, is_offline: bool) -> None:
        """As if the network were gone, `navigator.onLine` included."""
        conditions = {"offline": is_offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)

    def dress(self, theme: str) -> None:
        """For a reader who prefers "light" or "dark", and reduced motion."""
        wishes = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def bring_axe(self) -> None:
        """Load what `broken_rules` asks; needs npm."""
        self.js((npm_packages() / "node_modules" / "axe-core" / "axe.min.js").read_text())

    def broken_rules(self) -> list[str]:
        """The findings of axe: rule, mistake and place."""
        told = self.driver.execute_script("return axe.run()")
        assert len(told["passes"]) > 10, "axe has looked"
        return [
            f"{rule['id']}: {node['failureSummary']} {node['html']}"
            for rule in told["violations"]
            for node in rule["nodes"]
        ]

    def complaints(self) -> list[str]:
        """What the browser's log holds since it was asked last."""
        return [each["message"] for each in self.driver.get_log("browser")]


@dataclasses.dataclass
class Received:
    """Bytes of one request's answer.  whole: of head and body, once it has ended."""

    address: str
    head: int = 0
    body: int = 0
    whole: int = 0


def _count(received: dict[str, Received], method: str, params: dict[str, Any]) -> None:
    """One event of the DevTools protocol's domain Network."""
    if method == "Network.requestWillBeSent":
        received[params["requestId"]] = Received(params["request"]["url"])
        return
    each = received.get(params.get("requestId", ""))
    if each is None:
        return
    match method:
        case "Network.responseReceived":
            each.head = int(params["response"]["encodedDataLength"])
        case "Network.dataReceived":
            each.body += int(params["encodedDataLength"])
        case "Network.loadingFinished":
            each.whole = int(params["encodedDataLength"])

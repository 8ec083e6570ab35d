"""A real browser for the tests that look at pages: Debian's chromium, without a window, in a profile of its own."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import unavailable

SECONDS = 60  # until a page is drawn; an idle machine takes one


class Browser:
    """One that stays open; `open` begins a page anew."""

    def __init__(self, folder: str) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        # as root there is no sandbox, and nothing of the browser's own may ask the network or take time
        for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking",
                     "disable-component-update", "disable-sync", "no-first-run", f"user-data-dir={folder}"):  # fmt: skip
            options.add_argument(f"--{flag}")
        options.add_argument("about:blank")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open(self, page: Path, width: int = 1280, dark: bool = False) -> None:
        """The page, with all that it draws, at a width in pixels and in a theme."""
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # type: ignore[no-untyped-call]  # what came before
        self.driver.get(page.as_uri())
        self.drawn()

    def drawn(self) -> None:
        """Waits until every figure is there."""
        self.until("document.documentElement.dataset.drawn", "yes")

    def until(self, expression: str, value: str) -> None:
        """Waits until it has this value."""
        end = time.monotonic() + SECONDS
        while (found := self(f"return {expression}")) != value:
            assert time.monotonic() < end, f"{expression} is {found} after {SECONDS} s: {self.console()}"
            time.sleep(0.05)

    def __call__(self, script: str, *arguments: Any) -> Any:
        """What JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """What the page said since it was opened, warnings included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """What the page asked for, but itself."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        events = [json.loads(entry["message"])["message"] for entry in entries]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(("file:", "data:"))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    for program in ("chromium", "chromedriver"):
        if not shutil.which(program):
            unavailable(f"{program}; apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(prefix="deploybench-browser-", ignore_cleanup_errors=True) as folder:
        one = Browser(folder)
        yield one
        one.driver.quit()

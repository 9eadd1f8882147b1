"""One server for all tests of the page; a screenshot of every page whose test fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse

import pytest

from neuromerge.deployment import Limits
from neuromerge.evaluation.families import Family
from neuromerge.interface.loader import WorkspaceLoader
from tests.interface import fakes

T = TypeVar("T")

PATIENCE_MS = 1000 * int(os.environ.get("NEUROMERGE_BROWSER_PATIENCE", "60"))
"""How long a test waits for what should take a moment: the machine may be busy with other things."""
LIMITS = Limits(max_upload_bytes=300_000, max_pixels=250_000, max_classes=20)


@contextlib.contextmanager
def serving(loader: WorkspaceLoader, families: Mapping[str, Family] | None, limits: Limits = LIMITS) -> Iterator[str]:
    """The page, served on this machine while the context lasts; its address."""
    from neuromerge.interface.app import build

    with served(build(loader, families, limits), limits) as address:
        yield address


@contextlib.contextmanager
def served(demo: Any, limits: Limits = LIMITS) -> Iterator[str]:
    """A page that is built already, served on this machine while the context lasts; its address."""
    from neuromerge.interface.launch import server_options

    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **server_options(limits))
    try:
        yield address
    finally:
        demo.close(verbose=False)


def in_a_loop(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, run by a thread of its own: a browser's driver keeps this thread's loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A page over numbers from formulas: every event at once, no model."""
    families = {entry.name: entry for entry in (fakes.family(), fakes.family("other", "Another family"))}
    with serving(WorkspaceLoader(fakes.FakeWorkspace), families) as address:
        yield address


@pytest.fixture(scope="session", autouse=True)
def patience() -> None:
    """Let Playwright's assertions wait as long as the tests do."""
    with contextlib.suppress(ImportError):
        from playwright.sync_api import expect

        expect.set_options(timeout=PATIENCE_MS)


class Visitor:
    """A browser context with one page, and everything the page complained about."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.address = address.rstrip("/")
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _asked(self, request: Any) -> None:
        url = urlparse(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.hostname not in ("127.0.0.1", "localhost"):
            self.complaints.append(f"a request left the machine: {request.url}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.complaints.append(f"HTTP {response.status}: {response.url}")

    def open(self, query: str = "", *, tab: str = "") -> Any:
        """Load the page and wait for the first merge; `tab` is opened afterwards.

        A query is about the published merge, but for a teacher's; without one the page opens as it does for everybody.
        """
        about = "m=neuromerging&" if query and not query.startswith("step=") and "m=" not in query else ""
        self.page.goto(f"{self.address}/?{about}{query}")
        self.page.wait_for_selector("#readout .nm-score-value")
        if tab:
            self.tab(tab)
        return self.page

    def tab(self, name: str) -> None:
        """Open a tab by its title."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def drawn(self, identity: str) -> None:
        """Wait until a figure is drawn, and counted: a first `data-drawn` that is missing can never change."""
        self.page.wait_for_selector(f"#{identity} .nm-view[data-state=drawn][data-drawn]")

    def cells(self, identity: str) -> list[list[Any]]:
        """The numbers of a figure's heatmaps as the browser holds them."""
        script = "id => (document.querySelector(`#${id} .nm-stage`).data || []).filter(t => t.z).map(t => t.z)"
        return self.page.evaluate(script, identity)

    def slider(self, identity: str) -> Any:
        """The range input of a control."""
        return self.page.locator(f"#{identity} input[type=range]")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let fixtures know whether their test failed."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "call":
        item.stash[FAILED] = report.failed


FAILED = pytest.StashKey[bool]()


@pytest.fixture
def visit(
    chromium: Any, server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors; afterwards none may have had a console error or asked for anything outside."""
    visitors: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        visitors.append(Visitor(chromium, server, **options))
        return visitors[-1]

    yield make
    failed = request.node.stash.get(FAILED, False)
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    for number, visitor in enumerate(visitors):
        if failed:
            path = tmp_path / f"failure-{number}.png"
            with contextlib.suppress(Exception):
                visitor.page.screenshot(path=str(path))
                print(f"screenshot: {path}")
        visitor.context.close()
    if not failed:
        assert complaints == []


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    """One visitor with a desktop screen."""
    return visit()

"""The app in Chromium: from an input event to the painted picture.

Starts ``python app.py`` in a process of its own, opens its page, and works the controls as a person does: real
keys, real clicks. Each time is taken in the page, from the time stamp of the input event to the frame after the
picture was drawn. Needs Playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from neuromerge.benchmarks.chromium import ARGUMENTS, chromium_path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120

ORTHOGONAL = "#neuromerging-lambda-orthogonal input[type=range]"
TRIM = "#neuromerging-trim-ratio input[type=range]"
FACTOR = "#strength-sliders input[type=range]"
"""Of the cell that is open, on what lambda_2 scales."""
FACTORS = 40
"""Its steps from one end to the other."""
MOVING = "retention"
"""A measure that lambda moves: the map that opens is of the experts alone."""

# Notes, in milliseconds since the page was asked for, when the merge's score and the first figure were painted.
FIRST_PAINTS = """
window.neuromergePaints = {};
const parts = {
  score: '#readout .nm-score-value',
  bars: '#accuracy-bars .nm-view:is([data-state=sketched], [data-drawn])',
  live: '#accuracy-bars .nm-view[data-drawn]',
};
new MutationObserver(() => {
  for (const [name, selector] of Object.entries(parts)) {
    if (name in window.neuromergePaints || !document.querySelector(selector)) { continue; }
    window.neuromergePaints[name] = 0;
    requestAnimationFrame(() => setTimeout(() => { window.neuromergePaints[name] = performance.now(); }, 0));
  }
}).observe(document, { subtree: true, childList: true, attributeFilter: ['data-drawn', 'data-state'] });
"""

# Arms a stop watch in the page: it starts at the next event of `kind` and stops, for each target, in the frame
# after what the target shows has changed (an attribute, or the text of a part: Gradio's own marks of work under way
# come and go beside it). What never changes is given as null after the patience.
STOP_WATCH = """
([kind, targets, patience]) => {
  window.neuromergeWatch = new Promise((resolve) => {
    let start = null;
    document.addEventListener(kind, (event) => { start ??= event.timeStamp; }, { capture: true, once: true });
    const times = {};
    const stop = (name, time) => {
      if (name in times) { return; }
      times[name] = time;
      if (Object.keys(times).length === targets.length) { resolve(times); }
    };
    for (const [name, selector, attribute, part] of targets) {
      const node = document.querySelector(selector);
      const shown = () => attribute ? node.getAttribute(attribute) : node.querySelector(part)?.textContent;
      const before = shown();
      const observer = new MutationObserver(() => {
        if (start === null || shown() === before || shown() === undefined) { return; }
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => stop(name, performance.now() - start), 0));
      });
      observer.observe(node, { attributes: true, childList: true, characterData: true, subtree: true });
      setTimeout(() => { observer.disconnect(); stop(name, null); }, patience);
    }
  });
}
"""
PATIENCE_OF_A_MOVE_MS = 10_000

Target = tuple[str, str, str | None, str | None]
"""What is watched: name, selector, and the attribute or the part whose text is compared."""


@dataclass(frozen=True)
class Aim:
    """What is measured, and what its 95th percentile should stay under, in milliseconds; infinite where nothing is."""

    name: str
    milliseconds: float = math.inf


AIMS = {
    "up": Aim("server up after start", 10_000),
    "score": Aim("first paint of a fresh page: score", 3_000),
    "bars": Aim("first paint of a fresh page: bars", 3_000),
    "live": Aim("fresh page: bars answer the mouse"),
    "lambda heatmap": Aim("lambda moved -> heatmaps", 150),
    "lambda accuracy": Aim("lambda moved -> quick accuracy", 200),
    "trim heatmap": Aim("trim moved -> heatmaps", 300),
    "trim accuracy": Aim("trim moved -> quick accuracy", 400),
    "click": Aim("cell clicked -> layer open", 300),
    "factor heatmap": Aim("a cell's factor moved -> heatmaps", 150),
    "factor accuracy": Aim("a cell's factor moved -> quick accuracy", 200),
}


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_app(port: int) -> Iterator[tuple[str, float, subprocess.Popen[bytes]]]:
    """``python app.py`` on `port` while the context lasts: its address, seconds until it answered, its process."""
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(address, timeout=5).read()
                break
            if process.poll() is not None or time.perf_counter() - begun > PATIENCE_S:
                raise SystemExit(f"The app did not answer on {address}.")
            time.sleep(0.05)
        yield address, time.perf_counter() - begun, process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


def timed(page: Any, kind: str, targets: list[Target], act: Any) -> dict[str, float]:
    """Milliseconds from the input event that `act` causes until each target was painted.

    Raises SystemExit, naming it, where a target never changed.
    """
    page.evaluate(STOP_WATCH, [kind, targets, PATIENCE_OF_A_MOVE_MS])
    act()
    times = dict(page.evaluate("window.neuromergeWatch"))
    if late := [name for name, time_ms in times.items() if time_ms is None]:
        raise SystemExit(f"No change of {', '.join(late)} within {PATIENCE_OF_A_MOVE_MS // 1000} s of the {kind}.")
    return times


def measure(address: str, moves: int, warm: int) -> dict[str, list[float]]:
    """Milliseconds of every measurement, by the keys of `AIMS` (without ``up``)."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {key: [] for key in AIMS if key != "up"}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        for _ in range(min(5, moves)):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.set_default_timeout(1000 * PATIENCE_S)
            page.add_init_script(FIRST_PAINTS)
            page.goto(address)
            page.wait_for_function("() => window.neuromergePaints.live > 0")
            for key, milliseconds in page.evaluate("window.neuromergePaints").items():
                found[key].append(milliseconds)
            context.close()

        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        page.goto(f"{address}/?m=neuromerging&tab=interference&measure={MOVING}")
        page.wait_for_selector("#readout .nm-score-value")
        page.wait_for_selector("#interference .nm-view[data-drawn]")
        pictures: list[Target] = [
            ("heatmap", "#interference .nm-view", "data-drawn", None),
            ("accuracy", "#readout", None, ".nm-score-label"),
        ]

        def move(name: str, slider: Any, key: str, most: int = 200) -> None:
            slider.focus()
            for number in range(min(warm + moves, most)):
                times = timed(page, "input", pictures, lambda: slider.press(key))
                if number >= warm:
                    found[f"{name} heatmap"].append(times["heatmap"])
                    found[f"{name} accuracy"].append(times["accuracy"])

        move("lambda", page.locator(ORTHOGONAL), "ArrowRight")
        move("trim", page.locator(TRIM), "ArrowLeft")
        stage = page.locator("#interference .nm-stage")
        layer: list[Target] = [("layer", "#layer-caption", None, "b")]
        for number in range(warm + moves):
            stage.scroll_into_view_if_needed()  # the click before brought the opened layer into view
            page.wait_for_timeout(400)
            places = cells(page)
            x, y = places[number % len(places)]
            # As a person does: point first, and not so fast that two clicks are a double click.
            page.mouse.move(x, y)
            page.wait_for_timeout(400)
            times = timed(page, "click", layer, lambda x=x, y=y: page.mouse.click(x, y))
            if number >= warm:
                found["click"].append(times["layer"])
        factor = page.locator(FACTOR).last
        factor.press("End")
        page.wait_for_timeout(2000)
        move("factor", factor, "ArrowLeft", FACTORS)
        browser.close()
    return found


def cells(page: Any) -> list[tuple[float, float]]:
    """Places on the screen of the cells of the blocks' matrices, in the orthogonal panel."""
    return [
        tuple(place)
        for place in page.evaluate(
            """() => {
              const stage = document.querySelector('#interference .nm-stage');
              const trace = stage.data.find(trace => trace.meta?.source === 'orthogonal');
              return trace.z.flatMap((line, row) => line.flatMap((value, column) => {
                if (value === null || column >= 6) { return []; }
                const { x, y } = NeuroMergeView.placeOf(stage, 'orthogonal', row, column);
                return [[x, y]];
              }));
            }"""
        )
    ]


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def main(argv: list[str]) -> int:
    """Measure, and print median and 95th percentile beside the aims."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks browser", description=__doc__)
    parser.add_argument("--moves", type=int, default=40, metavar="N", help="measurements of each kind (default 40)")
    parser.add_argument(
        "--warm", type=int, default=3, metavar="N", help="moves before them that do not count (default 3)"
    )
    options = parser.parse_args(argv)
    if options.moves < 1 or options.warm < 0:
        parser.error("--moves must be at least 1 and --warm at least 0")
    with running_app(free_port()) as (address, seconds, _):
        found = {"up": [1000 * seconds], **measure(address, options.moves, options.warm)}
    print(f"{'':34s}{'median':>10s}{'p95':>10s}{'aim':>10s}   n")
    for key, values in found.items():
        aim, p95 = AIMS[key], percentile(values, 0.95)
        verdict = "" if p95 <= aim.milliseconds else "  over"
        wanted = f"{aim.milliseconds:8.0f}ms" if aim.milliseconds < math.inf else f"{'':10s}"
        print(f"{aim.name:34s}{median(values):8.0f}ms{p95:8.0f}ms{wanted}{len(values):4d}{verdict}")
    return 0

"""The page put together: sidebar, readout, tour, tabs, and the events that keep them in step."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from neuromerge.deployment import Limits, deployment
from neuromerge.evaluation.families import Family, unreadable_families
from neuromerge.evaluation.families import families as known_families
from neuromerge.exploration.protocol import Explorer
from neuromerge.interface.api import add_api
from neuromerge.interface.blocks import PageBlocks
from neuromerge.interface.components.controls import FIRST_COMPARISON, build_controls
from neuromerge.interface.components.header import header
from neuromerge.interface.components.readout import loading_readout, unreadable_notice
from neuromerge.interface.events import Events
from neuromerge.interface.fetching import FetchPanel
from neuromerge.interface.flow import Flow
from neuromerge.interface.lesson.tour import Tour
from neuromerge.interface.loader import WorkspaceLoader, make_workspace
from neuromerge.interface.page import Page
from neuromerge.interface.session import Pulse
from neuromerge.interface.sidebar import Sidebar
from neuromerge.interface.signals import build_signals
from neuromerge.interface.tab import Tab
from neuromerge.interface.tabs import TABS
from neuromerge.merging import kernels
from neuromerge.settings.choices import first_setting, make_setting
from neuromerge.settings.setting import Setting

TITLE = "NeuroMerge"


def build(
    loader: WorkspaceLoader | None = None,
    families: Mapping[str, Family] | None = None,
    limits: Limits | None = None,
    tabs: Sequence[type[Tab[Any]]] = TABS,
) -> gr.Blocks:
    """The page as Gradio blocks, not launched yet.

    Args:
        loader: where the workspace comes from; None makes the process's own when it is first needed.
        families: the model families to offer; None: every known one.
        limits: what visitors may do; None reads them from the environment.
        tabs: in order; the first one is open at first.

    Raises:
        SettingError: when a limit in the environment is not a number, or no family can be read.
    """
    unreadable = unreadable_families() if families is None else {}
    families = known_families() if families is None else families
    limits = deployment().limits if limits is None else limits
    loader = WorkspaceLoader() if loader is None else loader

    with PageBlocks(
        title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=(300, limits.export_seconds)
    ) as demo:
        page, tour = lay_out(loader, families, limits, tabs, unreadable)
        page.presence = demo.presence
        page.recall, page.taken = demo.recall, demo.taken
        page.queued = lambda lane: demo.waiting().lanes.get(lane, 0)
        events = Events(page)
        Sidebar(page).wire(events)
        opened = Flow(page).wire(events, demo)
        page.fetch.wire(page, events)
        for tab in page.tabs:
            tab.wire(events)
        tour.wire(events, opened)
        add_api(loader, families, limits)
    demo.queue(api_open=False, max_size=limits.queue_size, default_concurrency_limit=limits.light_workers)
    return demo


def lay_out(
    loader: WorkspaceLoader,
    families: Mapping[str, Family],
    limits: Limits,
    tabs: Sequence[type[Tab[Any]]] = TABS,
    unreadable: Mapping[str, str] | None = None,
) -> tuple[Page, Tour]:
    """The page's components where the caller's layout context is, without events.

    `unreadable` are families that cannot be offered, with the reasons.
    """
    signals = build_signals(tabs[0].key, limits.session_seconds)
    with gr.Sidebar(width=328, elem_id="controls"):
        controls = build_controls(families)
    signals.sidebar.value = [component.value for component in controls.gathered]
    with gr.Row(elem_id="head"):
        header()
        tour_button = gr.Button("Guided tour", size="sm", min_width=0, scale=0, elem_id="tour-open")
    if unreadable:
        gr.HTML(unreadable_notice(unreadable))
    page = Page(
        loader=loader,
        limits=limits,
        controls=controls,
        pulse=Pulse(4 * limits.sessions),
        fetch=FetchPanel(signals),
        readout=gr.HTML(loading_readout(), elem_id="readout"),
        signals=signals,
    )
    tour = Tour(page, tour_button)
    tour.build()
    with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
        for kind in tabs:
            tab = kind(page)
            with gr.Tab(tab.title, id=tab.key, elem_id=f"tab-{tab.key}") as panel:
                tab.place()
            page.tabs.append(tab)
            page.panels[tab.key] = panel
    return page, tour


def opening_workspace(families: Mapping[str, Family]) -> Explorer:
    """The process's workspace, which knows what a fresh page shows where an earlier start has kept it."""
    workspace = make_workspace()
    workspace.recall(*opening_settings(families))
    return workspace


def opening_settings(families: Mapping[str, Family]) -> tuple[Setting, Setting]:
    """The merge that every fresh page opens with, and what it is compared with."""
    setting = first_setting(families)
    return setting, make_setting(families[setting.family], setting.tasks, FIRST_COMPARISON)


def warm_up(loader: WorkspaceLoader, families: Mapping[str, Family]) -> threading.Thread:
    """Make, in the background, what every fresh page shows; returns the thread.

    Compiled kernels are made or loaded beside it, and serve as soon as they are there.
    """
    kernels.load_in_background()
    return loader.warm_up(lambda workspace: workspace.prepare(*opening_settings(families)))

"""The tabs of the page, in order. A new one is a file here and a place in this list."""

from __future__ import annotations

from typing import Any

from neuromerge.interface.state import TabState
from neuromerge.interface.tab import Tab
from neuromerge.interface.tabs.bring import BringTab
from neuromerge.interface.tabs.export import ExportTab
from neuromerge.interface.tabs.interference import InterferenceTab
from neuromerge.interface.tabs.merge import MergeTab
from neuromerge.interface.tabs.neuron import NeuronTab
from neuromerge.interface.tabs.tune import TuneTab
from neuromerge.interface.tabs.zero_shot import ZeroShotTab

TABS: tuple[type[Tab[Any]], ...] = (MergeTab, InterferenceTab, ZeroShotTab, NeuronTab, TuneTab, BringTab, ExportTab)

STATES: dict[str, type[TabState]] = {tab.key: tab.state for tab in TABS}
"""What each of them shows, for permalinks."""

"""Start NeuroMerge's app: `python app.py`."""

from __future__ import annotations

from neuromerge.interface.launch import launch

if __name__ == "__main__":
    launch()

"""Start the app: the settings of the server, in one place."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from neuromerge.deployment import Limits, deployment, keep_files_in
from neuromerge.evaluation.families import families as known_families
from neuromerge.interface import observing, static_files
from neuromerge.interface.app import build, opening_workspace, warm_up
from neuromerge.interface.components.controls import method_rules, suite_rules
from neuromerge.interface.components.fetching import FETCHING_RULES
from neuromerge.interface.components.readout import STALE_RULES
from neuromerge.interface.front import SameForAll
from neuromerge.interface.gate import Gate
from neuromerge.interface.leftovers import ServerFolder
from neuromerge.interface.lesson.hiding import hiding_rules
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.interface.memory import keep_for_good, share_heaps
from neuromerge.interface.prefetch import prefetch, require_known
from neuromerge.interface.tabs import STATES
from neuromerge.interface.theme import style_sheet, theme

_WARMING_SECONDS = 60.0
"""How long the collector of garbage is left off at most; a cold machine takes ten to begin."""


def server_options(limits: Limits) -> dict[str, Any]:
    """Arguments of `gr.Blocks.launch`: nothing leaves the machine, nothing is shared that need not be."""
    largest = replace(deployment(), limits=limits).largest_upload
    rules = "".join([method_rules(), suite_rules(known_families()), STALE_RULES, FETCHING_RULES, hiding_rules(STATES)])
    return {
        "theme": theme(),
        "css": style_sheet(),
        "head": f"{static_files.head()}<style>{rules}</style>",
        "app_kwargs": {
            "routes": [*static_files.routes(), *observing.routes()],
            "middleware": [
                Middleware(Gate, limits=limits, largest_upload=largest, frame_ancestors=deployment().frame_ancestors),
                Middleware(SameForAll, first=static_files.early()),
            ],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        "max_file_size": largest,
        "state_session_capacity": limits.sessions,
        # Also the number of events under way: a page whose controls come to rest holds a place, though no thread.
        "max_threads": max(40, limits.queue_size),
        "show_error": False,
        "share": False,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "footer_links": ["api"],
        "mcp_server": importlib.util.find_spec("mcp") is not None,
    }


def launch(port: int | None = None, host: str | None = None, *, block: bool = True, quiet: bool = False) -> gr.Blocks:
    """Build the app, serve the page and start the first merge in the background.

    Args:
        port: 1 to 65535; None takes ``GRADIO_SERVER_PORT`` or the first free one from 7860.
        host: address to listen on; None means this machine only, on a public Space every address.
        block: stay until the server is stopped.
        quiet: print nothing.

    Raises:
        SettingError: when a variable of the environment cannot be read.
    """
    share_heaps()
    deployed = deployment()
    observing.set_up_logging(deployed.log_level)
    limits = deployed.limits
    folder = ServerFolder(deployed.temporary)
    folder.remove_at_end(of_signals=block)
    keep_files_in(folder.files)
    folder.keep_tidy(max(limits.session_seconds, limits.export_seconds), limits.temporary_bytes)
    families = known_families()
    require_known(deployed.prefetch, families)
    loader = WorkspaceLoader(partial(opening_workspace, families))
    demo = build(loader, None, limits)
    demo.launch(
        server_port=port,
        server_name=host or ("0.0.0.0" if deployed.public else None),
        prevent_thread_lock=True,
        quiet=quiet,
        **server_options(limits),
    )
    prefetch(loader, families, deployed.prefetch)
    warming = warm_up(loader, families)  # once the server answers: before, it would compete with its start
    if block:
        threading.Thread(target=_keep_what_comes_of, args=(warming,), daemon=True).start()
        demo.block_thread()
    return demo


def _keep_what_comes_of(warming: threading.Thread) -> None:
    warming.join(_WARMING_SECONDS)
    keep_for_good()

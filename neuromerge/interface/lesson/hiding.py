"""What a teacher's link may leave out of the page: tabs, groups of controls, single controls (``?hide=tune,presets``).

Hiding is a matter of style in the browser: nothing is switched off, so that a step of the tour can still show it.
"""

from __future__ import annotations

from collections.abc import Iterable

from neuromerge.interface.components.controls import control_id
from neuromerge.merging import registry

GROUPS = {
    "controls": ".sidebar",
    "models": "#group-models",
    "method": "#group-merge",
    "presets": "#group-presets",
    "share": "#group-share",
    "readout": "#readout",
    "tour": "#tour-open",
}
"""Parts of the page that are neither tabs nor parameters, with their selectors."""


def parts(tabs: Iterable[str]) -> dict[str, str]:
    """Everything that can be hidden, by its name in a link, with its selector; `tabs` are the tabs' keys."""
    found = {tab: f"#tab-{tab}-button" for tab in tabs} | GROUPS
    for name, method in registry.methods().items():
        for spec in method.hyperparameters:
            identity = control_id(name, spec.name)
            widgets = ", ".join(f"#{identity}{part}" for part in ("", "-auto", "-rule"))
            found[spec.name] = f"{found[spec.name]}, {widgets}" if spec.name in found else widgets
    return found


def hiding_rules(tabs: Iterable[str]) -> str:
    """CSS that hides each part where the page's body names it (``static/tour.js`` reads the address)."""
    rules = [
        f'body[data-hide~="{name}"] :is({selector}) {{ display: none !important; }}'
        for name, selector in parts(tabs).items()
    ]
    return "".join([*rules, 'body[data-hide~="controls"] .sidebar-parent { padding-left: 0 !important; }'])

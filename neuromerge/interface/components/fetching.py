"""How far a download is, in words and bars."""

from __future__ import annotations

import html

from neuromerge.engine.downloads import Fetching, Item

FETCHING_RULES = """
body[data-fetching="weights"] #readout,
body[data-readout="no-weights"] #tabs,
body[data-readout="no-scores"] :is(#tab-merge, #tab-zero_shot) > * { display: none !important; }
"""
"""CSS: while the weights of a merge come, nothing of another one is on the page; while all pictures come, no scores."""

MARK_FETCHING = """
(panel) => {
  document.body.dataset.fetching = /data-missing=.weights/.test(panel) ? 'weights' : '';
}
"""
"""What the panel says, as a mark on the page's body for `FETCHING_RULES` (see `readout.MARK_READOUT`)."""

NO_MERGE_YET = "<section data-missing='weights'></section>"
"""In the place of scores, until the weights are here."""
NO_SCORES_YET = (
    "<section class='nm-readout' data-missing='scores'><p class='nm-caption'>Scores appear here, task by task, as soon "
    "as test pictures have arrived. Interference, neurons and export need none.</p></section>"
)
"""In the place of scores, until the pictures of the first task are here."""

_SAYS = {"asking": "asking for its size", "waiting": "waits", "running": "", "done": "here", "failed": "cannot be had"}


def fetching_panel(fetching: Fetching, family: str) -> str:
    """HTML of a download under way, stopped or failed. `family` is the title of what is fetched."""
    missing = "" if fetching.has_weights else "weights"
    return (
        f"<section class='nm-fetching' data-missing='{missing}' aria-label='Download'>"
        f"<h2>{html.escape(_title(fetching, family))}</h2>"
        f"{_weights(fetching) if not fetching.has_weights else ''}"
        f"{_pictures(fetching)}{_failures(fetching)}</section>"
    )


def size(count: float) -> str:
    """A number of bytes as people say it."""
    for unit, one in (("GB", 1e9), ("MB", 1e6)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def time_left(seconds: float) -> str:
    """How long it still takes, as roughly as it is known."""
    if seconds < 60:
        return "less than a minute left"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} minute{'s' if minutes != 1 else ''} left"
    return f"about {minutes / 60:.1f} hours left"


def _title(fetching: Fetching, family: str) -> str:
    if fetching.stopped:
        return f"The download of {family} is stopped"
    if fetching.has_weights:
        return f"{family} is here; its test pictures are being fetched"
    if all(item.state in ("done", "failed") for item in fetching.weights):
        return f"{family} could not be fetched whole"
    return f"{family} is being fetched from the Hugging Face Hub"


def _weights(fetching: Fetching) -> str:
    total, here = fetching.total, fetching.done
    if total is None:
        line, share = "Asking how large it is …", 0.0
    else:
        said = [f"{size(here)} of {size(total)} for {_models(fetching)}" if total else "Nothing more can be had."]
        if fetching.rate and total and not fetching.stopped:
            said.append(f"{size(fetching.rate)} a second")
            said.append(time_left(fetching.seconds_left or 0.0))
        line, share = " · ".join(said), here / total if total else 1.0
    rows = "".join(_row(item) for item in fetching.weights)
    coming = any(item.state not in ("done", "failed") for item in fetching.weights) and not fetching.stopped
    kept = " You may use another family meanwhile, or leave." if coming else " What came so far is kept."
    return (
        f"{_bar(share, line)}<p class='nm-fetching-line'>{html.escape(line)}</p>"
        f"<details><summary>File by file</summary><ul>{rows}</ul></details>"
        f"<p class='nm-note'>Interference is shown as soon as the models are here, scores task by task.{kept}</p>"
    )


def _models(fetching: Fetching) -> str:
    """What is being fetched, in words; what was here before is not counted."""
    fresh = [item for item in fetching.weights if item.total]
    experts = sum(bool(item.part.task) for item in fresh)
    named = ["base"] if len(fresh) > experts else []
    if experts:
        named.append(f"{experts} expert{'s' if experts != 1 else ''}")
    return " and ".join(named)


def _row(item: Item) -> str:
    name = item.part.title if item.part.task else "Base"
    how = item.why if item.state != "failed" and item.why else _SAYS[item.state]
    if item.state == "running" and not how:
        how = f"{size(item.done)} of {size(item.total)}"
    elif item.total and item.state != "failed":
        how = f"{size(item.total)}, {how}"
    share = item.done / item.total if item.total else float(item.state == "done")
    return f"<li><span>{html.escape(name)}</span>{_bar(share, f'{name}: {how}')}<span>{html.escape(how)}</span></li>"


def _pictures(fetching: Fetching) -> str:
    if not fetching.pictures or not fetching.has_weights:
        return ""
    here = sum(item.state == "done" for item in fetching.pictures)
    coming = [item for item in fetching.pictures if item.state == "running"]
    said = f"Test pictures of {here} of {len(fetching.pictures)} tasks are here."
    if coming and not fetching.stopped:
        item = coming[0]
        how = item.why or (f"{item.done} of {item.total}" if item.total else "asking")
        said += f" {item.part.title}: {how}."
    note = "" if here else " Scores appear here, task by task."
    return _bar(here / len(fetching.pictures), said) + f"<p class='nm-fetching-line'>{html.escape(said + note)}</p>"


def _failures(fetching: Fetching) -> str:
    told = [
        f"<li><strong>{html.escape(_named(item))}</strong>: {html.escape(item.why)}</li>" for item in fetching.failed
    ]
    return f"<ul class='nm-notes'>{''.join(told)}</ul>" if told else ""


def _named(item: Item) -> str:
    name = item.part.title if item.part.task else "The base"
    return name if item.part.is_weights else f"Test pictures of {name}"


def _bar(share: float, label: str) -> str:
    return (
        f"<progress max='1' value='{min(1.0, max(0.0, share)):.4f}' aria-label='{html.escape(label, quote=True)}'>"
        "</progress>"
    )

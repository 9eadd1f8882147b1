"""The page's head: its name, what it is for, and the switch between light and dark."""

from __future__ import annotations

import gradio as gr

HEADER = """
<header class="nm-header">
  <div class="nm-brand">
    <svg viewBox="0 0 32 32" width="30" height="30" aria-hidden="true">
      <path d="M5 27 L27 27" class="nm-mark-parallel"/><path d="M5 27 L5 5" class="nm-mark-orthogonal"/>
      <path d="M5 27 L22 10" class="nm-mark-merge"/><circle cx="22" cy="10" r="3.2" class="nm-mark-dot"/>
    </svg>
    <div><h1>NeuroMerge</h1>
    <p>Merge fine-tuned models neuron by neuron, and see where their tasks interfere.</p></div>
  </div>
  <button type="button" class="nm-mode" aria-label="Switch between light and dark">
    <svg viewBox="0 0 20 20" width="16" height="16" aria-hidden="true"><circle cx="10" cy="10" r="7" fill="none"
      stroke="currentColor" stroke-width="1.6"/><path d="M10 3 a7 7 0 0 1 0 14 z" fill="currentColor"/></svg>
    <span>Light / dark</span>
  </button>
</header>
"""

SWITCH_MODE = """
const mode = element.querySelector('.nm-mode');
const root = document.body;
root.style.background = 'var(--nm-raised)';
mode.addEventListener('click', () => {
  root.classList.toggle('dark');
  try { localStorage.setItem('neuromerge-mode', root.classList.contains('dark') ? 'dark' : 'light'); } catch (e) {}
});
try {
  const kept = localStorage.getItem('neuromerge-mode');
  const asked = new URLSearchParams(location.search).get('__theme');
  if (kept && !asked) root.classList.toggle('dark', kept === 'dark');
} catch (e) {}
"""


def header() -> gr.HTML:
    """The head, where the caller's layout context is."""
    return gr.HTML(HEADER, js_on_load=SWITCH_MODE)

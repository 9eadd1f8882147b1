"""Results as pictures: pure functions from `exploration.results` to `figure.Figure`, with no model and no widget.

`accuracy` (bars per task), `interference` (the two heatmaps and their table), `layer` (one cell opened), `neuron`
(the teaching pictures), `tuning` (landscape and trials), `confusion` (zero-shot answers); `theme` holds the design.
In a notebook, ``accuracy_bars(board).to_plotly()`` gives a Plotly figure.
"""

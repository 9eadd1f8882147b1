"""Searching settings: landscapes, studies, sweeps and the comparison of methods.

Nothing here makes models or reads weights: whoever searches hands in an `Objective`, which scores one setting.
"""

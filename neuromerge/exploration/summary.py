"""The numbers beside the sliders."""

from __future__ import annotations

from neuromerge.engine.stages import Stages, pass_of
from neuromerge.exploration.results import MergeSummary
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting


def summary(stages: Stages, setting: Setting, job: Job) -> MergeSummary:
    """Coefficients in use, sigma, what the trim kept, ill-conditioned neurons, what each task keeps of its change.

    sigma belongs to the method's own trim; it is 0 where the method does not trim.
    """
    wanted = pass_of(setting)
    thresholds = stages.thresholds(wanted.tasks, wanted.ratio, job)
    first = stages.first_pass(wanted, job)
    used = stages.coefficients(setting, job)
    return MergeSummary(
        coefficients=used.values,
        sigma=thresholds.sigma,
        sigma_per_task=dict(zip(setting.tasks, thresholds.removed_share.tolist(), strict=True)),
        kept_share=dict(zip(setting.tasks, thresholds.kept_share.tolist(), strict=True)),
        ill_conditioned=first.ill_conditioned,
        neurons=first.neurons,
        warnings=used.warnings,
        retention=stages.retention(setting, job),
    )

"""Helper that runs a small study in a test: on one thread, as the worker processes do, and restores torch's setting."""

import torch

from ncharness import Run, Study
from ncharness.studies.study import carry_out


def carried_out(experiment: str, seed: int = 0, **settings: object) -> Run:
    study = Study(experiment=experiment, settings=settings, seed=seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return Run(study, carry_out(study))
    finally:
        torch.set_num_threads(threads)

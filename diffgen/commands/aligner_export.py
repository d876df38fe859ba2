"""Averaged weights of an aligner, into ``aligner/`` of its folder."""

import copy
from typing import Any

import torch

from diffgen.files import write_folder
from diffgen.lacon.aligner import Aligner
from diffgen.training.checkpoint import TrainingState
from diffgen.training.run_folder import RunFolder


class AlignerExport:
    """Writes what ``load_aligner`` reads.

    Args:
        aligner: the one in training.
        folder: its own.
        facts: fields of its configuration that only the training knows: backbone, image_std.
    """

    def __init__(self, aligner: Aligner, folder: RunFolder, **facts: Any) -> None:
        self.folder = folder
        self._copy = copy.deepcopy(aligner).requires_grad_(False).eval()
        self._copy.register_to_config(**facts)

    @torch.no_grad()
    def averaged(self, state: TrainingState) -> Aligner:
        """An aligner with the average of the weights put in, the same one at every call."""
        for name, parameter in self._copy.named_parameters():
            parameter.copy_(state.ema.preview.weights[name])
        return self._copy

    def save(self, state: TrainingState, until: float, r2: dict[str, float]) -> None:
        """Write the averaged weights, and what was measured of them."""
        aligner = self.averaged(state)
        aligner.register_to_config(until=until, r2=r2)
        write_folder(self.folder.path / "aligner", aligner.save_pretrained)

"""A model as the commands use it: loaded, in the dtype asked for, on its device."""

from pathlib import Path

import diffusers

from diffgen.device import chosen_device
from diffgen.models.vae import load_vae
from diffgen.pipeline import DiffGenPipeline


def load_pipeline(
    source: str | Path, device: str = "auto", dtype: str = "fp32", vae: str | None = None
) -> DiffGenPipeline:
    """Load ``source`` and put it where and how it shall compute.

    Args:
        source: run folder, pipeline folder or hub id.
        device: "auto", "cpu" or "cuda".
        dtype: "fp32" or "bf16", of the model; a VAE computes in fp32.
        vae: folder or hub id of a VAE, in place of the source's own.

    Raises:
        UserError: no such source, no such device, or bf16 without a GPU.
    """
    place = chosen_device(device, "dtype" if dtype == "bf16" else None)
    diffusers.utils.logging.disable_progress_bar()  # the commands show bars of their own
    replaced = {} if vae is None else {"vae": load_vae(vae)}
    pipe = DiffGenPipeline.from_pretrained(source, **replaced)
    pipe.set_progress_bar_config(disable=True)
    if dtype == "bf16":
        pipe.transformer.bfloat16()
    return pipe.to(place)

"""Published settings of APG by the models they were made for; change the scale with ``replace``.

    from dataclasses import replace
    pipe(..., guidance=replace(SDXL, scale=10))

The paper's table of settings (Sadat et al. 2024, table 10) is known here by quotation alone.
"""

from diffgen.guidance.apg import APG

SDXL = APG(scale=15.0, eta=0.0, threshold=15.0, momentum=-0.5, threshold_mode="norm")
"""Latents of 4 x 128 x 128. Table 10 as three implementations quote it, but for the scale, which
none does. As rms: 0.0586."""

EDM2 = APG(scale=4.0, eta=0.0, threshold=2.5, momentum=-0.75, threshold_mode="norm")
"""Latents of 4 x 64 x 64 with a deviation of 0.5. The threshold is table 10's smallest, by
quotation; that it goes with this momentum is inferred from implementations which take both. As rms:
0.0195."""

DIT_XL_2 = APG(scale=4.0, eta=0.0, threshold=2.5, momentum=-0.75, threshold_mode="norm")
"""Latents of 4 x 32 x 32. What the TREAD implementation takes for ImageNet at 256 x 256; the
paper's own row is not known here. As rms: 0.0391. A place to start a sweep from. Of all channels:
a released DiT is guided on three unless ``FirstChannels(DIT_XL_2, 4)`` says so, as its recipe does.
"""

"""What images are scored against, where a file holds only some of it."""

import torch

from diffgen.commands.real_sets import Reference
from diffgen.config.scoring import ScoringConfig
from diffgen.metrics import Extractor
from diffgen.metrics.moments import moments
from diffgen.metrics.read import Reading
from diffgen.metrics.report import content, score_all
from diffgen.metrics.stored import StoredSet, moments_digest

WIDTHS = {"features": 6, "spatial": 4}


def reading(seed: int) -> Reading:
    generator = torch.Generator().manual_seed(seed)
    layers = {name: torch.randn(60, width, generator=generator) for name, width in WIDTHS.items()}
    pictures = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    labels, colour = torch.full((60,), -1), torch.rand(60, 4, generator=generator).double()
    return Reading({"net": layers}, labels, (), colour, pictures)


def test_a_layer_that_a_file_lacks_gives_no_figure_beside_the_files_others():
    network = Extractor(
        *("net", 6, "00", "none", torch.nn.Identity(), torch.device("cpu")), layers=WIDTHS
    )
    whole = moments(torch.randn(500, 6, generator=torch.Generator().manual_seed(2)))
    images, kept = reading(0), reading(1)
    seen = {"count": 60, "sha256": None}
    for stored, against in (
        (
            {"net": StoredSet(network.facts(), {"features": whole})},
            {"features": {"count": 500, "sha256": moments_digest(whole)}},
        ),
        ({}, {"features": seen, "spatial": seen}),
    ):
        report = score_all(
            {"net": network},
            images,
            kept,
            None,
            ScoringConfig(),
            stored=Reference(None, None, stored).moments,
            order=torch.arange(60),
            balanced=False,
        )
        found = content(report.seen[0])
        assert found["against"] == against
        assert (found["scores"]["sfid"] is None) == ("spatial" not in against)
        assert found["scores"]["kid"] is not None  # the kept images serve it

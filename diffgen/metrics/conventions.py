"""What was computed, in the words that stand beside the figures."""

from typing import Any

from diffgen.config.scoring import ScoringConfig


def conventions(config: ScoringConfig, stored: bool) -> dict[str, Any]:
    """What was computed, word by word, to stand beside the figures.

    ``stored``: the reference holds moments of one of the networks at least.
    """
    images = config.manifold_images or "all"
    target = "the reference's images"
    if stored:
        target = "the reference's moments where it has any of the network, else its images"
    splits = "chunks of 5,000 images in the order of the source"
    if config.splits == "shuffled":
        splits = "10 splits, shuffled by seed 2020"
    return {
        "features": "fp32, of pictures quantised to 8 bits",
        "fid": "unbiased covariances in float64, trace by Cholesky and eigvalsh, from the features "
        f"where a covariance is not of full rank; against {target}",
        "fid_infinity": "jackknife over groups of both sides (of the images alone against stored "
        "moments)",
        "sfid": "Fréchet distance of ADM's layer: mixed_6/conv, first 7 channels",
        "inception_score": splits,
        "kid": "unbiased, cubic polynomial kernel, all images",
        "cmmd": "Gaussian kernel of width 10, biased, times 1000",
        "precision_recall": {
            "k": config.k,
            "rule": f"{config.rule} (distance {'<=' if config.rule == 'adm' else '<'} radius)",
            "images": images,
        },
        "density_coverage": {"k": config.density_k, "rule": "strict", "images": images},
        "authenticity": {
            "rule": "farther from the nearest real image than that is from its own",
            "images": images,
        },
        "copied": {
            "rule": "nearer than a third of the distance to the second nearest real image",
            "images": images,
        },
        "floor": "real images against other real images, the same counts; none against stored "
        "moments",
        "colour": "means over images: HSV S; std of BT.709 luma; share of pixels with a channel "
        "at 0 or 255; Hasler and Süsstrunk's M3 on 0 to 255",
        "interval": "95 %, the reference held fixed, but in FID at infinity against images: "
        "jackknife over groups of images; for shares no narrower than Wilson's; over chunks for "
        "the Inception score; Student's t for means over images; none where nothing varied",
    }

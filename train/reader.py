"""Train the reader that judges the demo world, and report its held-out figures.

    python train/reader.py --steps 4000 --seed 0 --out runs/reader

writes reader.safetensors (half precision) and reader.json into the folder. Copied to
diffgen/metrics they become the shipped reader; every published figure changes with it.
"""

import argparse
import json
import sys
from pathlib import Path


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4000, help="optimiser steps (default 4000)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/reader"), help="folder (default runs/reader)"
    )
    parser.add_argument(
        "--images", type=int, default=2000, help="held-out shapes to report on (default 2000)"
    )
    options = parser.parse_args(arguments)
    for name, least in (("steps", 1), ("seed", 0), ("images", 1)):
        if getattr(options, name) < least:
            parser.error(f"argument --{name}: {getattr(options, name)} is below {least}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"argument --out: {options.out} is not a folder")
    return options


def main(arguments: list[str]) -> None:
    options = parse(arguments)

    import torch
    from safetensors.torch import save_file
    from tqdm import tqdm

    from diffgen.metrics.reader import Reader
    from diffgen.metrics.reader_training import report, train

    torch.manual_seed(options.seed)
    reader = Reader()
    with tqdm(train(reader, options.steps, options.seed), total=options.steps, unit="step") as bar:
        recent = None
        for value in bar:
            recent = value if recent is None else 0.98 * recent + 0.02 * value
            bar.set_postfix(loss=f"{recent:.3f}", refresh=False)

    # The figures are those of the weights as stored, rounded to half precision.
    stored = {
        name: x.half().contiguous() if x.is_floating_point() else x
        for name, x in reader.state_dict().items()
    }
    reader.load_state_dict(stored)
    figures = {"steps": options.steps, "seed": options.seed, **report(reader, options.images)}
    print(json.dumps(figures, indent=2))

    options.out.mkdir(parents=True, exist_ok=True)
    save_file(stored, options.out / "reader.safetensors")
    (options.out / "reader.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

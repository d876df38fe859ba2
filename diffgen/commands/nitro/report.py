"""The end of a distillation: how the student scored, and what to do with it."""

import shlex

from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.scores import Scores
from diffgen.config.command_line import load
from diffgen.config.evaluate import DRAWN
from diffgen.config.places import run_folder
from diffgen.config.train import TrainConfig


def report(distilling: Distillation) -> None:
    """Print the scores of the first, the last and the best student, and the next commands."""
    scores = Scores(distilling.folder.path)
    lines, best = scores.all(), scores.best()
    counts = [str(count) for count in distilling.config.counts]
    print("\nFréchet distance to the teacher's images, by steps")
    print("   images seen" + "".join(f"{count:>8}" for count in counts) + "  diversity")
    for number in dict.fromkeys(map(lines.index, (lines[0], best or lines[0], lines[-1]))):
        line = lines[number]
        fids = "".join(f"{line['fid_to_teacher'][count]:8.2f}" for count in counts)
        mark = "  in pipeline/" if line == best else ""
        print(f"{line['images']:14,}{fids} {line['diversity']:10.2f}{mark}")
    student = shlex.quote(str(distilling.folder.path))
    drawn = shlex.quote(f"samples/{distilling.folder.path.name}")
    print(f"\nnext\n  python sample/generate.py {student} --out {drawn}")
    run = run_folder(distilling.source)
    kind = load(TrainConfig, run / "config.yaml").data.kind if run else None
    reference = kind if kind in DRAWN else "DIR"
    print(f"  python eval/evaluate.py {student} --reference {reference}")

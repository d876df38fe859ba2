"""The end of a distillation: how the student scored, and what to do with it."""

import shlex

from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.scores import Scores
from diffgen.config.places import run_folder


def report(distilling: Distillation) -> None:
    """Print the scores of the first, the last and the best student, and the next commands."""
    lines = Scores(distilling).all()
    best = min(lines, key=lambda line: line["fid_to_teacher"])
    print("\none step, against the teacher's images")
    print("   images seen     FID  diversity")
    for line in dict.fromkeys(map(lines.index, (lines[0], best, lines[-1]))):
        shown = lines[line]
        mark = "  in pipeline/" if shown is best else ""
        print(
            f"{shown['images']:14,} {shown['fid_to_teacher']:7.2f} {shown['diversity']:10.2f}{mark}"
        )
    student = shlex.quote(str(distilling.folder.path))
    counts = "|".join(map(str, distilling.config.counts))
    print(f"\nnext\n  python sample/generate.py {student} --steps {counts}")
    run = run_folder(distilling.source)
    if run is not None:
        print(f"  python eval/evaluate.py {student} --reference ...  # as {run} was scored")

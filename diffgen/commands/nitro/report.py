"""The end of a distillation: how the student scored, and what to do with it."""

import shlex

from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.scores import Scores
from diffgen.config.places import run_folder


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
    print(f"\nnext\n  python sample/generate.py {student} --steps {counts[-1]}")
    run = run_folder(distilling.source)
    if run is not None:
        print(f"  python eval/evaluate.py {student} --reference ...  # as {run} was scored")

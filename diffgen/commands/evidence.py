"""``evidence``: the verdicts of claims, as they are stated and as the values give them."""

from pathlib import Path

from diffgen.config.evidence import EvidenceConfig
from diffgen.errors import UserError
from diffgen.evidence import check_evidence, read_evidence


def evidence(config: EvidenceConfig) -> None:
    """Print a row a file: the claim, its verdict, and the verdict computed again.

    Raises:
        UserError: a file is not of the schema, or an interval or a verdict does not follow from
            its values; every such field of every file is named.
    """
    print("| claim | stated | recomputed | decisive comparisons that hold |\n|---|---|---|---|")
    for file in config.files:
        print(row(file))
    problems = [line for file in config.files for line in check_evidence(file)]
    if len(problems) == 1:
        raise UserError(problems[0])
    if problems:
        raise UserError("\n  ".join([f"{len(problems)} mistakes", *problems]))


def row(file: Path) -> str:
    """The table's row of one file."""
    try:
        stated = read_evidence(file)
    except UserError:
        return f"| {file} | cannot be read | | |"
    due = stated.judged()
    decisive = [one.verdict for one in due.comparisons if one.role == "decisive"]
    claim = stated.claim.replace("|", "/")
    counts = f"{decisive.count('holds')} of {len(decisive)}"
    return f"| {file.stem}: {claim} | {stated.verdict} | {due.verdict} | {counts} |"

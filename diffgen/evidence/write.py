"""Writing a claim's document, its intervals and verdicts computed on the way."""

from pathlib import Path

from diffgen.evidence.document import Evidence
from diffgen.files import write_json


def write_evidence(path: Path | str, evidence: Evidence) -> Evidence:
    """Compute every interval and verdict of ``evidence`` and write it to ``path`` as JSON.

    Returns:
        What was written. Intervals and verdicts that ``evidence`` brings are replaced.

    Raises:
        UserError: the file cannot be written; what was there is kept.
    """
    judged = evidence.judged()
    write_json(Path(path), judged.model_dump(mode="json"))
    return judged

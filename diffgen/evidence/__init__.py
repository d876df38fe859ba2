"""Evidence: a claim, what was measured, and a verdict that anyone can compute again.

A claim is one JSON file, schema "diffgen-evidence/1" (docs/evidence.md). Nothing here loads torch.
"""

from diffgen.evidence.check import check_evidence, read_evidence
from diffgen.evidence.document import BoundedShare, Evidence, Share, Shares, Values
from diffgen.evidence.write import write_evidence

__all__ = [
    "BoundedShare",
    "Evidence",
    "Share",
    "Shares",
    "Values",
    "check_evidence",
    "read_evidence",
    "write_evidence",
]

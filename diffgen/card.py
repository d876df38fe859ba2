"""The model card of a run: what it is, how it was trained, what it scored."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffgen.config.command_line import read_yaml, yaml_text
from diffgen.config.distilled import Distilled
from diffgen.config.guidance import described, read_guidance

HEAD = """---
license: other
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags:
- diffgen
- diffusers
---

# {name}

A diffusion transformer trained with diffgen. Draw with it:

```python
from diffgen import DiffGenPipeline

pipe = DiffGenPipeline.from_pretrained("{name}")
image = pipe({call}height={height}, width={width}, seed=0).images[0]
```
"""

FEW_STEPS = """It is distilled: it draws in {steps} steps, {fewest} where `num_inference_steps` is
not given, and takes no guidance, for that of its teacher is built in. It still heeds the class.
"""


def model_card(
    name: str,
    model: dict[str, Any],
    class_names: list[str],
    run: Path | None,
    size: tuple[int, int],
    weights: str,
    distilled: Distilled | None = None,
) -> str:
    """Markdown for the repository ``name``.

    Args:
        name: hub id.
        model: the transformer's configuration.
        class_names: in label order.
        run: the run folder, for its settings and figures; None: neither is known.
        size: height and width of its training images [pixels].
        weights: their digest; figures of others, before a longer training, are left out.
        distilled: the few steps it draws in; None: an ordinary model.
    """
    height, width = size
    call = f'class_labels="{class_names[0]}", ' if class_names else ""
    parts = [HEAD.format(name=name, call=call, height=height, width=width)]
    if distilled is not None:
        told = FEW_STEPS.format(steps=distilled.in_words, fewest=distilled.fewest)
        parts.append(told)
    if class_names:
        parts.append(f"Classes: {', '.join(class_names)}\n")
    scores = _own_scores(run, weights) if run else []
    if scores:
        parts.append("## Scores\n\n" + "\n".join(_score_rows(scores)) + "\n")
    settings = read_yaml(run / "config.yaml") if run and (run / "config.yaml").exists() else None
    described = settings or {"model": {key: model[key] for key in model if key[0] != "_"}}
    parts.append(f"## Settings\n\n```yaml\n{yaml_text(described)}```\n")
    return "\n".join(parts)


def _own_scores(run: Path, weights: str) -> list[dict[str, Any]]:
    """The evaluations of these weights in a run folder; what is none of ours is passed over."""
    found = []
    for file in sorted(run.glob("evaluation-*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            content = json.loads(file.read_text("utf-8"))
            if isinstance(content, dict) and content.get("weights") == weights:
                content["guidance"] = described(read_guidance(content["settings"]))
                floor = content["floor"]
                content["floor"] = floor and floor.get("scores", floor)  # earlier files: flat
                found.append(content)
    return found


def _score_rows(contents: list[dict[str, Any]]) -> list[str]:
    rows = [
        "| size | reference | solver, steps | guidance | features | images | FID (floor) "
        "| precision | recall | class accuracy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for content in contents:
        scores, drawn = content["scores"], content["settings"]
        floor = content["floor"]
        rows.append(
            f"| {content['size']} | {'/'.join(Path(drawn['reference']).parts[-2:])} "
            f"| {drawn['scheduler']}, {drawn['steps']} | {content['guidance']} "
            f"| {content['extractor']['name']} | {content['counts']['images']} "
            f"| {scores['fid']:.4g} ({_cell(floor and floor['fid'], '.4g')}) "
            f"| {_cell(scores['precision'], '.3f')} | {_cell(scores['recall'], '.3f')} "
            f"| {_cell(scores['class_accuracy'], '.1%')} |"
        )
    rows.append("")
    rows.append("Features: reader is diffgen's embedded one, inception that of FID; the floor is")
    rows.append("that of real images against other real images at the same counts.")
    return rows


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

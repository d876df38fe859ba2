"""A pipeline on the hub, with a model card of its settings and figures."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from huggingface_hub import HfApi

from diffgen.card import model_card
from diffgen.files import weights_digest

if TYPE_CHECKING:
    from diffgen.pipeline import DiffGenPipeline


def upload(
    pipe: DiffGenPipeline, repo_id: str, private: bool | None, token: str | None, message: str
) -> str:
    """Upload ``pipe``; see ``DiffGenPipeline.push_to_hub``. Returns the address of the commit."""
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    with TemporaryDirectory() as folder:
        pipe.save_pretrained(folder)
        card = model_card(
            repo_id,
            dict(pipe.transformer.config),
            list(pipe.config.class_names),
            getattr(pipe, "_run", None),
            pipe.geometry.trained,
            weights_digest(Path(folder)),
            pipe.distilled,
        )
        (Path(folder) / "README.md").write_text(card, encoding="utf-8")
        info = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    return str(info)

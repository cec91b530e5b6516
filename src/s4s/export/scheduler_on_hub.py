"""A scheduler's way to and from a folder or a hub, with its card."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import SchedulerMixin
from diffusers.configuration_utils import ConfigMixin
from huggingface_hub import create_repo

from s4s.errors import S4SError, one_line, shown
from s4s.export.card import PLACEHOLDER, base_model_of, card, repository, use_in_diffusers
from s4s.files.atomic import write_text
from s4s.files.bounded import RESULT, read_json
from s4s.tableau import Tableau


class OnHub(SchedulerMixin, ConfigMixin):
    """Of a scheduler that holds `tableaux`, by number of steps."""

    tableaux: dict[int, Tableau]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any = None,
        subfolder: str | None = None,
        return_unused_kwargs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """A scheduler from a folder, or from a repository on the hub (owner/name); no code in it is run.

        Args:
            pretrained_model_name_or_path: the folder or repository.
            subfolder: where in it the scheduler is; "scheduler" in a whole pipeline's.
            return_unused_kwargs: as in diffusers.
            kwargs: as in diffusers: revision, token, cache_dir, local_files_only; settings that differ.
        Raises:
            S4SError: if it cannot be found or fetched, is another scheduler's, or its solvers are damaged.
        """
        where = f"{pretrained_model_name_or_path}{f', folder {subfolder}' if subfolder else ''}"
        try:
            found: Any = cls.load_config(
                pretrained_model_name_or_path, subfolder=subfolder, return_unused_kwargs=True, return_commit_hash=True, **kwargs
            )
            config, unused, _ = found
        except OSError as error:
            raise S4SError(
                f"{where}: no scheduler_config.json found there ({one_line(error)}); give a folder that has one, or owner/name "
                'on the hub, when connected or if it was fetched before; of a whole pipeline with subfolder="scheduler"'
            ) from error
        name = config.get("_class_name") if isinstance(config, Mapping) else None
        if name != cls.__name__:
            raise S4SError(
                f"{where}: scheduler_config.json is of {shown(name)}, not of {cls.__name__}; from_tableau(solver, like=...) "
                "makes one like another scheduler"
            )
        try:
            untyped: Any = cls
            return untyped.from_config(config, return_unused_kwargs=return_unused_kwargs, **unused)
        except S4SError as error:
            raise S4SError(f"{where}: {one_line(error)}") from error

    @classmethod
    def _dict_from_json_file(cls, json_file: Any) -> Any:
        return read_json(json_file, RESULT)

    def card(
        self,
        repo: str | None = None,
        base_model: str | None = None,
        licence: str = "unknown",
        scores: str | Path | None = None,
    ) -> str:
        """The Markdown page for a hub.

        Args:
            repo: the repository that it goes to, owner/name; a placeholder stands for it where it is not known.
            base_model: the model's repository.
            licence: of the solver, as the hub spells it.
            scores: results/tables/scores.csv.
        Raises:
            S4SError: if there is no solver, a name is no repository's, or as `card`.
        """
        repo = PLACEHOLDER if repo is None else repository("repo", repo)
        if not self.tableaux:
            raise S4SError("this scheduler holds no solver, of which a card could tell")
        use = use_in_diffusers(repo, self.tableaux, base_model or base_model_of(self.tableaux))
        return card(self.tableaux, use, licence, scores, base_model, "diffusers")

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write scheduler_config.json, and a card where there is none and the solvers say what model they are for."""
        folder = Path(save_directory)
        known = {(tableau.meta.get("model"), tableau.meta.get("token")) for tableau in self.tableaux.values()}
        SchedulerMixin.save_pretrained(self, str(folder))
        if len(known) == 1 and next(iter(known))[0] and not (folder / "README.md").exists():
            write_text(folder / "README.md", self.card())
        if push_to_hub:
            kwargs.pop("safe_serialization", None)
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
        *,
        base_model: str | None = None,
        licence: str = "unknown",
    ) -> Any:
        """Write scheduler_config.json and the card, README.md, to a repository on the hub, which is made if it is not there.

        Args:
            repo_id: owner/name, or a name of one's own.
            commit_message, private, token, create_pr, subfolder: as in diffusers.
            safe_serialization, variant: not used; a scheduler has no weights.
            base_model, licence: as in `card`.
        Raises:
            S4SError: as `card`, or if the hub cannot be reached or refuses.
        """
        self.card(None, base_model, licence)  # what is wrong with it is said before a repository is made
        try:
            made = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
            with tempfile.TemporaryDirectory() as folder:
                write_text(Path(folder) / "README.md", self.card(made, base_model, licence))
                self.save_pretrained(folder)
                return self._upload_folder(
                    folder, made, token=token, commit_message=commit_message, create_pr=create_pr, subfolder=subfolder
                )
        except (OSError, ValueError) as error:
            if isinstance(error, S4SError):
                raise
            raise S4SError(
                f"{repo_id}: could not be pushed to the hub ({one_line(error)}); connect, and log in with `hf auth login`"
            ) from error

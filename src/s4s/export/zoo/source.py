"""Where a published solver's numbers come from."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """A repository with published solvers.

    Attributes:
        repository: its address.
        commit: the one whose code and files were read.
        paper: arXiv number.
        licence: of the repository, in a few words; "none stated" where it has none.
    """

    repository: str
    commit: str
    paper: str
    licence: str

    def meta(self) -> dict[str, str]:
        """What a converted tableau's meta says of it."""
        return {"repository": self.repository, "commit": self.commit, "paper": self.paper, "licence": self.licence}

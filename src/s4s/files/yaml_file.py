"""YAML from elsewhere: model files and configs, read within a budget."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from s4s.errors import S4SError, one_line
from s4s.files.bounded import DEPTH, MB, check_parts, read_text, too_much

BYTES = MB // 4  # config/config.yaml has 24 000
NODES = 12_000  # it has 1 300; PyYAML makes some 20 000 a second
DIGITS = 300  # 1:1:1 is a number too, to the base 60


def read_yaml(path: str | Path, invalid: str = "not valid YAML") -> Any:
    """What a YAML file holds, as `yaml.safe_load` gives it; `invalid` is said of one that is none.

    Raises:
        S4SError: if it is not valid, or has far more than a config needs. OSError: as `open`.
    """
    try:
        loader = _Loader(read_text(path, BYTES), path)
        node = loader.get_single_node()
        if node is None:
            return None
        check_parts(node, path, _members)  # with aliases counted as often as they are used, before merge keys copy them
        value = loader.construct_document(node)
    except (S4SError, OSError):
        raise
    except UnicodeDecodeError as error:
        raise S4SError(f"{path}: cannot be read: {one_line(error)}") from error
    except Exception as error:  # a value that does not fit its tag raises anything: !!bool x a KeyError
        raise S4SError(f"{path}: {invalid}: {one_line(error)}") from error
    check_parts(value, path)
    return value


class _Loader(yaml.SafeLoader):
    """Counts nodes, and levels of nodes within nodes, while they are made."""

    def __init__(self, text: str, path: str | Path):
        self.path, self.made, self.level = path, 0, 0
        super().__init__(text)

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.made, self.level = self.made + 1, self.level + 1
        if self.made > NODES:
            raise too_much(self.path, f"{NODES:,} entries")
        if self.level > DEPTH:
            raise too_much(self.path, f"{DEPTH} levels of parts within parts")
        node: Any = super().compose_node(parent, index)
        if node.tag.endswith((":int", ":float")) and len(node.value) > DIGITS:
            raise too_much(self.path, f"{DIGITS} characters in a number", len(node.value))
        self.level -= 1
        return node


def _members(node: Any) -> Iterable[Any] | None:
    """The nodes of a sequence; of a mapping its pairs, and the nodes of these."""
    if isinstance(node, tuple):
        return node
    return None if isinstance(node.value, str) else node.value

"""Prints the JSON Schema of a tableau's file:  python -m s4s.export.schema > docs/tableau.schema.json"""

from __future__ import annotations

import json

from s4s.tableau import TableauFile


def schema() -> str:
    """The schema as text; a test fails when docs/tableau.schema.json drifts."""
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **TableauFile.model_json_schema()}
    return json.dumps({**made, "title": "s4s tableau"}, indent=1) + "\n"


if __name__ == "__main__":
    print(schema(), end="")

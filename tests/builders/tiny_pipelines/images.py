"""Text to image, classes and pictures of nothing in particular."""

from tests.builders.tiny_pipelines.case import Case

CASES: dict[str, Case] = {}

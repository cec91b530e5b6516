"""Files: written safely, read checked."""

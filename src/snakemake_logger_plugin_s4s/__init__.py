"""Snakemake's `--logger s4s`: the plan of a dry run, and the progress of a study with the time left."""

from __future__ import annotations

import sys
from logging import LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase

from s4s.jobs import workflow_progress

LOG = "results/logs/progress.log"


class LogHandler(LogHandlerBase):
    """Beside Snakemake's own output, which stays as it is."""

    def __post_init__(self) -> None:
        self.progress = workflow_progress.RunProgress(LOG)

    def emit(self, record: LogRecord) -> None:
        """Take note of a record."""
        if not self.common_settings.dryrun:
            self.progress.emit(record)
        elif workflow_progress.name_of(record) == "run_info":
            print(workflow_progress.plan(getattr(record, "stats", {})), file=sys.stderr, flush=True)

    @property
    def writes_to_stream(self) -> bool:
        """Not instead of Snakemake's own."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """Not a log of everything."""
        return False

    @property
    def has_filter(self) -> bool:
        """It sees every record, also in quiet runs."""
        return True

    @property
    def has_formatter(self) -> bool:
        """It words its own lines."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """It does not."""
        return False

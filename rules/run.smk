# What goes on around the jobs: the plan of a dry run, the folder's lock, progress, the server that starts jobs. Snakemake
# hears onstart and onsuccess in the Snakefile only.
import atexit
import itertools
import logging
import socket
import time

from s4s.jobs.folder_lock import lock_folder, remove_stale_locks
from s4s.study.plan import summary
from s4s.jobs.workflow_progress import watch
from s4s.files.disk_errors import probe
from s4s.jobs.fork_server import has_server, start_server

DRY_RUN = "--dry-?run|-[npqFk]*n[npqFk]*"
if workflow.is_main_process and any(re.fullmatch(DRY_RUN, word) for word in sys.argv):
    for plan in [COMPARISONS[name] for name in ASKED] or [COMPARED["tables"]]:
        print(summary(plan, WEIGHTS), file=sys.stderr)


# What executes jobs holds the folder's lock; a lock of Snakemake's own is then one that a killed run left.
PLANNING = {
    "--lint",
    "--unlock",
    "--summary",
    "--detailed-summary",
    "--report",
    "--rulegraph",
    "--dag",
    "--filegraph",
    "--d3dag",
    "--archive",
    "--generate-unit-tests",
    "--containerize",
    "--print-compilation",
    "--compilation",
}
ONLY_PLANS = any(
    argument in PLANNING
    or argument.startswith(("--list", "--cleanup"))
    or re.fullmatch(f"{DRY_RUN}|-[lSD]", argument)
    for argument in sys.argv[1:]
)


def explain_failure(folder=os.getcwd()):
    """The last words of a failed run, where jobs could not write their own."""
    words = probe(folder)
    if words:
        print(f"error: {folder}: {words}", file=sys.stderr)


if workflow.is_main_process and not ONLY_PLANS:
    try:
        FOLDER_LOCK = lock_folder(".")
    except S4SError as error:
        raise WorkflowError(str(error)) from None
    watch(logger, "results/logs/progress.log")
    # a record that a full disk refuses gets no traceback of its own
    logging.raiseExceptions = False
    atexit.register(explain_failure)
    if FOLDER_LOCK is not None and remove_stale_locks("."):
        print("The last run here was killed; its locks are removed.", file=sys.stderr)

TARGETS = (
    sys.argv[sys.argv.index("--target-jobs") + 1 :]
    if "--target-jobs" in sys.argv
    else []
)
TARGETS = [*itertools.takewhile(lambda name: not name.startswith("--"), TARGETS)]
# what takes seconds to import
PRELOADED = ["s4s.metrics.score", "s4s.metrics.features", "s4s.learning.fit"]
PRELOADED += [
    "s4s.reporting.figures",
    "s4s.reporting.report",
    "sklearn.model_selection",
]
WARM = []  # keeps a server's standard input open

# A group of jobs on another machine has a warm server (s4s/jobs/fork_server.py) of its own, which groups within it share.
if (
    not workflow.is_main_process
    and sum(":" in name for name in TARGETS) > 1
    and not has_server()
):
    WARM.append(start_server(*PRELOADED))


def begin_run():
    """One process imports torch once and forks the short jobs. It ends with this one; without it jobs import torch themselves."""
    os.environ.update(
        S4S_RUN=f"{socket.gethostname()}:{os.getpid()}",
        S4S_STARTED=str(time.time()),
    )
    if not workflow.deployment_settings.deployment_method:
        WARM.append(start_server(*PRELOADED))  # conda's jobs need their own interpreter
    if workflow.local_exec:
        # The limit of submissions wakes Snakemake 9.27's scheduler once a second more for every job that has ended, until it
        # takes a core; on this machine nothing needs that limit.
        workflow.scheduler.job_rate_limiter = None

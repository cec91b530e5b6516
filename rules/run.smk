# What goes on around the jobs: records, the plan of a dry run, the folder's lock, the server that starts jobs. Snakemake hears
# onstart and onsuccess in the Snakefile only. The plan and progress are shown by the logger plugin s4s, which profiles name.
import atexit
import logging
import socket
import time

from s4s.files.disk_errors import troubles
from s4s.files.json_file import write_signed
from s4s.jobs import damaged_results, workflow_progress
from s4s.jobs.folder_lock import lock_folder
from s4s.jobs.fork_server import has_server, start_server
from s4s.jobs.job_records import keep_with_results

# what takes seconds to import
PRELOADED = [
    "s4s.learning.fit",
    "s4s.metrics.score",
    "s4s.metrics.load",
    "s4s.reporting.figures",
    "s4s.reporting.report",
]
HELD = []  # the folder's lock and the server's standard input, until this process ends


def plan_of_run(rules):
    """The plan of the comparisons that a run makes, by the names of its rules."""
    further = [folder_of(name) for name in COMPARISONS if name in rules]
    return "\n".join(plan.summary(STUDY, folder) for folder in further or [MAIN])


if workflow.is_main_process:
    try:
        keep_with_results(".")
    except S4SError as error:
        raise WorkflowError(str(error)) from None
    for damaged in damaged_results.move_aside():
        logger.info(
            f"{damaged} is damaged; it is {damaged}.damaged now, and made again"
        )
    workflow_progress.plan = plan_of_run
elif not has_server():
    # jobs on another machine have a server of their own, which groups within theirs share
    HELD.append(start_server(*PRELOADED))


def explain_failure(folder=os.getcwd()):
    """The last words of a failed run, where jobs could not write their own."""
    for place, words in troubles(folder).items():
        print(f"error: {place}: {words}", file=sys.stderr)


def begin_run():
    """Lock the folder, write down the config, and start the process that imports torch once and forks the short jobs.

    That process ends with this one; without it jobs import torch themselves. One that is there (S4S_WARM) is used.
    """
    try:
        if workflow.non_local_exec:  # known when all rules are
            check_submitted(*PLACES)
        HELD.append(lock_folder("."))
    except S4SError as error:
        raise WorkflowError(str(error)) from None
    # a record that a full disk refuses gets no traceback of its own
    logging.raiseExceptions = False
    atexit.register(explain_failure)
    # for programs that gather more than fits a command line
    write_signed("results/config.json", config)
    os.environ.update(
        S4S_RUN=f"{socket.gethostname()}:{os.getpid()}",
        S4S_STARTED=str(time.time()),
    )
    # conda's jobs need their own interpreter
    if not workflow.deployment_settings.deployment_method and not has_server():
        HELD.append(start_server(*PRELOADED))
    if re.search(r'[$`"\\]', os.getcwd()):
        # Snakemake 9.27 writes long commands to a file, whose path it gives to a shell in double quotes: here they are not
        # written, and one that is too long for the system fails.
        sys.modules["snakemake.shell"].MAX_ARG_LEN = sys.maxsize
    if workflow.local_exec:
        # The limit of submissions wakes Snakemake 9.27's scheduler once a second more for every job that has ended, until it
        # takes a core. On this machine nothing needs that limit, and no setting or plugin takes it away.
        workflow.scheduler.job_rate_limiter = None

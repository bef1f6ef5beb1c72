"""What a person types."""

from tests.mutants.table import Edit

EDITS = (
    Edit(
        "a silent worker counts as running",
        "src/celeriac/cli/queue_table.py",
        "if stats.now_ms - worker.seen_ms < SILENT_MS",
        "if stats.now_ms - worker.seen_ms < 10 * SILENT_MS",
    ),
    Edit(
        "a stalled queue is shown as ready",
        "src/celeriac/cli/queue_table.py",
        'stalled is not None and stalled["status"] == "True"',
        'stalled is not None and stalled["status"] == "False"',
    ),
    Edit(
        "stale status is believed",
        "src/celeriac/cli/state.py",
        "time.time() - written / 1000 > STALE_SECONDS",
        "time.time() - written / 1000 > 1e9",
    ),
    Edit(
        "a pipe is asked nothing",
        "src/celeriac/cli/output.py",
        "    if not (sys.stdin.isatty() and sys.stderr.isatty()):\n",
        "    if False:\n",
    ),
    Edit(
        "the environment beats --broker",
        "src/celeriac/cli/broker.py",
        "    if option:\n",
        "    if option and not os.environ.get(ENVIRONMENT):\n",
    ),
    Edit(
        "a wrong password looks like a firewall",
        "src/celeriac/cli/broker.py",
        "    except redis.exceptions.AuthenticationError as error:\n",
        "    except redis.exceptions.AuthenticationWrongNumberOfArgsError as error:\n",
    ),
    Edit(
        "a lost message passes the doctor",
        "src/celeriac/cli/checks.py",
        "    if one.imbalance:\n",
        "    if one.imbalance < 0:\n",
    ),
)

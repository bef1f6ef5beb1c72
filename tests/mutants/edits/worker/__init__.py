"""Inside a worker."""

from tests.mutants.edits.worker import holding, running

EDITS = (*holding.EDITS, *running.EDITS)

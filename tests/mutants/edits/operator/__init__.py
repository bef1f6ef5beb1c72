"""The operator."""

from tests.mutants.edits.operator import looking, writing

EDITS = (*looking.EDITS, *writing.EDITS)

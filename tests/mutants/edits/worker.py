"""worker"""

from tests.mutants.table import Edit

EDITS: tuple[Edit, ...] = ()

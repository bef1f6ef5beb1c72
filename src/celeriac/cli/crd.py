"""``celeriac crd``: the CustomResourceDefinition, from the models that also check local files."""

from __future__ import annotations

import click

from celeriac.cli import output


@click.command(
    epilog="""\b
Example:
  celeriac crd | kubectl apply --server-side -f -""",
)
@click.option(
    "-o", "--output", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True
)
def crd(form: str) -> None:
    """Print the CustomResourceDefinition of MessageQueue."""
    from celeriac.spec.crd import crd as definition

    if form == "json":
        output.print_json(definition())
    else:
        output.print_yaml(definition())

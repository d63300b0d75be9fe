import typer

bench = typer.Typer()


@bench.command()
def step() -> None:
    pass


@bench.command()
def train() -> None:
    pass

def submit() -> None:
    pass


def jobs() -> None:
    pass


def logs() -> None:
    pass


def status() -> None:
    pass


def stop() -> None:
    pass

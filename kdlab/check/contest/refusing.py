"""Why a network is not scored."""


class Refused(Exception):
    """The network handed in is refused: the message says what was wrong, what was expected and what to do."""

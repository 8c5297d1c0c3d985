"""The one exception that bad input raises."""


class KdlabError(ValueError):
    """Bad input: the message says what was wrong, what was expected and what to do.

    In a notebook only the message is shown, without a traceback through the package.
    """

    def _render_traceback_(self) -> list[str]:  # IPython asks the exception itself
        return [f"{type(self).__name__}: {self}"]

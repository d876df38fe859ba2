"""The exceptions for mistakes a user can mend."""


class UserError(Exception):
    """A wrong option, file or shape. Commands print its message and exit with code 2.

    The message names the field, the value it got and what is allowed.
    """


class DivergedError(UserError):
    """A training's loss or gradient became NaN or infinite; its last good checkpoint is kept."""


class SharedError(UserError):
    """A UserError of one process that all processes of a run raise; the main one prints it."""

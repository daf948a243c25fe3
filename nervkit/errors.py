"""The error tree. Every failure nervkit reports derives from NervError.

Members are also ordinary Python errors (ValueError, OSError, ...), so callers may catch either.
`exit_code` is what the command line returns.
"""


class NervError(Exception):
    """Base of all errors that nervkit raises on purpose. The message is one line for people."""

    exit_code = 1


class UsageError(NervError, ValueError):
    """An argument or option is wrong: unknown name, impossible size, value out of range."""

    exit_code = 2


class OptionError(NervError, TypeError):
    """A keyword argument that the function does not have."""

    exit_code = 2


class NothingToDoError(NervError, ValueError):
    """The input is already what it was to become."""


class SourceError(NervError, ValueError):
    """The input video cannot be read: missing, empty, damaged, of mixed sizes."""


class OutputError(NervError, OSError):
    """The output cannot be written: it exists, is not writable, or the disk is full."""


class FormatError(NervError, ValueError):
    """The bytes are not a valid .nerv file."""


class TruncatedError(FormatError):
    """The .nerv file ends before its end mark."""


class ChecksumError(FormatError):
    """A checksum of the .nerv file does not match its bytes."""


class VersionError(FormatError):
    """The .nerv file was written by a newer, incompatible version."""


class LimitError(FormatError):
    """The .nerv file declares more than the decoder's limits allow."""


class ResourceError(NervError, MemoryError):
    """The work would not fit into memory."""


class ModelError(NervError, TypeError):
    """A model that a plugin or a notebook brings is not what a model must be."""


class MissingDependencyError(NervError, ImportError):
    """An optional package is needed; the message names what to install."""


class Interrupted(NervError):
    """The user stopped the work. `resumable` says whether the same call goes on where it was."""

    exit_code = 130

    def __init__(self, message: str, *, resumable: bool = False) -> None:
        super().__init__(message)
        self.resumable = resumable

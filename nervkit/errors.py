"""The exception hierarchy. Every error that nervkit raises on purpose derives from NervError.

Most classes also derive from a built-in exception (ValueError, OSError, ...), so callers may catch
either. `exit_code` is the exit status of the command line.
"""


class NervError(Exception):
    """The base class. The message is one readable line."""

    exit_code = 1


class UsageError(NervError, ValueError):
    """An argument or option is invalid: unknown name, impossible size, value out of range."""

    exit_code = 2


class OptionError(NervError, TypeError):
    """The function has no such keyword argument."""

    exit_code = 2


class NothingToDoError(NervError, ValueError):
    """The input already is what the call would produce."""


class SourceError(NervError, ValueError):
    """The input video cannot be read: missing, empty, damaged, or of varying frame size."""


class OutputError(NervError, OSError):
    """The output cannot be written: it exists, it is not writable, or the disk is full."""


class FormatError(NervError, ValueError):
    """The bytes are not a valid .nerv file."""


class TruncatedError(FormatError):
    """The .nerv file ends before its end mark."""


class ChecksumError(FormatError):
    """A checksum in the .nerv file does not match its bytes."""


class VersionError(FormatError):
    """A newer, incompatible version wrote the .nerv file."""


class LimitError(FormatError):
    """Decoding the .nerv file would exceed the decoder's limits."""


class ResourceError(NervError, MemoryError):
    """There is not enough memory."""


class ModelError(NervError, TypeError):
    """A model of a plugin or a notebook violates the model contract."""


class MissingDependencyError(NervError, ImportError):
    """An optional package is missing; the message says what to install."""


class Interrupted(NervError):
    """The user stopped the work. If `resumable`, the same call resumes from a checkpoint."""

    exit_code = 130

    def __init__(self, message: str, *, resumable: bool = False) -> None:
        super().__init__(message)
        self.resumable = resumable

"""Every module that commands load, torch's lazy ones too."""

# torch imports its compiler at the first optimizer or counted operator, in 1.5 s, and typer imports
# pydantic when a command is called.
import torch._dynamo  # noqa: F401
import typer._adapters  # noqa: F401

import nervkit.bench.sweep
import nervkit.cli
import nervkit.encoder
import nervkit.exporter
import nervkit.models.gridnerv
import nervkit.models.hnerv
import nervkit.models.nerv
import nervkit.requantizer
import nervkit.restoration.denoise
import nervkit.restoration.inpaint
import nervkit.restoration.interpolate
import nervkit.summary
import nervkit.verifier  # noqa: F401

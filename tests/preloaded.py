"""Every module that commands load, and torch's compiler: torch loads it for the first operator on
the meta device and for the first optimizer, which takes two seconds of each process."""

import torch._dynamo  # noqa: F401

import nervkit.bench.sweep
import nervkit.cli
import nervkit.encoder
import nervkit.models.gridnerv
import nervkit.models.hnerv
import nervkit.models.nerv
import nervkit.requantizer
import nervkit.restoration.denoise
import nervkit.restoration.inpaint
import nervkit.restoration.interpolate
import nervkit.summary
import nervkit.verifier  # noqa: F401

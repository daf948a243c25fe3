"""Every module that commands load. torch imports torch._dynamo with its first optimizer."""

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

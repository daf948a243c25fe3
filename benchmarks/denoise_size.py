"""Effect of network size on denoising: a noisy clip fitted by the default network and by one of
eight times its size, for few and for many steps.

    python benchmarks/denoise_size.py

Bunny at 160x80, 48 frames, Gaussian noise of sigma 25. PSNR against the clean frames, of the
network's prediction and of the result of `denoise`.
"""

import numpy as np
from common import ROOT, report

import nervkit
from nervkit.bench.restoration.damage import add_noise
from nervkit.bench.restoration.evaluate import score
from nervkit.fitting.job import fit_clip
from nervkit.fitting.options import FitOptions
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.models.sizing import default_parameters
from nervkit.restoration.denoise import Denoiser
from nervkit.restoration.kinds import to_uint8
from nervkit.restoration.task import Fitted

clean = nervkit.read_clip(
    ROOT / "examples" / "bunny.mp4", crop="1280x640", resize="160x80", frames="0:48"
).frames
noisy = add_noise(clean, "gaussian", 25)
default = default_parameters(VideoShape(*clean.shape[:3]))
places = np.arange(len(clean))
rows = []


def psnr(frames: np.ndarray) -> float:
    return score("gaussian:25", "", clean, frames, None, 0).psnr


for factor in (1, 8):
    for steps in (500, 2000, 8000):
        options = FitOptions(params=factor * default, steps=steps, device="cpu")
        network, _ = fit_clip(noisy, options)
        fitted = Fitted(network, "gridnerv")
        denoiser = Denoiser(noisy, fitted)
        rows.append(
            {
                "parameters": count_stored(network),
                "samples_per_parameter": clean.size / count_stored(network),
                "steps": steps,
                "psnr_noisy": psnr(noisy),
                "psnr_prediction": psnr(np.stack([to_uint8(fitted.predict(t)) for t in places])),
                "psnr_result": psnr(np.stack(list(denoiser.frames()))),
                "deviation_found": denoiser.details()["noise_deviation"],
            }
        )
        print(rows[-1], flush=True)
report("denoise_size", rows)

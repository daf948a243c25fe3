"""HNeRV with the published recipe against the authors' code: 0.18M, 160x320, 1,092 steps.

The authors' model code and recipe reach 23.9 dB after the same steps (one run, measured
separately).
"""

from common import fitted, quality, report, small_bunny

from nervkit.models.hnerv import HNeRV

if __name__ == "__main__":
    clip = small_bunny()
    rows = []
    for seed in range(3):
        network, seconds = fitted(clip, "hnerv", 180_000, HNeRV.recipes["paper"], 1092, seed)
        rows.append({"seed": seed, "psnr": quality(network, clip), "seconds": seconds})
    report("paper_recipe", rows, authors_psnr=23.9, steps=1092)

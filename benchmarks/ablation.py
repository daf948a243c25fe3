"""Ablation of GridNeRV: one part removed or changed at a time, at equal size and steps."""

from dataclasses import replace

from common import fitted, quality, report, small_bunny

from nervkit.models.base import count_stored
from nervkit.models.gridnerv import GridNeRV

PARAMS, STEPS = 180_000, 1_000
NATIVE = GridNeRV.recipes["native"]

# (name, options of the model, recipe, whether the embeddings are initialised from the clip)
VARIANTS = (
    ("as it is", {}, NATIVE, True),
    ("random start", {}, NATIVE, False),
    ("MSE as the loss", {}, replace(NATIVE, loss="mse"), True),
    ("Adam 1e-2 for the matrices too", {}, replace(NATIVE, matrix_lr=None), True),
    (
        "SOAP 1e-2 for the matrices",
        {},
        replace(NATIVE, matrix_optimizer="soap", matrix_lr=1e-2),
        True,
    ),
    ("Adam 1e-2 for the grids", {}, replace(NATIVE, embedding_lr=None), True),
    ("cosine decay", {}, replace(NATIVE, decay="cosine"), True),
    ("Muon 0.02", {}, replace(NATIVE, matrix_lr=0.02), True),
    ("batch 4, half the steps", {}, replace(NATIVE, batch=4), True),
    (
        "one grid, a knot in 2 frames",
        {"grid_rates": (2,), "grid_scales": (2,), "grid_channels": (4,)},
        NATIVE,
        True,
    ),
    (
        "no constant grid",
        {"grid_rates": (2, 4, 12), "grid_scales": (4, 2, 1), "grid_channels": (2, 2, 4)},
        NATIVE,
        True,
    ),
    ("trunk at 1/8, shuffle by 8", {"strides": (8,), "depths": (4,)}, NATIVE, True),
    ("no blocks before the upsampling", {"depths": (0, 4)}, NATIVE, True),
    ("one block after it", {"depths": (2, 1)}, NATIVE, True),
)

if __name__ == "__main__":
    clip = small_bunny()
    rows = []
    for what, options, recipe, start in VARIANTS:
        steps = STEPS * NATIVE.batch // recipe.batch
        network, _ = fitted(clip, "gridnerv", PARAMS, recipe, steps, start=start, **options)
        rows.append(
            {
                "variant": what,
                "parameters": count_stored(network),
                "steps": steps,
                "psnr": quality(network, clip),
            }
        )
    report("ablation", rows)

"""The native recipes against the published recipes, at equal model, clip and wall time."""

from common import fitted, quality, report, small_bunny, steps_within

from nervkit.models.registry import load_model

SECONDS = 60
SIZES = {"hnerv": 180_000, "nerv": 350_000}

if __name__ == "__main__":
    clip = small_bunny()
    rows = []
    for model, params in SIZES.items():
        for name in ("paper", "native"):
            recipe = load_model(model).recipes[name]
            steps = steps_within(clip, model, params, recipe, SECONDS)
            network, seconds = fitted(clip, model, params, recipe, steps)
            rows.append(
                {
                    "model": model,
                    "params": params,
                    "recipe": name,
                    "steps": steps,
                    "seconds": seconds,
                    "psnr": quality(network, clip),
                }
            )
    report("recipes", rows)

"""What quantization costs: HNeRV 1.5M on Bunny at 160x320, post-training, 4 to 10 bits.

Bytes are those of the coded chunks, payload and framing; "raw" is bits / 8 for every stored value.
"""

from common import fitted, quality, report, small_bunny

from nervkit.compression.tensors import compress_tensors, decompress_tensors
from nervkit.container.chunks import FRAMING
from nervkit.models.base import count_stored
from nervkit.models.hnerv import HNeRV

STEPS = 660  # 10 epochs

if __name__ == "__main__":
    import torch

    clip = small_bunny()
    network, _ = fitted(clip, "hnerv", 1_500_000, HNeRV.recipes["native"], STEPS)
    values, unquantized = count_stored(network), quality(network, clip)
    groups = [network.weights(), network.embeddings()]
    arrays = [{k: v.float().contiguous().numpy() for k, v in g.items()} for g in groups]
    rows = []
    for bits in (10, 8, 7, 6, 5, 4):
        size = 0
        for group in arrays:
            data = compress_tensors(group, bits)
            size += len(data) + FRAMING
            decoded = decompress_tensors(data, {k: v.shape for k, v in group.items()})
            network.load_stored({k: torch.from_numpy(v) for k, v in decoded.items()})
        after = quality(network, clip)
        rows.append(
            {
                "bits": bits,
                "bytes": size,
                "of raw": size / (values * bits / 8),
                "bits/value": 8 * size / values,
                "psnr": after,
                "loss": unquantized - after,
            }
        )
    report("quantization", rows, values=values, unquantized_psnr=unquantized, steps=STEPS)

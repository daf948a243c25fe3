"""Fitted tensors -> pruned -> quantized to integers -> entropy-coded bytes, and back."""

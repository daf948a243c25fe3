"""nervkit info"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.console import duration, emit


def info(
    source: Annotated[str, typer.Argument(help="A .nerv file.")],
    json: options.Json = False,
) -> None:
    """Print what a .nerv file says of itself. Decodes nothing."""
    from nervkit.summary import info as describe

    values = describe(source)
    if json:
        emit(values)
        return
    for name, text in _lines(values):
        typer.echo(f"{name:<14}{text}")


def _lines(values: dict[str, Any]) -> list[tuple[str, str]]:
    def pairs(of: dict[str, Any]) -> str:
        return ", ".join(f"{k} {v}" for k, v in of.items()) or "-"

    timing = "variable" if values["variable_timing"] else "constant"
    lines = [
        ("file", f"{values['input']}, format {values['format_version']}"),
        ("frames", f"{values['frames']} of {values['width']}x{values['height']}"),
        ("pixels", f"aspect {values['sample_aspect_ratio']}"),
        (
            "timing",
            f"{values['fps']:.3f} fps ({timing}), {duration(values['duration'])} "
            f"from {values['start_time']:g}s, time base {values['time_base']}",
        ),
        ("colour", pairs(values["colour"])),
        ("source", pairs(values["source"])),
        ("edit", pairs(values["edit"])),
        ("model", f"{values['model']}, {values['parameters']:,} parameters"),
        ("config", pairs(values["config"])),
    ]
    if values["segments"] > 1:
        lines.append(("segments", str(values["segments"])))
    if values["psnr"] is not None:
        similarity = "" if values["ssim"] is None else f", SSIM {values['ssim']:.4f}"
        lines.append(("quality", f"PSNR {values['psnr']:.2f} dB{similarity} (when encoded)"))
    lines.append(("bytes", f"{values['bytes']:,}; {values['bpp']:.4f} bpp without tracks"))
    for part, size in values["bytes_by_part"].items():
        lines.append((f"  {part}", f"{size:,} ({size / values['bytes']:.1%})"))
    for track in values["tracks"]:
        language = f" ({track['language']})" if track["language"] else ""
        told = f"{track['codec']}{language}, {track['packets']} packets, {track['bytes']:,} bytes"
        lines.append((track["kind"], told))
    lines += [("encoder", values["encoder"]), ("settings", values["settings"])]
    return lines

"""nervkit info"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nervkit.cli import options
from nervkit.cli.console import count_noun, emit
from nervkit.progress import duration

SHOWN = 12  # segments


def info(
    source: Annotated[str, typer.Argument(help="A .nerv file, or - for standard input.")],
    segments: Annotated[
        bool, typer.Option("--segments", help=f"Show all segments, not only the first {SHOWN}.")
    ] = False,
    limit: options.Limit = None,
    json: options.Json = False,
) -> None:
    """Print what a .nerv file contains. Decodes no frame."""
    from nervkit.summary import info as describe

    values = describe(source, limits=options.parse_limits(limit))
    if json:
        emit(values)
        return
    for name, text in _lines(values):
        typer.echo(f"{name:<14}{text}")
    table = values["segment_table"]
    if len(table) > 1:
        for line in _table(table, len(table) if segments else SHOWN):
            typer.echo(line)


def _table(rows: list[dict[str, Any]], most: int) -> Iterator[str]:
    """Yield a header line and a line for each of the first segments."""
    from nervkit.container.fields import printable

    names = ("segment", 7), ("first", 7), ("frames", 7), ("values", 11), ("bytes", 11), ("bpp", 8)
    yield "  ".join([*(f"{name:>{width}}" for name, width in names), "model"])
    for index, row in enumerate(rows[:most]):
        yield (
            f"{index:>7}  {row['first_frame']:>7}  {row['frames']:>7}  {row['parameters']:>11,}  "
            f"{row['bytes']:>11,}  {row['bpp']:>8.4f}  {printable(row['model'])}"
        )
    if len(rows) > most:
        yield f"and {count_noun(len(rows) - most, 'segment')} more: --segments shows all"


def _lines(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the name and text of each line."""
    from nervkit.container.fields import printable
    from nervkit.video.colour import Colour

    def pairs(of: dict[str, Any]) -> str:
        return ", ".join(f"{printable(k)} {printable(v)}" for k, v in of.items()) or "-"

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
        ("colour", str(Colour.from_dict(values["colour"]))),
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
    if values["metric"] not in (None, "rgb"):
        known = {"yuv": "6:1:1 PSNR of 4:2:0 planes (--metric yuv)"}
        metric = values["metric"]
        lines.append(("fitted for", known.get(metric) or f"the metric {printable(metric)}"))
    lines.append(("bytes", f"{values['bytes']:,}; {values['bpp']:.4f} bpp of the video"))
    for part, size in values["bytes_by_part"].items():
        lines.append((f"  {part}", f"{size:,} ({size / values['bytes']:.1%})"))
    for track in values["tracks"]:
        language = f" ({track['language']})" if track["language"] else ""
        title = f" {printable(track['title'])!r}" if track["title"] else ""
        flags = "".join(f", {flag}" for flag in track["flags"])
        description = (
            f"{track['codec']}{language}{title}{flags}, {count_noun(track['packets'], 'packet')}"
        )
        lines.append((track["kind"], f"{description}, {track['bytes']:,} bytes"))
    for name, value in values["tags"].items():
        lines.append(("tag", f"{name} {printable(value)}"))
    for chapter in values["chapters"]:
        span = f"{chapter['start']:.3f} to {chapter['end']:.3f} s"
        lines.append(("chapter", f"{span} {printable(chapter['title'])}"))
    for attached in values["attachments"]:
        lines.append(("attachment", f"{attached['name']}, {attached['bytes']:,} bytes"))
    for name in ("encoder", "settings"):
        lines.append((name, printable(values[name], 1000)))
    return lines

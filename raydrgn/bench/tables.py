"""What was measured, as names and values of a table."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raydrgn.bench.em import EmRates
    from raydrgn.bench.exchange import ExchangeRates
    from raydrgn.bench.explore import ExploreRates
    from raydrgn.bench.gpu_rates import GpuRates, NetworkRates
    from raydrgn.bench.occupancy import OccupancyRates
    from raydrgn.bench.particles import Part
    from raydrgn.bench.prepare import PreparationRates
    from raydrgn.bench.reading import ReadingRates
    from raydrgn.bench.scaling import ScalingRates
    from raydrgn.bench.step import StepRate
    from raydrgn.bench.train import PathRate
    from raydrgn.bench.volumes import DecodingRates, PoolRates, WholeBall
    from raydrgn.bench.worker_steps import StepScaling

Rows = list[tuple[str, str]]


def step_rows(rate: "StepRate") -> Rows:
    """Return the rows of a training step."""
    return [
        ("device", f"{rate.device}, {rate.precision}"),
        ("bare step", f"{rate.particles_per_s:,.1f} particles/s"),
        *_compiled_rows(rate),
        ("arithmetic", f"{rate.flop_per_particle / 1e9:,.3f} GFLOP/particle"),
        ("", f"{rate.flop_per_s / 1e9:,.0f} GFLOP/s"),
        ("limit (one large product)", f"{rate.limit_flop_per_s / 1e9:,.0f} GFLOP/s"),
        ("share of the limit", f"{100 * rate.share:.0f} %"),
    ]


def _compiled_rows(rate: "StepRate") -> Rows:
    """Return the rows of the compiled step, if it was timed."""
    if rate.compiled_per_s is None or rate.speed_up is None or rate.compile_s is None:
        return []
    return [
        ("compiled step", f"{rate.compiled_per_s:,.1f} particles/s"),
        ("… of the bare step", f"× {rate.speed_up:.2f}"),
        ("… compiling", f"{rate.compile_s:,.1f} s"),
    ]


def gpu_rows(rates: "GpuRates") -> Rows:
    """Return the rows of what a GPU does, as far as it is measured."""
    rows = [("driver", rates.driver), ("torch", rates.torch), ("date", rates.date)]
    for found in rates.networks:
        rows.append((found.title, ""))
        for name in GPU_FIGURES:
            rows += [(f"  {title}", value) for title, value in figure_rows(found, name)]
    return rows


GPU_FIGURES = {
    "all_points": "step, all points",
    "quarter": "step, a quarter of the points",
    "volumes": "volumes",
    "path_per_s": "whole path, all points",
    "from_host_per_s": "… from the host's memory",
    "cryodrgn_per_s": "cryoDRGN, same data",
}
"""Titles of the figures of a network, by their names in ``NetworkRates``."""


def figure_rows(found: "NetworkRates", name: str) -> Rows:
    """Return the rows of one figure of a network on a GPU; none if it was not measured."""
    title, value = GPU_FIGURES[name], getattr(found, name)
    if name in found.failures:
        return [(title, f"failed: {found.failures[name]}")]
    if value is None:
        return []
    if name in ("all_points", "quarter"):
        return _gpu_step_rows(title, value, is_whole=name == "all_points")
    if name == "volumes":
        return [(title, f"{value.volumes_per_s:,.1f}/s, {value.precision}")]
    rows = [(title, f"{value:,.0f} particles/s")]
    if name == "path_per_s" and found.all_points is not None:
        rows.append(("… of the step", f"{100 * value / found.all_points.best_per_s:.0f} %"))
    if name == "from_host_per_s" and found.path_per_s is not None:
        rows.append(("… of the whole path", f"{100 * value / found.path_per_s:.0f} %"))
    return rows


def _gpu_step_rows(title: str, rate: "StepRate", *, is_whole: bool) -> Rows:
    """Return the rows of a step on a GPU; of that with all points, its limit and memory too."""
    rows = []
    if is_whole:
        limit = f"{rate.limit_flop_per_s / 1e12:,.1f} TFLOP/s, {rate.precision}"
        rows.append(("limit (one large product)", limit))
    rows += [
        (title, f"{rate.best_per_s:,.0f} particles/s"),
        ("… share of the limit", f"{100 * rate.share:.0f} %"),
    ]
    if rate.speed_up is not None:
        rows.append(("… captured, of the bare step", f"× {rate.speed_up:.2f}"))
    if rate.fused_per_s is not None and rate.compiled_per_s:
        speed_up = rate.fused_per_s / rate.compiled_per_s
        rows.append(("… fused by torch.compile, of the captured", f"× {speed_up:.2f}"))
    if is_whole and rate.memory_bytes is not None:
        rows.append(("… memory", f"{rate.memory_bytes / 1e9:,.2f} GB"))
    return rows


def em_rows(rate: "EmRates") -> Rows:
    """Return the rows of passes of a mixture of factor analysers."""
    limit = rate.limit_bytes_per_s

    def moved(per_s: float, size: float) -> str:
        return f"{per_s * size / 1e9:,.1f} GB/s, {100 * per_s * size / limit:.0f} % of the limit"

    each = 1 / (1 / rate.gathered_per_s + 1 / rate.inserted_per_s + 1 / rate.posterior_per_s)
    return [
        ("device", f"{rate.device}, float32"),
        ("slices of all volumes", f"{rate.gathered_per_s:,.0f} images/s"),
        ("", moved(rate.gathered_per_s, rate.gather_bytes)),
        ("… their adjoint", f"{rate.inserted_per_s:,.0f} images/s"),
        ("", moved(rate.inserted_per_s, rate.insert_bytes)),
        ("posterior of the latents", f"{rate.posterior_per_s:,.0f} images/s"),
        ("all three", f"{each:,.0f} images/s"),
        ("limit (one large copy)", f"{limit / 1e9:,.1f} GB/s"),
        ("grid of slices", f"{rate.grid_bytes / 1e6:,.0f} MB"),
        ("grid of sums", f"{rate.sums_bytes / 1e6:,.0f} MB"),
    ]


def training_rows(rate: "PathRate") -> Rows:
    """Return the rows of the whole training path."""
    return [
        ("whole path", f"{rate.particles_per_s:,.0f} particles/s"),
        ("… of the bare step", f"{100 * rate.share_of_step:.0f} %"),
        *step_rows(rate.step),
    ]


def scaling_rows(rates: "ScalingRates", *, batch_size: int) -> Rows:
    """Return the rows of steps on several workers, and of the parts beside them."""
    parts, [one, *_] = rates.parts, rates.steps
    rows = [row for step in rates.steps for row in _step_scaling_rows(step, one, batch_size)]
    return [
        *rows,
        ("gradients", f"{parts.gradient_bytes / 1e6:,.2f} MB"),
        ("preparing, one core", f"{parts.prepared_per_s:,.0f} particles/s"),
        ("… a prepared particle", f"{parts.prepared_bytes / 1e3:,.1f} kB"),
        ("encoding, one core", f"{parts.encoded_per_s:,.0f} particles/s"),
        ("checkpoint", f"{parts.checkpoint_bytes / 1e6:,.1f} MB"),
        ("… copying it, steps wait", f"{1e3 * parts.checkpoint_s:,.0f} ms"),
        ("… writing it, beside the steps", f"{1e3 * parts.write_s:,.0f} ms"),
        ("writing a million latents", f"{parts.latents_s:,.2f} s"),
        (
            "metrics of a second of training",
            f"{1e3 * rates.metrics_s:,.1f} ms, {100 * rates.metrics_s:,.2f} % of a core",
        ),
    ]


def _step_scaling_rows(step: "StepScaling", one: "StepScaling", batch_size: int) -> Rows:
    workers = step.workers
    rows = [
        (f"{workers} workers" if workers > 1 else "1 worker", f"{1e3 * step.step_s:,.1f} ms/step"),
        ("", f"{workers * batch_size / step.step_s:,.0f} particles/s"),
        ("… CPU time of a worker", f"{1e3 * step.cpu_s:,.1f} ms/step"),
    ]
    if workers > 1:
        exchange = 1e3 * (step.step_s - step.compute_s)
        rows += [
            ("… without exchange", f"{1e3 * step.compute_s:,.1f} ms/step"),
            ("… exchange", f"{exchange:,.1f} ms/step"),
            ("… of one worker's rate, each", f"{100 * one.step_s / step.step_s:.0f} %"),
        ]
    if workers > 1 and step.sent_bytes is not None:
        rows.append(("… sent by a worker", f"{step.sent_bytes / 1e6:,.2f} MB/step"))
    return rows


def exchange_rows(rates: "ExchangeRates") -> Rows:
    """Return the rows of what workers exchange, and of the steps that it needs."""
    from raydrgn.bench.exchange import GPU_FLOP_PER_S, LINKS, SCALING, ring_bytes

    size = rates.gradient_bytes
    rows = [
        ("arithmetic", f"{rates.flop_per_particle / 1e9:,.3f} GFLOP/particle"),
        ("gradients", f"{size / 1e6:,.2f} MB"),
        ("… that come last", f"{100 * rates.last_bytes / size:.0f} %, {rates.last_name}"),
    ]
    for step in rates.steps:
        number = f"{step.workers} worker{'s' * (step.workers > 1)}"
        rows.append((f"{number}, CPU time of each", f"{1e3 * step.cpu_s:,.1f} ms/step"))
        if step.workers > 1:
            rows.append(("… of it, exchange", f"{1e3 * step.exchange_cpu_s:,.1f} ms/step"))
        if step.workers > 1 and step.sent_bytes is not None:
            ring = ring_bytes(size, step.workers)
            sent = f"{step.sent_bytes / 1e6:,.2f} MB/step, a ring {ring / 1e6:,.2f}"
            rows.append(("… sent by a worker", sent))
    rows.append((f"modelled: a GPU's step at {GPU_FLOP_PER_S / 1e12:.0f} TFLOP/s", ""))
    for link in LINKS:
        rows += [
            (link.name, f"{1e3 * rates.exchange_s(link):,.2f} ms of exchange"),
            (
                f"… for {100 * SCALING:.0f} % of one GPU's rate",
                f"{math.ceil(rates.least_batch(link)):,} particles per GPU",
            ),
        ]
    return rows


def preparation_rows(rates: "PreparationRates | ReadingRates") -> Rows:
    """Return the rows of downsampling and back-projection, or of reading from a store."""
    from raydrgn.bench.reading import ReadingRates

    if isinstance(rates, ReadingRates):
        return reading_rows(rates)
    moved = rates.old_megabytes + rates.small_megabytes
    measured = (
        ("downsample", rates.downsample, moved),
        ("limit of the disk: read and write", rates.disk, moved),
        ("limit of the transforms: there and back", rates.transforms, moved),
        ("backproject, one process", rates.backproject, rates.small_megabytes),
    )
    return [
        *(
            (name, f"{rate:,.0f} particles/s, {rate * size:,.0f} MB/s")
            for name, rate, size in measured
        ),
        ("downsample, of the slower limit", f"{100 * rates.share:.0f} %"),
        ("largest memory of the process", f"{rates.memory_megabytes:,.0f} MB"),
        ("… growth with four times the images", f"{rates.growth_megabytes:,.0f} MB"),
    ]


def reading_rows(rates: "ReadingRates") -> Rows:
    """Return the rows of reading from a store."""
    return [
        ("stack", f"{rates.megabytes:,.0f} MB"),
        ("raydrgn, in ranges", f"{rates.reader:,.0f} MB/s"),
        ("one plain request", f"{rates.plain:,.0f} MB/s"),
        ("share of the plain request", f"{100 * rates.share:.0f} %"),
    ]


def particle_rows(parts: "list[Part]") -> Rows:
    """Return the rows of what grows with the number of particles."""
    return [
        (
            f"{part.name}, {part.particles:,}",
            f"{part.seconds:,.1f} s, largest memory {part.peak_megabytes:,.0f} MB",
        )
        for part in parts
    ]


def decoding_rows(rate: "DecodingRates") -> Rows:
    """Return the rows of decoding in one process."""
    return [
        ("device", f"{rate.device}, {rate.precision}"),
        ("one process", f"{rate.volumes_per_s:,.1f} volumes/s"),
        ("arithmetic", f"{rate.flop_per_volume / 1e9:,.1f} GFLOP/volume"),
        ("", f"{rate.flop_per_s / 1e9:,.0f} GFLOP/s"),
        ("limit (one large product)", f"{rate.limit_flop_per_s / 1e9:,.0f} GFLOP/s"),
        ("share of the limit", f"{100 * rate.share:.0f} %"),
    ]


def whole_rows(whole: "WholeBall") -> Rows:
    """Return the rows of half of the ball beside the whole."""
    return [
        ("half of the ball, of the time of the whole", f"{100 * whole.half_of_full:.0f} %"),
        ("… largest difference, SD", f"{whole.difference:.1e}"),
    ]


def pool_rows(rates: "PoolRates", *, workers: int) -> Rows:
    """Return the rows of decoding by several workers."""
    return [
        ("1 worker", f"{rates.one:,.1f} volumes/s"),
        (f"{workers} workers", f"{rates.workers:,.1f} volumes/s"),
        ("… of one worker", f"× {rates.speed_up:.2f}"),
        ("growth of a worker's memory after a tenth", f"{rates.growth_megabytes:,.0f} MB"),
    ]


def occupancy_rows(rates: "OccupancyRates", *, num_volumes: int, workers: int) -> Rows:
    """Return the rows of scoring occupancies."""
    return [
        ("decoding alone, 1 worker", f"{rates.decode:,.1f} volumes/s"),
        ("decoding and scoring, 1 worker", f"{rates.score:,.1f} volumes/s"),
        ("… of decoding alone", f"{100 * rates.share:.0f} %"),
        (f"decoding and scoring, {workers} workers", f"{rates.workers:,.1f} volumes/s"),
        ("… of one worker", f"× {rates.speed_up:.2f}"),
        (f"all {num_volumes:,} volumes, with tables", f"{rates.whole:,.1f} volumes/s"),
        ("growth of memory after a tenth: worker", f"{rates.worker_growth_megabytes:,.0f} MB"),
        ("… process with the table", f"{rates.own_growth_megabytes:,.0f} MB"),
    ]


def explore_rows(rates: "ExploreRates") -> Rows:
    """Return the rows of the explorer."""
    draw = "no browser" if rates.first_draw is None else f"{rates.first_draw:,.1f} s"
    return [
        ("command to address", f"{rates.printed:,.1f} s"),
        ("answers that the page begins with", f"{rates.answered:,.1f} s"),
        ("… their size", f"{rates.sent_megabytes:,.1f} MB"),
        ("page drawn, in Chromium", draw),
        ("lasso to answer", f"{rates.lasso:,.2f} s"),
        ("largest memory of the server", f"{rates.memory_megabytes:,.0f} MB"),
    ]

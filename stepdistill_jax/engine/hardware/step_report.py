"""What a compiled step needs of each device."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from stepdistill_jax.engine.hardware.step_costs import Traffic
from stepdistill_jax.engine.hardware.topologies import GIB, Topology


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What one training step needs of each device, and how long it takes at least.

    Attributes:
      topology: what it was compiled for.
      mesh: axis -> devices.
      batch: feature -> [rows, tokens] of the global batch.
      num_microbatches: as the trainer has them; of 'auto', those that were found.
      layers: how they are computed, where that was found, too.
      num_parameters: of the model, over all devices.
      parameter_bytes, optimizer_bytes: of each device, kept from step to step.
      temporary_bytes: activations, gradients and what is moved about, at the fullest moment.
      peak_bytes: everything at the fullest moment.
      model_flops: three forward passes over all devices: what the step cannot do without.
      executed_flops: with what is computed a second time to save memory; without those of fused kernels.
      traffic: what a device sends to others in a step.
      kernels: fused kernel -> how often it runs in a step.
      compile_seconds: of this compilation, and of those that looked for how it fits.
    """

    topology: Topology
    mesh: Mapping[str, int]
    batch: Mapping[str, tuple[int, ...]]
    num_microbatches: int
    layers: str | None
    num_parameters: int
    parameter_bytes: int
    optimizer_bytes: int
    temporary_bytes: int
    peak_bytes: int
    model_flops: int
    executed_flops: int
    traffic: Traffic
    kernels: Mapping[str, int]
    compile_seconds: float

    @property
    def fits(self) -> bool:
        usable = self.topology.usable_bytes
        return usable is None or self.peak_bytes <= usable

    @property
    def compute_seconds(self) -> float:
        """Of one device at its peak rate; 0 for a CPU, whose rate is not in the table."""
        peak = self.topology.chip.peak_flops
        return self.executed_flops / self.topology.num_devices / peak if peak else 0.0

    @property
    def exchange_seconds(self) -> float:
        """At the peak rates of its links, one exchange after another."""
        chip = self.topology.chip
        if not chip.link_bytes_per_second:
            return 0.0
        across_rate = chip.network_bytes_per_second or chip.link_bytes_per_second
        return (
            self.traffic.within_bytes / chip.link_bytes_per_second + self.traffic.across_bytes / across_rate
        )

    def mfu(self, seconds: float) -> float:
        """Model FLOPs utilisation of a step of so many seconds (Chowdhery et al. 2022, PaLM, appendix B)."""
        return self.model_flops / self.topology.num_devices / seconds / self.topology.chip.peak_flops

    def as_dict(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self),
            "topology": self.topology.name,
            "usable_bytes": self.topology.usable_bytes,
            "fits": self.fits,
            "compute_seconds": self.compute_seconds,
            "exchange_seconds": self.exchange_seconds,
        }

    def __str__(self) -> str:
        topology, mesh = self.topology, " x ".join(f"{axis} {size}" for axis, size in self.mesh.items())
        rows = {name: shape for name, shape in self.batch.items() if name.endswith("_tokens")}
        usable = topology.usable_bytes
        of_memory = (
            "" if usable is None else f" of {usable / GIB:.1f}: {'fits' if self.fits else 'does not fit'}"
        )
        lines = [
            f"{topology.name}: {topology.num_devices} x {topology.chip.name}, mesh {mesh}",
            f"{self.num_parameters / 1e9:.3g} B parameters; batch "
            + ", ".join(f"{name} {list(shape)}" for name, shape in rows.items())
            + f"; {self.num_microbatches} microbatch{'es' if self.num_microbatches > 1 else ''}"
            + (f"; {self.layers}" if self.layers else ""),
            "GiB a device",
            f"  parameters   {self.parameter_bytes / GIB:8.3f}",
            f"  optimizer    {self.optimizer_bytes / GIB:8.3f}",
            f"  activations  {self.temporary_bytes / GIB:8.3f}   (with gradients and buffers, at the fullest moment)",
            f"  peak         {self.peak_bytes / GIB:8.3f}{of_memory}",
            f"FLOPs a step   {self.model_flops:.4g} of the model, {self.executed_flops:.4g} "
            + ("outside fused kernels" if self.kernels else "with what is computed again"),
            "fused kernels  "
            + (", ".join(f"{runs} {name}" for name, runs in self.kernels.items()) or "none"),
            f"sent a device  {self._sent()}",
        ]
        if topology.chip.peak_flops and self.kernels:
            lines.append(
                f"at peak rates  {self.compute_seconds:.3g} s computing ({topology.chip.peak_flops / 1e12:g} TFLOP/s) outside "
                f"fused kernels, {self.exchange_seconds:.3g} s exchanging"
            )
        elif topology.chip.peak_flops:
            longest = max(self.compute_seconds, self.exchange_seconds)
            total = self.compute_seconds + self.exchange_seconds
            lines += [
                f"at peak rates  {self.compute_seconds:.3g} s computing ({topology.chip.peak_flops / 1e12:g} TFLOP/s), "
                f"{self.exchange_seconds:.3g} s exchanging",
                f"step           {longest:.3g} s (MFU {self.mfu(longest):.0%}) if these overlap, {total:.3g} s (MFU "
                f"{self.mfu(total):.0%}) if not",
            ]
        return "\n".join([*lines, f"compiled in {self.compile_seconds:.0f} s"])

    def _sent(self) -> str:
        kinds = [f"{kind} {sent / GIB:.3g}" for kind, sent in sorted(self.traffic.by_kind.items()) if sent]
        if not kinds:
            return "nothing"
        return f"{', '.join(kinds)} GiB; {self.traffic.across_bytes / GIB:.3g} GiB of it between hosts"

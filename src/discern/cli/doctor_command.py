"""`discern doctor`: what this machine has, each line ok, warn or fail with the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.console import Console
from discern.base.errors import CHECK_FAILED, OK

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "red"}
_GIB: Final = 1 << 30
_MIB: Final = 1 << 20
# A checkpoint of a mid-sized network with its optimizer takes about 0.3 GB, and some are kept.
_LOW_DISK: Final = 5 * _GIB
_LOW_MEMORY: Final = 2 * _GIB
# Below this a checkpoint of 300 MB holds up training for more than ten seconds.
_SLOW_WRITE: Final = 30 * _MIB
# Training cannot do without these; the others only take features away.
_NEEDED: Final = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors")
# The range in which several connections that write at once can corrupt a database; fixed in 3.51.3.
_SQLITE_FIXED: Final = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of doctor: `level` ok, warn or fail; `remedy` is empty when it is ok."""

    level: str
    topic: str
    text: str
    remedy: str = ""

    def record(self) -> dict[str, str]:
        """The finding as a JSON object."""
        return {
            "level": self.level,
            "topic": self.topic,
            "text": self.text,
            "remedy": self.remedy,
        }


def doctor(console: Console, folder: Path | None = None) -> int:
    """Examine the machine; exit code 3 when something fails. `folder`: where runs will be kept.

    With `--json` the object is the environment record of runs, with what was measured and the
    findings beside it.
    """
    from discern.track.run_folder import runs_root

    record = examine(folder or runs_root(None))
    found = findings(record)
    for line in found:
        level = console.paint(line.level.ljust(4), _STYLES[line.level])
        console.result(f"{level}  {line.topic:<10} {line.text}")
        if line.remedy:
            console.result(f"{'':18}try: {line.remedy}")
    console.emit({**record, "findings": [line.record() for line in found]})
    return CHECK_FAILED if any(line.level == "fail" for line in found) else OK


def examine(folder: Path) -> dict[str, Any]:
    """The environment record of a run, with what only doctor measures beside it."""
    from discern.track.environment import environment_record
    from discern.track.machine_checks import jpeg_decoders, network, torch_devices, write_speed

    record = environment_record(folder)
    existed = folder.exists()
    record["disk"]["write"] = write_speed(folder)
    if not existed and folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    record["torch"] = torch_devices()
    record["jpeg"] = jpeg_decoders()
    record["network"] = network()
    return record


def findings(record: dict[str, Any]) -> list[Finding]:
    """What the record of a machine means for training on it."""
    return [
        *_software(record),
        *_hardware(record),
        *_storage(record),
        *_decoders(record["jpeg"]),
        _network(record["network"], record["weights_cache"]),
    ]


def _software(record: dict[str, Any]) -> list[Finding]:
    versions = record["versions"]
    there = ", ".join(f"{name} {text}" for name, text in versions.items() if text is not None)
    lines = [Finding("ok", "versions", there), Finding("ok", "system", record["os"])]
    for name, text in versions.items():
        if text is None:
            level = "fail" if name in _NEEDED else "warn"
            lines.append(Finding(level, name, "not installed", f"pip install {name}"))
    torch = record["torch"]
    if versions["torch"] is not None and torch.get("problem"):
        lines.append(
            Finding("fail", "torch", f"cannot be imported: {torch['problem']}", "reinstall torch")
        )
    text = record["sqlite"]
    if tuple(int(part) for part in text.split(".")) < _SQLITE_FIXED:
        remedy = "harmless for one process; a newer Python brings SQLite 3.51.3, which mends it"
        lines.append(Finding("warn", "sqlite", f"{text}: many writers at once are unsafe", remedy))
    else:
        lines.append(Finding("ok", "sqlite", text))
    return lines


def _hardware(record: dict[str, Any]) -> list[Finding]:
    cpu, memory = record["cpu"], record["memory"]
    cores = f"{cpu['cores_allowed']:g} of {cpu['cores']} cores allowed"
    lines = [Finding("ok", "cpu", f"{cpu['model'] or cpu['architecture']}, {cores}")]
    limit = memory["limit"] or memory["total"]
    text = f"{memory['available'] / _GIB:.1f} of {limit / _GIB:.1f} GiB available"
    if min(memory["available"], limit) < _LOW_MEMORY:
        remedy = "close other programs, or train with a smaller --batch-size"
        lines.append(Finding("warn", "memory", text, remedy))
    else:
        lines.append(Finding("ok", "memory", text))
    return [*lines, *_gpus(record["gpus"], record["torch"])]


def _gpus(gpus: list[dict[str, Any]], torch: dict[str, Any]) -> list[Finding]:
    seen = torch.get("devices") or []
    lines = [
        Finding("ok", "gpu", f"{device['name']}, {device['memory'] / _GIB:.0f} GiB, seen by torch")
        for device in seen
    ]
    if torch.get("mps"):
        lines.append(Finding("ok", "gpu", "Apple GPU (mps), seen by torch"))
    for gpu in gpus:
        if gpu.get("problem"):
            remedy = "reinstall the NVIDIA driver, then restart the machine"
            lines.append(Finding("warn", "gpu", gpu["problem"], remedy))
        else:
            lines.append(Finding("ok", "driver", f"{gpu['name']}: NVIDIA driver {gpu['driver']}"))
    if gpus and not seen and not gpus[0].get("problem") and torch.get("version"):
        remedy = "install a torch build for this driver's CUDA version"
        lines.append(Finding("fail", "gpu", "there is a GPU, but torch does not see it", remedy))
    if not lines:
        remedy = "nothing, if that is as it should be: all works, photos train slowly"
        lines.append(Finding("ok", "gpu", "none; training runs on the CPU", remedy))
    return lines


def _storage(record: dict[str, Any]) -> list[Finding]:
    disk = record["disk"]
    text = f"{disk['free'] / _GIB:.0f} GiB free under {disk['folder']}"
    low = disk["free"] < _LOW_DISK
    remedy = "free some space, or keep runs elsewhere: --runs DIR or $DISCERN_RUNS"
    lines = [Finding("warn" if low else "ok", "disk", text, remedy if low else "")]
    write = disk["write"]
    if write.get("problem"):
        text = f"cannot be written: {write['problem']}"
        return [*lines, Finding("fail", "disk", text, "choose another folder: --runs DIR")]
    text = f"writes {write['bytes_per_s'] / _MIB:.0f} MiB/s"
    slow = write["bytes_per_s"] < _SLOW_WRITE
    remedy = "keep runs on a local disk: --runs DIR" if slow else ""
    return [*lines, Finding("warn" if slow else "ok", "disk", text, remedy)]


def _decoders(decoders: list[dict[str, Any]]) -> list[Finding]:
    lines = []
    for decoder in decoders:
        if decoder.get("problem"):
            level = "fail" if decoder["name"] == "pillow" else "warn"
            remedy = f"pip install --force-reinstall {_PACKAGE_OF[decoder['name']]}"
            lines.append(Finding(level, "jpeg", f"{decoder['name']}: {decoder['problem']}", remedy))
            continue
        name = f"{decoder['name']} {decoder['version']}"
        speed = f"{decoder['images_per_s']:.0f} images/s on one core (500 x 375)"
        lines.append(Finding("ok", "jpeg", f"{name}: {speed}"))
    return lines


_PACKAGE_OF: Final = {
    "pillow": "pillow",
    "simplejpeg": "simplejpeg",
    "opencv": "opencv-python-headless",
}


def _network(network: dict[str, Any], cache: str) -> Finding:
    where = f"weights are kept in {cache}"
    if network["reachable"]:
        return Finding("ok", "network", f"{network['host']} reachable; {where}")
    text = f"{network['host'] or 'the model hub'} not reachable; {where}"
    remedy = "training works offline; give weights as files: --weights FILE.safetensors"
    return Finding("warn", "network", text, remedy)

"""Registers and shared memory of the CUDA kernels, by the report of the compiler (`-Xptxas=-v`).

CI compiles them and names the report's file in NCHARNESS_PTXAS_REPORT.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

REPORT = os.environ.get("NCHARNESS_PTXAS_REPORT")
SOURCES = sorted((Path(__file__).parents[2] / "csrc").glob("*.cu"))
# Registers a thread and bytes of shared memory that are fixed at compile time. At most: 128 registers are two blocks of
# 256 threads to a processor, 64 eight blocks of 128.
BUDGETS = {
    "read_labels": (32, 0),
    "find_starts": (32, 0),
    "sum_runs": (128, 4096 + 64),
    "merge_runs": (64, 12 << 10),
    "find_active": (64, 128),
    "find_shift": (64, 0),
    "pack_centres": (64, 128),
    "score_few": (128, 0),
    "score_few of 16 classes": (255, 0),
    "score_few of 32 classes": (255, 0),
    "decide_few": (64, 0),
    "score_many": (255, 0),
    "decide_many": (64, 0),
    "score_residuals": (128, 17 << 10),
    "add_gram": (64, 9 << 10),
    "sum_directional": (64, 0),
    "add_directional": (64, 0),
    "sum_pairs": (128, 128),
    "average": (64, 128),
    "set_value": (32, 0),
    "clear": (32, 0),
    "finish": (64, 64),
}
PATTERN = re.compile(
    r"Compiling entry function '(\w+)' for 'sm_\d+'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?",
    re.DOTALL,
)


def parse(report):
    """Return (name, registers, shared bytes, spilled bytes) of every kernel of ours in a report of ptxas."""
    found = [match.groups(default="0") for match in PATTERN.finditer(report)]
    demangled = subprocess.run(
        ["c++filt"], input="\n".join(entry[0] for entry in found), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name, (_, stored, loaded, registers, shared) in zip(demangled, found, strict=True):
        if "ncharness::cuda" not in name or "cub::" in name:
            continue
        kernel = re.search(r"\(anonymous namespace\)::(\w+)(<[^(]*>)?\(", name)
        assert kernel, name
        classes = re.search(r"score_few<.*, \(?(?:int\))?(16|32)>", name)
        yield (
            kernel[1] + (f" of {classes[1]} classes" if classes else ""),
            int(registers),
            int(shared),
            int(stored) + int(loaded),
        )


def test_a_report_is_read_and_a_spill_is_seen():
    report = """
ptxas info    : Compiling entry function '_ZN9ncharness4cuda12_GLOBAL__N_19sum_pairsEPKlPKdS5_llPd' for 'sm_90'
ptxas info    : Function properties for x
    0 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 78 registers, used 1 barriers, 64 bytes smem
"""
    assert list(parse(report)) == [("sum_pairs", 78, 64, 12)]


def test_every_kernel_has_a_budget():
    pattern = re.compile(r"__global__ void\s+(?:__launch_bounds__\([^;{]*?\)\s+)?(\w+)\([^)]")
    kernels = {name for source in SOURCES for name in pattern.findall(source.read_text())}
    assert kernels
    assert kernels == {name.split(" of ")[0] for name in BUDGETS}


@pytest.mark.skipif(REPORT is None, reason="the kernels were not compiled: NCHARNESS_PTXAS_REPORT names no report")
def test_no_kernel_spills_and_every_kernel_keeps_to_its_budget():
    found = list(parse(Path(REPORT).read_text()))
    assert {name for name, *_ in found} == set(BUDGETS)
    assert not [entry for entry in found if entry[3]]
    over = [entry for entry in found if entry[1] > BUDGETS[entry[0]][0] or entry[2] > BUDGETS[entry[0]][1]]
    assert not over

"""Peers of tools/bench: a virtual environment with what PyPI has, and drivers that Debian has."""
import os
import subprocess
from pathlib import Path

PACKAGES = {"torch": "torch", "onnxruntime": "onnxruntime", "tinygrad": "tinygrad",
            "numpy": "numpy", "yaml": "pyyaml", "setuptools": "setuptools"}

# How each peer is kept from wider instructions. ONNX Runtime has no such switch: it asks the CPU.
LIMITS = {"avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
                   "MKL_ENABLE_INSTRUCTIONS": "AVX2", "TORCHINDUCTOR_CPP_MARCH": "haswell",
                   "OPENBLAS_CORETYPE": "Haswell"}}


class Peers:
    """missing: peer -> why it is not there."""

    def __init__(self, folder, wanted=True):
        self.folder, self.missing, self.wanted = Path(folder), {}, wanted
        self.python = self.folder / "bin/python"
        if not wanted:
            return
        if not self.python.exists():
            self.call("python3", "-m", "venv", self.folder)
        for module, package in PACKAGES.items():
            if self.has(module):
                continue
            print(f"bench: installing {package} from PyPI into {self.folder}", flush=True)
            why = self.call(self.python, "-m", "pip", "install", "-q", package)
            if not self.has(module):
                self.missing[module] = why or "does not import"

    def has(self, module):
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
        return not self.call(self.python, "-c", code)

    @staticmethod
    def call(*command):
        """Why it failed; "" where it did not."""
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True,
                                  timeout=1800)
        except (OSError, subprocess.TimeoutExpired) as e:
            return str(e)[:160]
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        return lines[-1][:160] if done.returncode else ""

    def accelerator(self):
        """PyTorch's name of a GPU that it can use here, or None."""
        if not self.wanted or "torch" in self.missing:
            return None
        code = "import torch\nprint('cuda' if torch.cuda.is_available() else 'xpu' if " \
               "hasattr(torch, 'xpu') and torch.xpu.is_available() else '')"
        done = subprocess.run([str(self.python), "-c", code], capture_output=True, text=True)
        return done.stdout.strip() or None


def swiftshader(build):
    """The environment that leaves this Vulkan driver alone, or None. tests/drivers uses the folder."""
    inside = "usr/lib/chromium/vk_swiftshader_icd.json"
    folder = build / "drivers/swiftshader"
    for root in (Path("/"), folder):
        if (root / inside).exists():
            return {"VK_DRIVER_FILES": str(root / inside)}
    deb = folder / "deb"
    deb.mkdir(parents=True, exist_ok=True)
    os.chmod(deb, 0o777)
    subprocess.run("apt-get download chromium-common && dpkg-deb -x *.deb ..", shell=True, cwd=deb,
                   capture_output=True)
    return {"VK_DRIVER_FILES": str(folder / inside)} if (folder / inside).exists() else None

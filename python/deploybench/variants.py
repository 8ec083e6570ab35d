"""Which build of torch, the CPU one or one of the CUDA ones: for LibTorch and the virtual environments' torch alike.

Decided by the NVIDIA driver, never by a CUDA toolkit: a build brings its libraries, only the driver is the machine's.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from deploybench.errors import DeploybenchError

CUDA_BUILDS = (("cu130", (13, 0)), ("cu126", (12, 6)))
"""The builds that auto knows, newest first, each with the CUDA version that the driver must report at least."""

DRIVER_SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
"""One of these is there where the kernel has an NVIDIA driver: native, in a sandbox without that part of /proc, in WSL.
libcuda.so.1 alone is no sign: CUDA's container images bring it also to machines without a GPU."""

INDEX = "https://download.pytorch.org/whl/{variant}"
INDEX_WAIT_SECONDS = 3.0


@dataclass(frozen=True)
class Choice:
    """A build, what pip must be told to get it, and why it was chosen."""

    variant: str
    pip_arguments: tuple[str, ...]
    reason: str


def driver_cuda_version() -> tuple[int, int] | None:
    """The CUDA version (major, minor) that the NVIDIA driver supports; (0, 0): it cannot be asked; None: no driver."""
    if not any(os.path.exists(sign) for sign in DRIVER_SIGNS):
        return None
    try:
        libcuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (0, 0)
    number = ctypes.c_int(0)
    # Needs no cuInit, so no GPU is woken; the toolkit's stub answers with an error instead.
    if libcuda.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return (0, 0)
    return number.value // 1000, number.value % 1000 // 10


def index_answers(url: str) -> bool:
    """Whether pip could use this index: it answers 200 within INDEX_WAIT_SECONDS, name resolution included."""
    # urllib.request takes 60 ms to import: too much for the verbs that only print.
    import http.client
    import urllib.request

    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(url + "/torch/", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=INDEX_WAIT_SECONDS) as response:
                answers.append(response.status == HTTPStatus.OK)
        except (OSError, http.client.HTTPException):
            answers.append(False)

    # A thread, because a socket's timeout does not cover getaddrinfo, which can hang for 20 s behind a dead resolver.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(INDEX_WAIT_SECONDS)
    return bool(answers and answers[0])


def resolve_variant(
    requested: str, *, driver_cuda: Callable[[], tuple[int, int] | None] = driver_cuda_version
) -> tuple[str, str]:
    """(variant, reason) for `auto|cpu|cuNNN`, without any network."""
    if requested != "auto":
        if not re.fullmatch(r"cpu|cu\d{3}", requested):
            raise DeploybenchError(
                "usage", f"--variant {requested}: no such build; use auto, cpu, or a CUDA build such as cu130 or cu126"
            )
        return requested, "asked for"
    supported = driver_cuda()
    if supported is None:
        return "cpu", "no NVIDIA driver found"
    if supported == (0, 0):
        return "cpu", "there is an NVIDIA driver, but its libcuda.so.1 cannot be used"
    shown = f"{supported[0]}.{supported[1]}"
    for variant, needed in CUDA_BUILDS:
        if supported >= needed:
            return variant, f"the NVIDIA driver supports CUDA {shown}"
    oldest, needed = CUDA_BUILDS[-1]
    return (
        "cpu",
        f"the NVIDIA driver supports CUDA {shown}, and the oldest CUDA build, {oldest}, needs {needed[0]}.{needed[1]}",
    )


def choose_variant(
    requested: str,
    *,
    driver_cuda: Callable[[], tuple[int, int] | None] = driver_cuda_version,
    answers: Callable[[str], bool] = index_answers,
) -> Choice:
    """The build for `auto|cpu|cuNNN` and pip's arguments: PyTorch's index where it answers, else pip's own."""
    variant, reason = resolve_variant(requested, driver_cuda=driver_cuda)
    url = INDEX.format(variant=variant)
    if answers(url):
        # Extra, so that all else still comes from pip's own index; to pip, 2.13.0+cpu is newer than 2.13.0 (PEP 440).
        return Choice(variant, ("--extra-index-url", url), f"{reason}; from {url}")
    return Choice(variant, (), f"{reason}; {url} does not answer, so from where pip is configured to look")

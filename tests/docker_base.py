"""An image to build on, made of this machine's Python, so that the tests need none from a registry.

It holds the interpreter with its standard library and the shared libraries it uses, pip, and a static busybox
as its shell. That is all the Dockerfile asks of its base.
"""

import io
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

APPLETS = ("sh", "mkdir", "chown", "ls", "cat", "id", "sleep", "touch", "test", "dd", "true")
NOT_NEEDED = re.compile(
    r"/(site-packages|dist-packages|test|tests|idlelib|tkinter|ensurepip|__pycache__|config-[^/]*)(/|$)"
)
SYSTEM_LIBRARIES = (
    "libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6", "libutil.so.1", "libgcc_s.so.1",
    "libnss_files.so.2", "libnss_dns.so.2",
)  # fmt: skip
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def libraries_of(binaries: list[Path]) -> set[Path]:
    """Every shared library that these need, the loader among them."""
    done = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False)
    return {Path(found) for found in re.findall(r"(/\S+) \(0x", done.stdout)}


def base_image(busybox: Path) -> tuple[bytes, dict[str, str]]:
    """Return a tar of the file system, and the variables of the image's environment."""
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    pip = Path(find_spec("pip").origin).parent
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
        for name in ("tmp", "root"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for applet in APPLETS:
            tar.addfile(_link(f"bin/{applet}", "/bin/busybox"))
        tar.add(python, str(python))
        tar.addfile(_link("usr/local/bin/python3", str(python)))
        tar.add(library, str(library), filter=_needed)
        tar.add(pip, "opt/pip/pip")
        wheels_need = set(_system_libraries())
        own = [python, *library.glob("lib-dynload/*.so"), *wheels_need]
        for needed in sorted(libraries_of(own) | wheels_need):
            tar.add(needed.resolve(), str(needed))
    return buffer.getvalue(), {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": "/opt/pip"}


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if NOT_NEEDED.search(f"/{entry.name}") else entry


def _system_libraries() -> Iterator[Path]:
    """What every glibc has and compiled packages may ask for, and what looks names up."""
    for folder in ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64"):
        for name in SYSTEM_LIBRARIES:
            if (Path(folder) / name).exists():
                yield Path(folder) / name


def _link(name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry

"""The packages that are installed here, packed as wheels again: pip then needs no registry.

A wheel is the files that its RECORD lists, in a zip. What pip adds when it installs (programs, byte code,
notes of its own) is left out, because it adds that again.
"""

import csv
import io
import zipfile
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.tags import parse_tag, sys_tags

SUPPORTED = frozenset(sys_tags())
OF_THE_INSTALLER = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}


def needed_by(*requirements: str) -> dict[str, metadata.Distribution]:
    """Return these packages and all that they need in turn, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        one = waiting.pop()
        if one.name.lower() in found or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        package = metadata.distribution(one.name)
        found[one.name.lower()] = package
        waiting.extend(Requirement(text) for text in package.requires or ())
    return found


def pack(package: metadata.Distribution, folder: Path) -> Path:
    """Write a package's wheel into `folder`."""
    lines = (package.read_text("WHEEL") or "").splitlines()
    tags = [line.split()[1] for line in lines if line.startswith("Tag:")]
    tag = next(one for one in tags if parse_tag(one) & SUPPORTED)
    name = package.metadata["Name"].replace("-", "_").replace(".", "_").lower()
    path = folder / f"{name}-{package.version}-{tag}.whl"
    record = io.StringIO()
    with zipfile.ZipFile(path, "w") as wheel:
        for file in package.files or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            if file.parent.suffix == ".dist-info":
                dist_info = file.parent
                if file.name in OF_THE_INSTALLER:
                    continue
            wheel.write(file.locate(), str(file))
            csv.writer(record).writerow([file, "", ""])
        own = PurePosixPath(dist_info, "RECORD")
        csv.writer(record).writerow([own, "", ""])
        wheel.writestr(str(own), record.getvalue())
    return path

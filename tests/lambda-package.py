#!/usr/bin/env python3
"""A package of AWS Lambda: `bootstrap`, which may be run, and the configuration beside it, where one is given.

    lambda-package.py pack PACKAGE BINARY [CONFIG] [LEVEL]   makes it; CONFIG may be ""
    lambda-package.py unpack PACKAGE FOLDER                  as Lambda does, with the modes in it; prints what was there
"""
import os
import sys
import zipfile


def pack(package, binary, config="", level="9"):
    # The same bytes from the same build: one time for all.
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED, compresslevel=int(level)) as out:
        for path, name, mode in [(binary, "bootstrap", 0o755), (config, "loader.toml", 0o644)]:
            if path:
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                info.external_attr = (0o100000 | mode) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                info.create_system = 3
                with open(path, "rb") as file:
                    out.writestr(info, file.read())


def unpack(package, folder):
    with zipfile.ZipFile(package) as there:
        for info in there.infolist():
            mode = info.external_attr >> 16 & 0o777
            there.extract(info, folder)
            os.chmod(os.path.join(folder, info.filename), mode)
            print(f"{mode:o} {info.filename}")


{"pack": pack, "unpack": unpack}[sys.argv[1]](*sys.argv[2:])

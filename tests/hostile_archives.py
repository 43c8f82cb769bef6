"""Archives that mean harm, or are damaged, or only look so: each kind built from nothing.

A kind is built for a sandbox (`sandbox`), whose folder `outside` it may name in full. `safe` is
what a careful reader may make of it, path -> bytes: None if it has to be refused. `verdict` says
what an unpacker did. benchmarks/archives.py shows them to several, test_datasets_unpack.py to ours.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

VICTIM = b"what was here before\n"
EVIL = b"from the archive\n"
MIB = 2**20


@dataclass(frozen=True)
class Kind:
    """One kind of archive.

    Attributes:
        name: in words.
        suffix: of the file, as its maker would call it.
        build: sandbox -> its bytes.
        safe: what may come out, or None.
    """

    name: str
    suffix: str
    build: Callable[[Path], bytes]
    safe: dict[str, bytes] | None


# ------------------------------------------------------------------------------ the sandbox


def sandbox(root: Path) -> Path:
    """A folder with victims in and around `home`; returns home/target, which is not there."""
    for name in ("victim.txt", "outside/victim.txt", "home/victim.txt", "home/mine/victim.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(VICTIM)
    (root / "outside/run.sh").write_text("#!/bin/sh\n")
    (root / "outside/run.sh").chmod(0o700)
    (root / "outside/link").symlink_to("victim.txt")
    return root / "home" / "target"


def surroundings(root: Path) -> dict[str, tuple]:
    """Content and metadata of everything in the sandbox but the target and what lies in it."""
    found, target = {}, root / "home" / "target"
    for folder, folders, files in os.walk(root):
        if Path(folder) == root / "home" and "target" in folders:
            folders.remove("target")
        for path in [Path(folder), *(Path(folder, name) for name in files)]:
            if path == target:
                continue
            about = path.lstat()
            facts = [about.st_mode, about.st_uid, about.st_gid, about.st_nlink, about.st_mtime_ns]
            if stat.S_ISREG(about.st_mode):
                facts.append(path.read_bytes())
            if stat.S_ISLNK(about.st_mode):
                facts.append(os.readlink(path))
            if stat.S_ISDIR(about.st_mode):  # the target itself may come
                facts[3:5] = [0, 0] if path == root / "home" else facts[3:5]
            found[path.relative_to(root).as_posix()] = tuple(facts)
    return found


def content(target: Path) -> dict[str, bytes | str]:
    """What lies in the target: bytes of a good file, else what is wrong with it in words."""
    found: dict[str, bytes | str] = {}
    for folder, folders, files in os.walk(target):
        for path in (Path(folder, name) for name in [*folders, *files]):
            about = path.lstat()
            mode, name = about.st_mode, path.relative_to(target).as_posix()
            if stat.S_ISLNK(mode):
                found[name] = f"link to {os.readlink(path)}"
            elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                found[name] = "a device or pipe"
            elif about.st_uid != os.geteuid() or mode & 0o7022 or not mode & 0o400:
                found[name] = f"owned by {about.st_uid}, permissions {mode & 0o7777:o}"
            elif stat.S_ISREG(mode):
                found[name] = path.read_bytes() if about.st_size < 64 * MIB else "very large"
    return found


def verdict(root: Path, before: dict[str, tuple], kind: Kind, *, raised: bool) -> str:
    """refused, left half, as listed, otherwise or outside."""
    target = root / "home" / "target"
    if surroundings(root) != before:
        return "outside"
    if raised:
        return "left half" if target.exists() and any(target.iterdir()) else "refused"
    return "as listed" if content(target) == kind.safe else "otherwise"


# ------------------------------------------------------------------------------ tools


def entry(name: str, data: bytes = EVIL, **attributes) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tar archive; `attributes` of its header, true or not."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def link(name: str, to: object, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, b"", type=kind, linkname=str(to))


def folder(name: str, **attributes) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, b"", **{"type": tarfile.DIRTYPE, "mode": 0o755, **attributes})


def block(info: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    return info.tobuf(form, "utf-8", "surrogateescape")


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    body = b"".join(block(info, form) + data + bytes(-len(data) % 512) for info, data in members)
    return body + bytes(1024)


def pax(data: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A PAX header that holds `data`, well-formed or not."""
    info, _ = entry("pax", data, type=kind)
    return block(info) + data + bytes(-len(data) % 512)


def record(key: str, value: str) -> bytes:
    """One record of a PAX header: its own length, then key=value."""
    rest = f" {key}={value}\n".encode()
    size = len(rest) + 1
    while len(str(size)) + len(rest) != size:
        size += 1
    return str(size).encode() + rest


def packed(
    name: str | bytes,
    data: bytes = EVIL,
    *,
    raw: bytes | None = None,
    size: int | None = None,
    crc: int | None = None,
    method: int = 0,
    flags: int = 0x800,
    attributes: int = 0,
    local: str | None = None,
    extra: bytes = b"",
    at: int | None = None,
) -> dict:
    """A member of a zip archive, true or not; `at` lets it share the place of another."""
    spelt = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    return {
        "name": spelt,
        "local": spelt if local is None else local.encode(),
        "raw": data if raw is None else raw,
        "size": len(data) if size is None else size,
        "crc": zlib.crc32(data) if crc is None else crc,
        "method": method,
        "flags": flags,
        "attributes": attributes,
        "extra": extra,
        "at": at,
    }


def local_header(m: dict) -> bytes:
    facts = (20, m["flags"], m["method"], 0, 0x21, m["crc"], len(m["raw"]), m["size"])
    return struct.pack("<4s5H3L2H", b"PK\3\4", *facts, len(m["local"]), 0) + m["local"]


def zipped(*members: dict, body: bytes = b"") -> bytes:
    body, directory = bytearray(body), bytearray()
    for m in members:
        place = len(body) if m["at"] is None else m["at"]
        facts = (20, m["flags"], m["method"], 0, 0x21, m["crc"], len(m["raw"]), m["size"])
        if m["at"] is None:
            body += local_header(m) + m["raw"]
        tail = (len(m["name"]), len(m["extra"]), 0, 0, 0, m["attributes"], place)
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 3 << 8 | 20, *facts, *tail)
        directory += m["name"] + m["extra"]
    count = len(members)
    end = (0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory) + struct.pack("<4s4H2LH", b"PK\5\6", *end)


def zeros(mib: int) -> bytes:
    """So many MiB of zeros as a raw deflate stream, quickly: one block again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return one * mib + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def bomb(compress: Callable[[bytes], bytes], head: bytes, mib: int) -> bytes:
    """`head` and so many MiB of zeros, in members of the compressed format one after the other."""
    return compress(head) + compress(bytes(16 * MIB)) * (mib // 16) + compress(bytes(1024))


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def stored_gzip(data: bytes) -> bytes:
    return gzip.compress(data, 0)


def wrong_gzip(data: bytes) -> bytes:
    whole = gzip.compress(data)
    return whole[:-8] + b"oops" + whole[-4:]


# ------------------------------------------------------------------------------ some of the kinds


def path_max(root: Path) -> bytes:
    """A link so long that the `data` filter of Python before 3.11.13 resolved it wrongly.

    Source: CVE-2025-4517.
    """
    members, path, deep = [], "", "d" * 247
    for step in "abcdefghijklmnop":
        members += [folder(f"{path}{deep}"), link(f"{path}{step}", deep)]
        path += f"{deep}/"
    far = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    members += [
        link(far, "../" * 16),
        link("escape", f"{far}/../../outside"),
        link("hard", "escape/victim.txt", tarfile.LNKTYPE),
        entry("hard"),
    ]
    return tar(*members)


def zip_overlap(root: Path, count: int = 500) -> bytes:
    """Members that share one stream: each quotes the header of the next, then goes on with it.

    Source: Fifield, A better zip bomb, WOOT 2019.
    """
    raw, plain, members = zeros(1), bytes(MIB), []
    for k in reversed(range(count)):
        m = packed(f"{k:03}.bin", plain, raw=raw, method=8)
        head = local_header(m)
        members.append(m | {"at": k * (5 + len(head))})
        raw = b"\0" + struct.pack("<HH", len(head), 0xFFFF ^ len(head)) + head + raw
        plain = head + plain
    body = raw[5:]
    return zipped(*reversed(members), body=body)


def zip_quoted(root: Path) -> bytes:
    """The second member lies in what the first, a stored one, holds."""
    inner = struct.pack(
        "<4s5H3L2H", b"PK\3\4", 20, 0x800, 0, 0, 0x21, zlib.crc32(EVIL), len(EVIL), len(EVIL), 1, 0
    )
    quoted = inner + b"b" + EVIL
    return zipped(packed("a", quoted), packed("b", at=30 + 1))


def sparse(root: Path, *, logical: int = 4096, offset: int = 1024) -> bytes:
    """An old GNU sparse file: 512 bytes at `offset` of a file of `logical` bytes."""
    head = bytearray(block(entry("s.bin", bytes(512), type=tarfile.GNUTYPE_SPARSE)[0]))
    head[386:410] = tarfile.itn(offset, 12, tarfile.GNU_FORMAT) + tarfile.itn(
        512, 12, tarfile.GNU_FORMAT
    )
    head[483:495] = tarfile.itn(logical, 12, tarfile.GNU_FORMAT)
    return checked(head) + b"x" * 512 + bytes(1024)


def checked(head: bytearray) -> bytes:
    head[148:156] = b"%06o\0 " % tarfile.calc_chksums(head)[0]
    return bytes(head)


def endless_map(root: Path) -> bytes:
    """A sparse file whose map goes on and on: 2 GiB of blocks that each announce another."""
    head = bytearray(block(entry("s.bin", bytes(512), type=tarfile.GNUTYPE_SPARSE)[0]))
    head[482] = 1
    head[483:495] = tarfile.itn(4096, 12, tarfile.GNU_FORMAT)
    number = tarfile.itn(0, 12, tarfile.GNU_FORMAT)
    more = number * 42 + b"\1" + bytes(7)
    return gzip.compress(checked(head)) + gzip.compress(more * 32768) * 128


def endless_pax_map(root: Path) -> bytes:
    """The same as a PAX header has it: numbers in lines before the data."""
    fields = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")
    fields += record("GNU.sparse.realsize", "4096")
    head = pax(fields) + block(entry("s.bin", size=2**40)[0])
    return gzip.compress(head + b"999999999\n") + gzip.compress(b"0\n" * 8 * MIB) * 128


def unseen_data(root: Path) -> bytes:
    """A sparse file of 4096 bytes that stores 4 GiB, of which its map shows 512."""
    head = bytearray(block(entry("s.bin", size=4096 * MIB, type=tarfile.GNUTYPE_SPARSE)[0]))
    head[386:410] = tarfile.itn(0, 12, tarfile.GNU_FORMAT) + tarfile.itn(
        512, 12, tarfile.GNU_FORMAT
    )
    head[483:495] = tarfile.itn(4096, 12, tarfile.GNU_FORMAT)
    return bomb(gzip.compress, checked(head), 4096)


def many_fields(root: Path) -> bytes:
    """PAX fields for all, ever more of them: every member gets a copy of its own."""
    body = b""
    for k in range(300):
        fields = b"".join(record(f"k{k}.{i}", "v") for i in range(250))
        body += pax(fields, b"g") + block(entry(f"{k}.txt", b"")[0])
    x = pax(record("comment", "x"))
    more = b"".join(x + block(entry(f"x{k}.txt", b"")[0]) for k in range(3000))
    return gzip.compress(body + more + bytes(1024))


def nul_in_pax(root: Path) -> bytes:
    return pax(record("path", "a.txt\0.png")) + tar(entry("a.txt"))


def damaged_header(root: Path) -> bytes:
    whole = tar(entry("a.txt"), entry("b.txt"))
    return flipped(whole, 1024 + 10)


def header_bomb(kind: bytes) -> Callable[[Path], bytes]:
    def build(root: Path) -> bytes:
        head = block(entry("h", type=kind, size=2048 * MIB)[0])
        return bomb(gzip.compress, head, 2048)

    return build


def one_big(root: Path) -> bytes:
    return block(entry("big.bin", size=1536 * MIB)[0])


def folders_again(root: Path) -> bytes:
    """The same folder three hundred thousand times."""
    heads = block(folder("d")[0]) * 4096
    return gzip.compress(heads) * 75 + gzip.compress(bytes(1024))


def large_dictionary(root: Path) -> bytes:
    data = bytearray(lzma.compress(tar(entry("a.txt")), lzma.FORMAT_ALONE))
    data[1:5] = b"\xff" * 4
    return bytes(data)


def ordinary_zip(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


HIDDEN = (
    ".bashrc .git/hooks/post-checkout __MACOSX/._a.png .DS_Store x.pth setup.py sitecustomize.py "
    "desktop.ini autorun.inf .htaccess -rf ~ $HOME %TEMP% `id`"
).split()
NAMES = {  # harmless on this system, another thing on others
    "a Windows drive": "C:evil.txt",
    "a Windows drive and a path": "C:\\evil.txt",
    "a share": "\\\\server\\share\\evil.txt",
    "backslashes upwards": "..\\..\\victim.txt",
    "a device of Windows": "CON",
    "a device with an ending": "images/nul.txt",
    "a device with a superscript": "COM¹.log",
    "a dot at the end": "victim.txt.",
    "a space at the end": "folder /a.txt",
    "another stream": "a.txt:hidden",
    "wildcards": "*?.txt",
    "a line break": "a\nb.txt",
    "a terminal's command": "\x1b]0;owned\x07.txt",
    "a turned direction": "scan\u202egnp.exe",
    "an invisible character": "a\u200db.txt",
    "33 folders": "d/" * 33 + "a.txt",
    "500 folders": "d/" * 500 + "a.txt",
}
TWINS = {  # two names, one file on some systems
    "capital letters": ("Scan.txt", "scan.TXT"),
    "capital letters of a folder": ("Data/a.txt", "data/b.txt"),
    "ü written in two ways": ("m\u00fcller.txt", "mu\u0308ller.txt"),
    "ß and ss": ("gro\u00df.txt", "gross.txt"),
    "the Kelvin sign": ("\u212a.txt", "k.txt"),
}


def _kinds():
    def of(suffix, name, build, safe=None):
        return Kind(f"{suffix[1:]}: {name}", suffix, build, safe)

    def t(name, *members, safe=None, form=tarfile.PAX_FORMAT):
        return of(".tar", name, lambda root: tar(*members, form=form), safe)

    def z(name, *members, safe=None):
        return of(".zip", name, lambda root: zipped(*members), safe)

    def bits(mode):
        return mode << 16

    one = {"a.txt": EVIL}
    # Out of the folder
    yield of(".tar", "absolute path", lambda root: tar(entry(f"{root}/outside/victim.txt")))
    yield of(".zip", "absolute path", lambda root: zipped(packed(f"{root}/outside/victim.txt")))
    yield t("upwards", entry("../victim.txt"))
    yield z("upwards", packed("../victim.txt"))
    yield t("down, then upwards", folder("a"), entry("a/../../victim.txt"))
    yield z("down, then upwards", packed("a/../../victim.txt"))
    yield t("down and up again", folder("a"), entry("a/../b.txt"), safe={"b.txt": EVIL})
    yield z("down and up again", packed("a/../b.txt"), safe={"b.txt": EVIL})
    yield t("folder upwards", folder("../new"))
    yield z("folder upwards", packed("../new/", b""))
    for name, spelt in NAMES.items():
        yield t(name, entry(spelt), safe={spelt: EVIL})
        yield z(name, packed(spelt), safe={spelt: EVIL})
    # Links
    yield of(".tar", "link to a full path", lambda root: tar(link("l", f"{root}/outside")))
    yield t("link upwards", link("l", "../mine"))
    yield of(
        ".tar",
        "link, then a file through it",
        lambda root: tar(link("l", f"{root}/outside"), entry("l/victim.txt")),
    )
    yield t("relative link, then a file through it", link("l", "../mine"), entry("l/victim.txt"))
    yield t("chain of links", link("a", "."), link("a/b", ".."), entry("b/victim.txt"))
    yield t(
        "links that shorten each other",
        *(folder("x"), folder("x/y"), link("x/y/l", "../.."), link("m", "x/y/l/..")),
        entry("m/victim.txt"),
    )
    yield of(".tar", "link longer than PATH_MAX (CVE-2025-4517)", path_max)
    yield t("link inside", entry("a.txt"), link("l", "a.txt"), safe=one | {"l": "link to a.txt"})
    yield t("link to itself", link("l", "l"))
    yield t("link, then its name as a file", link("l", "../victim.txt"), entry("l"))
    yield of(
        ".tar",
        "hard link to a full path",
        lambda root: tar(link("h", f"{root}/outside/victim.txt", tarfile.LNKTYPE), entry("h")),
    )
    yield t("hard link upwards", link("h", "../victim.txt", tarfile.LNKTYPE), entry("h"))
    yield of(
        ".tar",
        "hard link to a link outwards",
        lambda root: tar(
            link("l", f"{root}/outside/victim.txt"), link("h", "l", tarfile.LNKTYPE), entry("h")
        ),
    )
    yield t(
        "hard link inside",
        entry("a.txt"),
        link("b.txt", "a.txt", tarfile.LNKTYPE),
        safe=one | {"b.txt": EVIL},
    )
    yield z("link", packed("l", b"../mine", attributes=bits(stat.S_IFLNK | 0o777)))
    yield z(
        "link, then a file through it",
        packed("l", b"../mine", attributes=bits(stat.S_IFLNK | 0o777)),
        packed("l/victim.txt"),
    )
    # What is no file
    yield t("pipe", entry("p", b"", type=tarfile.FIFOTYPE))
    yield t("terminal", entry("c", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3))
    yield t("disk", entry("b", b"", type=tarfile.BLKTYPE, devmajor=7, devminor=0))
    yield z("pipe", packed("p", b"", attributes=bits(stat.S_IFIFO | 0o644)))
    yield z("folder under a file's name", packed("d", attributes=bits(stat.S_IFDIR | 0o755)))
    yield t("unknown type", entry("a.txt", type=b"Z"), safe=one)
    yield t("continuation of another volume", entry("a.txt", type=b"M"))
    # Permissions, owners, times
    for mode in (0o4755, 0o2755, 0o000, 0o777):
        yield t(f"permissions {mode:04o}", entry("a.txt", mode=mode), safe=one)
    yield t("closed folder", folder("d", mode=0), entry("d/a.txt"), safe={"d/a.txt": EVIL})
    yield z("permissions 4777", packed("a.txt", attributes=bits(stat.S_IFREG | 0o4777)), safe=one)
    yield t("another owner", entry("a.txt", uid=1234, gid=1234, uname="nobody"), safe=one)
    yield t("before 1970", entry("a.txt", mtime=-(2**33)), safe=one)
    yield t("no time", entry("a.txt", pax_headers={"mtime": "nan"}), safe=one)
    yield t("end of time", entry("a.txt", pax_headers={"mtime": "1e300"}), safe=one)
    # Names
    yield z("NUL in a name", packed("a.txt\0.png"))
    yield of(".tar", "NUL in a name", nul_in_pax)
    yield t("no name", entry(""))
    yield z("no name", packed(""))
    yield t("the folder as a file", entry("."))
    yield t("name of 300 bytes", entry("n" * 300))
    yield z("name of 300 bytes", packed("n" * 300))
    yield t("path of 5,000 bytes", entry("/".join(["n" * 200] * 25)))
    yield t("name that is no UTF-8", entry("m\udcfcller.txt"), safe={"m\udcfcller.txt": EVIL})
    yield z("name by Unicode path field", packed("a.txt", extra=unicode_path(b"a.txt")), safe=one)
    yield t("long name (GNU)", entry("n" * 150), form=tarfile.GNU_FORMAT, safe={"n" * 150: EVIL})
    yield z("hidden files and programs", *map(packed, HIDDEN), safe=dict.fromkeys(HIDDEN, EVIL))
    yield t("hidden files and programs", *map(entry, HIDDEN), safe=dict.fromkeys(HIDDEN, EVIL))
    # Two of one name
    yield t("a name twice", entry("a.txt", b"1"), entry("a.txt", b"2"))
    yield z("a name twice", packed("a.txt", b"1"), packed("a.txt", b"2"))
    yield t("./ and without", entry("a.txt", b"1"), entry("./a.txt", b"2"))
    yield z("// and /", packed("d/a.txt", b"1"), packed("d//a.txt", b"2"))
    yield t("file, then folder", entry("a"), entry("a/b.txt"))
    yield t("folder, then file", folder("a"), entry("a"))
    yield z("file, then folder", packed("a"), packed("a/b.txt"))
    yield z("in a folder, then its name", packed("a/b.txt"), packed("a"))
    for name, (first, second) in TWINS.items():
        both = {first: b"1", second: b"2"}
        yield t(name, entry(first, b"1"), entry(second, b"2"), safe=both)
        yield z(name, packed(first, b"1"), packed(second, b"2"), safe=both)
    # Headers that contradict
    yield t("PAX path upwards", entry("a.txt", pax_headers={"path": "../victim.txt"}))
    yield of(
        ".tar",
        "PAX path for all upwards",
        lambda root: pax(record("path", "../victim.txt"), b"g") + tar(entry("a.txt")),
    )
    yield of(
        ".tar",
        "PAX size",
        lambda root: pax(record("size", str(len(EVIL)))) + tar(entry("a.txt", size=0)),
        one,
    )
    yield t("negative PAX size (CVE-2025-8194)", entry("a.txt", b"", size=-512))
    yield t("negative size", entry("a.txt", b"", size=-1024), form=tarfile.GNU_FORMAT)
    yield of(
        ".tar",
        "negative size of a long name",
        lambda root: block(entry("l", type=b"L", size=-512)[0]) + tar(entry("a.txt")),
    )
    yield of(".tar", "2,000 PAX headers", lambda r: pax(record("a", "b")) * 2000 + tar(entry("a")))
    yield of(
        ".tar",
        "PAX header of digits (CVE-2024-6232)",
        lambda root: pax(b"1" * 150_000) * 3 + tar(entry("a")),
    )
    yield z("other name in the local header", packed("a.txt", local="b.txt"))
    yield z(
        "size too small",
        packed("a.txt", size=4, crc=zlib.crc32(EVIL[:4])),
        safe={"a.txt": EVIL[:4]},
    )
    yield z("size too large", packed("a.txt", size=99))
    yield z("wrong checksum", packed("a.txt", crc=1))
    yield z("encrypted", packed("a.txt", flags=0x801, data=bytes(12) + EVIL))
    yield z("unknown compression", packed("a.txt", method=97))
    yield z("offset behind the end", packed("a.txt"), packed("b.txt", at=10**6))
    yield of(".zip", "one member in another", zip_quoted)
    # Sizes
    yield of(".zip", "500 names for one stream", zip_overlap)
    yield z("1.5 GiB of zeros", packed("z", raw=zeros(1536), size=1536 * MIB, method=8, crc=0))
    yield z(
        "1.5 GiB said to be 10 bytes",
        packed("z", raw=zeros(1536), size=10, method=8, crc=zlib.crc32(bytes(10))),
        safe={"z": bytes(10)},
    )
    for suffix, compress in (
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
    ):
        yield of(
            f".tar{suffix}",
            "1.5 GiB of zeros",
            lambda root, compress=compress: bomb(compress, one_big(root), 1536),
        )
    yield of(".tar.gz", "PAX header of 2 GiB", header_bomb(tarfile.XHDTYPE))
    yield of(".tar.gz", "name of 2 GiB", header_bomb(tarfile.GNUTYPE_LONGNAME))
    yield of(".tar.gz", "PAX header for all of 2 GiB", header_bomb(tarfile.XGLTYPE))
    yield of(".tar.gz", "a folder 300,000 times", folders_again, {})
    yield of(".tar.gz", "map of a sparse file without end", endless_map)
    yield of(".tar.gz", "PAX map of a sparse file without end", endless_pax_map)
    unseen = {"s.bin": bytes(4096)}
    yield of(".tar.gz", "sparse file with 4 GiB behind its map", unseen_data, unseen)
    yield of(
        ".tar.gz",
        "75,000 PAX fields for all",
        many_fields,
        {f"{k}.txt": b"" for k in range(300)} | {f"x{k}.txt": b"" for k in range(3000)},
    )
    yield of(".tar", "sparse file", sparse, {"s.bin": bytes(1024) + b"x" * 512 + bytes(2560)})
    yield of(".tar", "sparse file of 8 TiB", lambda root: sparse(root, logical=2**43))
    yield of(
        ".tar",
        "sparse file, data behind its end",
        lambda root: sparse(root, offset=8192),
        {"s.bin": bytes(4096)},
    )
    yield of(".tar.xz", "dictionary of 4 GiB", large_dictionary, one)
    inner = ordinary_zip({"b.bin": bytes(MIB)})
    yield z("archive in an archive", packed("inner.zip", inner), safe={"inner.zip": inner})
    yield t("ends in a zip", entry("inner.zip", inner), safe={"inner.zip": inner})
    # Damage
    two = {"a.txt": EVIL, "b.txt": EVIL}
    whole = tar(entry("a.txt"), entry("b.txt"))
    yield of(".tar", "cut in a file", lambda root: whole[:520])
    yield of(".tar", "cut between files", lambda root: whole[:1024])
    yield of(".tar", "cut in a header", lambda root: whole[:1200])
    yield of(".tar", "damaged header", damaged_header)
    yield of(".tar", "two, one behind the other", lambda root: tar(entry("a.txt")) + whole)
    yield of(".tar", "something behind it", lambda root: whole + b"PK" * 512, two)
    yield of(".tar.gz", "cut", lambda root: gzip.compress(whole)[:-20])
    yield of(".tar.gz", "changed byte", lambda root: flipped(stored_gzip(whole), 512 + 20))
    yield of(".tar.gz", "wrong checksum", lambda root: wrong_gzip(whole), two)
    yield of(".tar.gz", "something behind it", lambda root: gzip.compress(whole) + b"PK" * 99, two)
    yield of(".tar.gz", "no archive in it", lambda root: gzip.compress(EVIL * 99))
    files = ordinary_zip(two)
    yield of(".zip", "cut", lambda root: files[:-30])
    yield of(".zip", "something before it", lambda root: b"#!/bin/sh\n" + files, two)
    yield of(".zip", "something behind it", lambda root: files + b"PK" * 99, two)
    yield of(".zip", "two, one behind the other", lambda root: zipped(packed("c.txt")) + files, two)
    yield of(".zip", "no archive", lambda root: EVIL * 99)
    yield of(".tar", "no archive", lambda root: EVIL * 99)
    yield of(".tar", "empty file", lambda root: b"")
    yield of(".tar", "a zip called tar", lambda root: files, two)
    yield of(".zip", "a tar called zip", lambda root: whole, two)


def unicode_path(name: bytes) -> bytes:
    """The field 0x7075 of a zip archive: for a name `name`, read ../victim.txt instead."""
    data = b"\1" + struct.pack("<L", zlib.crc32(name)) + b"../victim.txt"
    return struct.pack("<HH", 0x7075, len(data)) + data


KINDS = list(_kinds())

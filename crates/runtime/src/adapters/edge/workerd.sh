# Serves the worker $1 on loopback, asks it for $2 once, and prints what it answers. The exit code is 0 for a
# status below 400, 22 above, and that of workerd when it does not get that far.
dir=$(mktemp -d) port=8787
cp -- "$1" "$dir/worker.mjs"
cat >"$dir/config.capnp" <<CONFIG
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [ (name = "main", worker = .worker) ],
  sockets = [ (name = "http", address = "127.0.0.1:$port", http = (), service = "main") ]
);
const worker :Workerd.Worker = (
  modules = [ (name = "worker.mjs", esModule = embed "worker.mjs") ],
  compatibilityDate = "2026-01-01"
);
CONFIG
/opt/workerd/bin/workerd serve "$dir/config.capnp" &
server=$!
tries=0
until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do
  if ! kill -0 $server 2>/dev/null; then wait $server; exit; fi
  tries=$((tries + 1))
  if [ $tries -ge 500 ]; then echo "soulbox: workerd does not listen" >&2; kill $server; exit 70; fi
  sleep 0.02
done
curl --silent --show-error --noproxy '*' --max-time 60 --fail-with-body "http://127.0.0.1:$port$2"
code=$?
kill $server
wait $server 2>/dev/null
exit $code

using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [ (name = "main", worker = .worker) ],
  sockets = [ (name = "http", address = "*:8000", http = (), service = "main") ]
);

const worker :Workerd.Worker = (
  modules = [ (name = "worker.mjs", esModule = embed "worker.mjs") ],
  bindings = [ (name = "GREETING", text = "hello from a worker") ],
  compatibilityDate = "2026-01-01"
);

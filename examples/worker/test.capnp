using Workerd = import "/workerd/workerd.capnp";
using Served = import "config.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = Served.worker),
    (name = "test", worker = .test)
  ]
);

const test :Workerd.Worker = (
  modules = [ (name = "test.mjs", esModule = embed "worker.test.mjs") ],
  bindings = [ (name = "WORKER", service = "main") ],
  compatibilityDate = "2026-01-01"
);

//! For the fuzz targets and tests.

/// The smallest file that is right.
pub const SMALL: &str = "\
[project]
name = \"small\"
version = \"0.1.0\"
[template]
name = \"small\"
base_image = \"base\"
[commands]
start = [\"true\"]
";

/// A file with every key.
pub const FULL: &str = r#"# A comment that stays.
[project]
name = "shop"
version = "1.2.3-rc.1+build.5"
description = "Sells things"

[template]
name = "shop"
base_image = "python:3.11-slim"
python_version = "3.12"
nodejs_version = "22.1.0"
build_args = { MODE = "release", LEVEL = "3" }

[commands]
start = ["python3", "-m", "shop"] # not a shell line
ready = ["curl", "-sf", "http://localhost:8080/"]
test = ["pytest", "-q"]

[resources]
cpu = "500m"
memory = "1GiB"
disk = "2GB"
timeout = "1h"

[environment]
MODE = "fast"
PRICE = "5$$"
API_KEY = "$API_KEY"
DATABASE = "postgres://shop:${DB_PASS}@db/shop"

[network]
ports = [8080, 9090]
allow_internet = false
domains = ["shop.example.com"]
allow_out = ["*.example.com", "192.0.2.0/24"]
deny_out = ["0.0.0.0/0"]

[network.requests]
allow = ["GET,HEAD api.example.com/v1/*", "POST api.example.com/v1/items"]
per_minute = { "*.example.com" = 600 }
bytes = { "*" = { sent = "1MB" }, "192.0.2.1" = { sent = "4KiB", received = "1GB" } }
udp = ["192.0.2.1:123", "[2001:db8::/32]:443"]

[security]
allow_docker = true
allow_sudo = true
read_only = true
"#;

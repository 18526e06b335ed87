"""`soulbox init`, `config` and `runtime`: what is said about a project before it runs. No server takes part."""

import json
import os
import re
import signal
import subprocess
import threading

import pytest

from harness import program

SMALL = """\
# A comment that stays.
[project]
name = "small" # and one more
version = "0.1.0"

[template]
name = "small"
base_image = "base"

[commands]
start = ["true"]
"""


@pytest.fixture
def project(tmp_path):
    directory = tmp_path / "My App"
    directory.mkdir()
    (directory / "soulbox.toml").write_text(SMALL)
    return directory


def config(soulbox, command, project, *arguments, **options):
    return soulbox("config", command, "-C", str(project), *arguments, **options)


def test_init_says_why_and_what_it_writes_is_right(soulbox, tmp_path):
    directory = tmp_path / "My App"
    directory.mkdir()
    (directory / "app.py").write_text("print('x')\n")
    made = soulbox("init", str(directory))
    assert made.stdout.strip() == str(directory / "soulbox.toml")
    assert "Python: app.py" in made.stderr
    text = (directory / "soulbox.toml").read_text()
    assert 'name = "my-app"' in text and 'start = ["python3", "app.py"]' in text
    config(soulbox, "check", directory)


def test_init_says_what_is_left_to_do(soulbox, tmp_path):
    for name, file in [("api", "requirements.txt"), ("web", "package.json")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    (tmp_path / "package.json").write_text('{"workspaces": ["web"]}')
    made = soulbox("init", str(tmp_path))
    assert "api (Python)" in made.stderr and "web (Node)" in made.stderr and "soulbox run" in made.stderr
    (tmp_path / "web/package.json").write_text("{")
    told = json.loads(soulbox("init", str(tmp_path / "web"), "--json").stdout)
    assert "package.json" in told["remarks"][0]


def test_init_starts_a_framework_as_it_is_meant_to_be(soulbox, tmp_path):
    (tmp_path / "requirements.txt").write_text("fastapi\nuvicorn\npytest\n")
    (tmp_path / "main.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    soulbox("init", str(tmp_path))
    shown = json.loads(config(soulbox, "show", tmp_path, "--json").stdout)
    assert "main:app" in shown["commands"]["start"] and shown["network"]["ports"] == [8000]
    assert shown["commands"]["ready"][-1] == "http://localhost:8000/"
    assert shown["environment"]["PYTHONUNBUFFERED"] == "1"


def test_init_writes_over_nothing_unless_told(soulbox, project):
    refused = soulbox("init", str(project), code=2)
    assert "is there already" in refused.stderr and "--force" in refused.stderr
    assert (project / "soulbox.toml").read_text() == SMALL
    made = json.loads(soulbox("init", str(project), "--force", "--runtime", "deno", "--name", "x", "--json").stdout)
    assert (made["name"], made["base_image"], made["start"][0]) == ("x", "deno", "deno")
    assert [entry.name for entry in project.iterdir()] == ["soulbox.toml"]
    config(soulbox, "check", project)


def test_init_does_not_write_through_a_link(soulbox, tmp_path):
    outside = tmp_path / "outside.toml"
    outside.write_text("keep")
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "soulbox.toml").symlink_to(outside)
    soulbox("init", str(directory), code=2)
    soulbox("init", str(directory), "--force", code=2)
    assert outside.read_text() == "keep"


@pytest.mark.parametrize("runtime", ["bun", "deno", "node", "python", "browser", "vercel-edge", "deno-deploy"])
def test_init_is_right_for_every_runtime(soulbox, tmp_path, runtime):
    soulbox("init", str(tmp_path), "--runtime", runtime)
    config(soulbox, "check", tmp_path)


def test_check_tells_all_problems_at_once(soulbox, project):
    text = SMALL.replace('"small" #', '"Small" #').replace('["true"]', '"true"') + "\n[resources]\nmemroy = 1\n"
    (project / "soulbox.toml").write_text(text)
    refused = config(soulbox, "check", project, code=2)
    for said in ["soulbox.toml:3:9", "^", "did you mean `\"small\"`?", 'did you mean `["true"]`?', "did you mean `memory`?"]:
        assert said in refused.stderr, said
    told = json.loads(config(soulbox, "check", project, "--json", code=2).stdout)
    assert not told["valid"]
    assert [(p["kind"], p["line"], p["column"]) for p in told["problems"]] == [
        ("wrong-value", 3, 9),
        ("wrong-type", 11, 9),
        ("unknown-key", 14, 1),
    ]
    # Other commands refuse the same file with the same problems.
    error = json.loads(config(soulbox, "show", project, "--json", code=2).stderr)["error"]
    assert error["code"] == "SB-CONFIG" and error["problems"] == told["problems"]


def test_a_project_that_is_not_there(soulbox, tmp_path):
    missing = config(soulbox, "check", tmp_path, code=3)
    assert "soulbox init" in missing.stderr
    config(soulbox, "check", tmp_path / "none", code=3)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * 300_000], ids=["not-utf-8", "too-long"])
def test_what_is_no_project_file(soulbox, tmp_path, content):
    (tmp_path / "soulbox.toml").write_bytes(content)
    assert "SB-CONFIG" in config(soulbox, "check", tmp_path, code=2).stderr


def test_links_out_of_the_project_are_errors(soulbox, project, tmp_path):
    (project / "run").symlink_to("/bin/true")
    (project / "soulbox.toml").write_text(SMALL.replace('"true"', '"./run"'))
    assert "leaves the project" in config(soulbox, "check", project, code=2).stderr
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(SMALL)
    (project / "soulbox.toml").unlink()
    (project / "soulbox.toml").symlink_to(elsewhere)
    assert "link out of the project" in config(soulbox, "check", project, code=2).stderr


def test_overrides_in_their_order(soulbox, project):
    def memory(*arguments):
        return json.loads(config(soulbox, "show", project, *arguments, "--json").stdout)["resources"]["memory_bytes"]

    soulbox.environment["SOULBOX_RESOURCES_MEMORY"] = "1GB"
    try:
        assert memory() == 1_000_000_000
        assert memory("--set", "resources.memory=2GiB") == 2 << 30
        soulbox.environment["SOULBOX_RESOURCES_MEMROY"] = "1GB"
        assert "SOULBOX_RESOURCES_MEMORY" in config(soulbox, "show", project, code=2).stderr
    finally:
        soulbox.environment.pop("SOULBOX_RESOURCES_MEMORY", None)
        soulbox.environment.pop("SOULBOX_RESOURCES_MEMROY", None)
    assert memory() == 512_000_000
    assert "resources.memory" in config(soulbox, "show", project, "--set", "memory=1GB", code=2).stderr


def test_secrets_are_names(soulbox, project):
    (project / "soulbox.toml").write_text(SMALL + '\n[environment]\nKEY = "$API_KEY"\nPRICE = "5$$"\n')
    shown = json.loads(config(soulbox, "show", project, "--json").stdout)
    assert shown["secrets"] == ["api_key"]
    assert shown["environment"] == {"KEY": "${api_key}", "PRICE": "5$$"}
    assert "api_key" in config(soulbox, "check", project).stderr


def test_show_prints_a_file_that_is_the_same_project(soulbox, project):
    shown = config(soulbox, "show", project, "--set", "network.ports=80").stdout
    before = config(soulbox, "show", project, "--set", "network.ports=80", "--json").stdout
    (project / "soulbox.toml").write_text(shown)
    assert config(soulbox, "show", project, "--json").stdout == before


def test_set_leaves_comments_alone_and_writes_nothing_wrong(soulbox, project):
    config(soulbox, "set", project, "resources.memory=1GB", "project.version=2.0.0")
    text = (project / "soulbox.toml").read_text()
    expected = SMALL.replace("0.1.0", "2.0.0") + '\n[resources]\nmemory = "1GB"\n'
    assert text == expected
    config(soulbox, "set", project, "resources.memory=1", code=2)
    assert (project / "soulbox.toml").read_text() == text


def test_set_leaves_to_a_file_whose_it_is(soulbox, project):
    file = project / "soulbox.toml"
    for mode in (0o600, 0o664):
        file.chmod(mode)
        os.chown(file, 65534, 65534)
        config(soulbox, "set", project, "resources.memory=1GB")
        after = file.stat()
        assert (after.st_mode & 0o7777, after.st_uid, after.st_gid) == (mode, 65534, 65534)


def test_set_changes_what_check_takes(soulbox, project):
    file = project / "soulbox.toml"
    table = '[template]\nname = "small"\nbase_image = "base"\n'
    assert table in SMALL
    file.write_text('template = { name = "small", base_image = "base", build_args = { X = "0" } }\n' + SMALL.replace(table, ""))
    config(soulbox, "check", project)
    config(soulbox, "set", project, "template.build_args.X=1", "template.build_args.Y=2")
    assert json.loads(config(soulbox, "show", project, "--json").stdout)["template"]["build_args"] == {"X": "1", "Y": "2"}
    assert file.read_text().startswith("template = {")


def test_ports_are_numbers_however_they_are_written(soulbox, project):
    (project / "soulbox.toml").write_text(SMALL + "\n[network]\nports = [0x50, 0o121, 0b1010010, 8_0_80, +84]\n")
    shown = json.loads(config(soulbox, "show", project, "--json").stdout)
    assert shown["network"]["ports"] == [80, 81, 82, 8080, 84]
    (project / "soulbox.toml").write_text(SMALL + "\n[network]\nports = [80, 0x50, 0x10000]\n")
    refused = config(soulbox, "check", project, code=2).stderr
    assert "has this twice" in refused and "no port" in refused


def fits(schema, value):
    """As much of JSON Schema as ours uses."""
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    if not isinstance(value, kinds[schema["type"]]) or (schema["type"] == "integer" and isinstance(value, bool)):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        names = schema.get("propertyNames", {}).get("pattern", "")
        extra = schema["additionalProperties"]
        return all(name in value for name in schema.get("required", [])) and all(
            fits(known[name], item) if name in known else bool(extra) and bool(re.search(names, name)) and fits(extra, item)
            for name, item in value.items()
        )
    if isinstance(value, list):
        unique = not schema.get("uniqueItems") or len({json.dumps(item) for item in value}) == len(value)
        return unique and len(value) >= schema.get("minItems", 0) and all(fits(schema["items"], item) for item in value)
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return schema["minimum"] <= value <= schema["maximum"]
    return bool(re.search(schema.get("pattern", ""), value)) and len(value) >= schema.get("minLength", 0)


CASES = [
    ("project.name", ["a", "my-app", "a" * 63], ["", "A", "-a", "a_b", "a" * 64, 1]),
    ("project.version", ["1.2.3", "0.0.1-rc.1+b.2"], ["1.0", "v1.0.0", "01.0.0", 1]),
    ("template.base_image", ["base", "python:3.11-slim", "ghcr.io/a/b@sha256:" + "0a" * 32], ["", "a b", True]),
    ("template.python_version", ["3", "3.12", "3.12.4"], ["", ">=3", "3.x", "1.2.3.4"]),
    ("commands.start", [["a"], ["a", "b c"]], ["a", [], [1]]),
    ("resources.cpu", ["1.0", "500m", "2", "10m", "0.01", "0.125"], ["", "-1", "1 core", "1.", "0", "0.0", "9m", "0.009"]),
    ("resources.memory", ["512MB", "1.5GiB", "128MB"], ["512", "512 MB", "512mb", "1Gi", 512]),
    ("resources.timeout", ["1s", "5m", "24h", "1d", "1440m", "86400s", "0300s"], ["5", "5min", "500ms", "1.5h", "0s", "25h", "2d", "1441m", "86401s"]),
    ("network.ports", [[], [80, 81]], [[0], [65536], ["80"], [80, 80], 80]),
    ("network.domains", [[]], [["a.example"] * 2, "a.example", [1]]),
    ("network.allow_internet", [True, False], ["true", 1]),
    ("security.read_only", [True], ["yes"]),
    ("environment", [{"A": "$KEY ${K-1} $$ ${placeholder:K-1}"}], [{"A": "5$"}, {"1": "a"}, {"A": 1}, {"A": "${"}, {"A": "${placeholder:}"}, {"A": "${other:key}"}]),
]


@pytest.mark.parametrize("field,good,bad", CASES, ids=[case[0] for case in CASES])
def test_the_schema_says_what_the_parser_says(soulbox, project, field, good, bad):
    schema = json.loads(soulbox("config", "schema").stdout)
    for value, right in [*((value, True) for value in good), *((value, False) for value in bad)]:
        whole = {
            "project": {"name": "a", "version": "1.0.0"},
            "template": {"name": "a", "base_image": "base"},
            "commands": {"start": ["a"]},
        }
        table, _, key = field.partition(".")
        whole[table] = {**whole.get(table, {}), key: value} if key else value
        text = "".join(
            f"[{name}]\n" + "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in keys.items())
            for name, keys in whole.items()
        )
        (project / "soulbox.toml").write_text(text)
        done = config(soulbox, "check", project, code=None)
        assert (done.returncode == 0, fits(schema, whole)) == (right, right), (value, done.stderr)


def test_detect_says_which_and_why(soulbox, tmp_path):
    assert soulbox("runtime", "detect", str(tmp_path), code=3).stdout.startswith("none")
    (tmp_path / "package.json").write_text('{"dependencies": {"bun": "1"}, "engines": {"node": ">=20"}}')
    found = json.loads(soulbox("runtime", "detect", str(tmp_path), "--json").stdout)
    assert (found["runtime"], found["version"]) == ("node", ">=20")
    (tmp_path / "bun.lock").write_text("")
    (tmp_path / "deno.json").write_text("{}")
    shown = soulbox("runtime", "detect", str(tmp_path)).stdout
    assert shown.startswith("Bun\n") and "Bun goes before Deno" in shown


def test_detect_tells_parts_and_drives_no_terminal(soulbox, tmp_path):
    for part, file in [("web", "package.json"), ("api\x1b[31m", "pyproject.toml")]:
        (tmp_path / part).mkdir()
        (tmp_path / part / file).write_text("{}" if part == "web" else "")
    shown = soulbox("runtime", "detect", str(tmp_path), code=3).stdout
    assert "parts differ" in shown and "web: Node" in shown and "\x1b" not in shown
    soulbox("runtime", "detect", str(tmp_path / "none"), code=3)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_detect_says_anew_what_changes(tmp_path, ending):
    words = [os.environ["SOULBOX_BIN"], "runtime", "detect", "--watch", "--json", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        # A test that fails ends it, too.
        killer = threading.Timer(30, watching.kill)
        killer.start()
        try:
            said = lambda: json.loads(watching.stdout.readline())["runtime"]
            assert said() is None
            (tmp_path / "app.py").write_text("")
            assert said() == "python"
            (tmp_path / "README.md").write_text("it changes nothing")
            (tmp_path / "src").mkdir()
            (tmp_path / "bun.lock").write_text("")
            assert said() == "bun"
            (tmp_path / "bun.lock").unlink()
            assert said() == "python"
            watching.send_signal(ending)
            rest, errors = watching.communicate(timeout=10)
            assert (watching.returncode, rest, errors) == (128 + ending, "", "")
        finally:
            killer.cancel()
            watching.kill()


def test_detect_ends_with_the_directory(tmp_path):
    watched = tmp_path / "app"
    watched.mkdir()
    words = [os.environ["SOULBOX_BIN"], "runtime", "detect", "--watch", str(watched)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stdout.readline() == "none\n"
            watched.rmdir()
            _, errors = watching.communicate(timeout=10)
            assert watching.returncode == 3 and str(watched) in errors
        finally:
            watching.kill()


def test_lists_with_number_signs_are_lists(soulbox, project):
    start = ["sh", "-c", "curl http://a/#b"]
    over = f"commands.start={json.dumps(start)}"
    show = lambda *more, of=soulbox: json.loads(config(of, "show", project, "--json", *more).stdout)
    assert show("--set", over)["commands"]["start"] == start
    variable = {"SOULBOX_COMMANDS_START": json.dumps(start)}
    with_variable = program.Program(soulbox.command, soulbox.environment | variable)
    assert show(of=with_variable)["commands"]["start"] == start
    config(soulbox, "set", project, over)
    assert show()["commands"]["start"] == start


def test_every_runtime_is_listed(soulbox):
    names = {runtime["name"] for runtime in json.loads(soulbox("runtime", "list", "--json").stdout)}
    assert {"bun", "deno", "node", "python", "cloudflare-workers", "vercel-edge", "deno-deploy", "browser"} <= names


@pytest.mark.parametrize("command", [["init"], ["config", "check"], ["config", "show"], ["config", "set"], ["config", "schema"], ["runtime", "detect"]])
def test_help_has_examples(soulbox, command):
    assert "Examples:" in soulbox(*command, "--help").stdout

"""Each runtime runs what it should, with what it was granted and no more."""

import time

import pytest
from conftest import needs_base

pytestmark = needs_base

PROGRAMS = {
    "python": ("print(6 * 7)", "42\n"),
    "node": ("console.log(6 * 7)", "42\n"),
    "deno": ("const x: number = 42; console.log(x)", "42\n"),
    "deno-deploy": ("const x: number = 42; console.log(x)", "42\n"),
    "bun": ("const x: number = 42; console.log(x)", "42\n"),
    "cloudflare-workers": ("export default { fetch: (r) => new Response('42 ' + new URL(r.url).pathname) }", "42 /a"),
    "vercel-edge": ("export default (r) => new Response('42 ' + new URL(r.url).pathname)", "42 /a"),
}


@pytest.mark.parametrize("runtime", PROGRAMS)
def test_it_runs(soulbox, runtime):
    code, expected = PROGRAMS[runtime]
    edge = ["--request", "/a"] if expected.endswith("/a") else []
    # The first use makes the template.
    done = soulbox("exec", "--runtime", runtime, *edge, "-e", code, timeout=170)
    assert done.stdout == expected


def test_code_comes_from_a_file_or_standard_input_and_programs_have_arguments_and_input(soulbox, tmp_path):
    program = tmp_path / "echo.py"
    program.write_text("import sys; print(sys.argv[1:], sys.stdin.read())")
    done = soulbox("exec", "-r", "python", program, "--", "a", "--b", stdin="in")
    assert done.stdout == "['a', '--b'] in\n"
    assert soulbox("exec", "-r", "python", "-", stdin="print('from stdin')").stdout == "from stdin\n"


def test_the_result_is_typed(soulbox):
    result = soulbox.json("exec", "-r", "python", "-e", "import sys; print('o'); print('e', file=sys.stderr); sys.exit(3)", code=3)
    assert (result["exit_code"], result["status"]) == (3, "exited")
    assert (result["stdout"], result["stderr"]) == ("o\n", "e\n")
    assert not result["stdout_truncated"] and not result["stderr_truncated"]
    assert 0 < result["duration_ms"] < 60_000 and result["cpu_ms"] > 0
    assert result["peak_memory_bytes"] > 1 << 20


def test_time_and_memory_run_out_as_such(soulbox):
    began = time.monotonic()
    result = soulbox.json("exec", "-r", "python", "--timeout", "1s", "-e", "while True: pass", code=124)
    assert result["status"] == "timeout" and time.monotonic() - began < 10
    result = soulbox.json("exec", "-r", "python", "-e", "x = b'x' * (1 << 30)", code=137)
    assert result["status"] == "oom" and result["diagnosis"]["kind"] == "out-of-memory"


def test_nothing_stays(soulbox):
    before = soulbox("sandbox", "list", "-q").stdout
    soulbox("exec", "-r", "python", "-e", "raise SystemExit(1)", code=1)
    soulbox("exec", "-r", "python", "--timeout", "1s", "-e", "while True: pass", code=124)
    assert soulbox("sandbox", "list", "-q").stdout == before


def test_options_of_another_runtime_are_refused(soulbox):
    assert "--smol" in soulbox("exec", "-r", "python", "--smol", "-e", "1", code=2).stderr
    soulbox("exec", "-r", "bun", "--allow-net", "-e", "1", code=2)
    soulbox("exec", "-r", "cobol", "-e", "1", code=2)
    soulbox("exec", "-r", "python", code=2)


# For each permission: a program that needs it, a list that grants it, and a list that does not.
MATRIX = {
    "net": (
        "const l = Deno.listen({ hostname: '127.0.0.1', port: 8099 }); l.close(); console.log('ok')",
        "127.0.0.1:8099",
        "127.0.0.1:8098",
    ),
    "read": ("await Deno.readTextFile('/etc/hosts'); console.log('ok')", "/etc/hosts", "/etc/passwd"),
    "write": ("await Deno.writeTextFile('/tmp/a', 'x'); console.log('ok')", "/tmp", "/home/user"),
    "env": ("Deno.env.get('HOME'); console.log('ok')", "HOME", "PATH"),
    "run": ("await new Deno.Command('/bin/true').output(); console.log('ok')", "/bin/true", "/bin/false"),
}


@pytest.mark.parametrize("kind", MATRIX)
def test_denos_permissions_are_none_all_or_a_list(soulbox, kind):
    code, granted, other = MATRIX[kind]
    for flags in ([f"--allow-{kind}"], [f"--allow-{kind}={granted}"], [f"--allow-{kind}={other},{granted}"]):
        assert soulbox("exec", "-r", "deno", *flags, "-e", code).stdout == "ok\n", flags
    for flags in ([], [f"--allow-{kind}={other}"]):
        result = soulbox.json("exec", "-r", "deno", *flags, "-e", code, code=1)
        assert result["stdout"] == ""
        diagnosis = result["diagnosis"]
        assert diagnosis["kind"] == "permission-denied" and f"--allow-{kind}" in diagnosis["advice"], flags


def test_deno_deploys_rules_have_no_files_and_no_programs(soulbox):
    serve = "const s = Deno.serve({ port: 8097 }, () => new Response('hi')); " \
        "console.log(await (await fetch('http://127.0.0.1:8097')).text()); await s.shutdown()"
    assert "hi" in soulbox("exec", "-r", "deno-deploy", "-e", serve).stdout
    for kind in ("read", "write", "run"):
        result = soulbox.json("exec", "-r", "deno-deploy", "-e", MATRIX[kind][0], code=1)
        assert result["diagnosis"]["kind"] == "permission-denied"


def test_bun_has_the_switches_of_its_engine(soulbox):
    heap = "console.log(process.env.BUN_JSC_forceRAMSize, process.env.BUN_JSC_useJIT)"
    done = soulbox("exec", "-r", "bun", "--smol", "--jsc-heap", "128", "--jsc-no-jit", "-e", heap)
    assert done.stdout == f"{128 << 20} 0\n"
    loop = "let s = 0; for (let i = 0; i < 3e7; i++) s += i % 7; console.log(s)"
    fast = soulbox.json("exec", "-r", "bun", "-e", loop)
    slow = soulbox.json("exec", "-r", "bun", "--jsc-no-jit", "-e", loop)
    assert fast["stdout"] == slow["stdout"]
    assert slow["cpu_ms"] > 2 * fast["cpu_ms"], "nothing is compiled"


@pytest.mark.parametrize("runtime", ["workerd", "vercel-edge"])
def test_edge_functions_have_no_files_and_fail_as_they_should(soulbox, runtime):
    probe = "export default HANDLER(() => new Response(typeof process + typeof require + typeof Deno, { status: 200 }))"
    wrap = {"workerd": "{ fetch: FN }", "vercel-edge": "FN"}[runtime]
    code = probe.replace("HANDLER(", "").removesuffix(")").replace("() =>", wrap.split("FN")[0] + "() =>", 1) + wrap.split("FN")[1]
    assert soulbox("exec", "-r", runtime, "-e", code).stdout == "undefined" * 3
    refused = code.replace("200", "503")
    assert soulbox("exec", "-r", runtime, "-e", refused, code=22).stdout == "undefined" * 3
    soulbox("exec", "-r", runtime, "--request", "no path", "-e", code, code=2)

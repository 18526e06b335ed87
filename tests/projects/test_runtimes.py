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


def test_code_for_node_requires_imports_and_awaits(soulbox):
    code = "import os from 'node:os'; console.log(typeof require('fs').readFileSync, typeof os.cpus, await 3)"
    assert soulbox("exec", "-r", "node", "-e", code).stdout == "function function 3\n"


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
    assert result["status"] == "timeout" and time.monotonic() - began < 30
    result = soulbox.json("exec", "-r", "python", "-e", "x = b'x' * (1 << 30)", code=137)
    assert result["status"] == "oom" and result["diagnosis"]["kind"] == "out-of-memory"


def test_a_lack_of_memory_names_the_flag_and_the_flag_helps(soulbox):
    hungry = ["exec", "-r", "python", "-e", "x = b'x' * (600 << 20); print(len(x) >> 20)"]
    result = soulbox.json(*hungry, "--memory", "256MB", code=137)
    assert result["status"] == "oom" and "--memory" in result["diagnosis"]["advice"]
    assert soulbox(*hungry, "--memory", "1GiB").stdout == "600\n"


def test_processors_are_those_that_were_asked_for(soulbox):
    burn = "import time\nt = time.time()\nwhile time.time() - t < 2: pass\nprint(time.process_time() / 2)"
    share = float(soulbox("exec", "-r", "python", "--cpu", "500m", "-e", burn).stdout)
    # Less where others want the processors, too; without the limit it would be all of one.
    assert 0.1 < share < 0.6


def test_code_runs_where_it_is_told(soulbox, tmp_path):
    code = "import os; open('made', 'w').write('x'); print(os.getcwd())"
    made = ["--artifact", "made", "--artifacts-to", tmp_path]
    result = soulbox.json("exec", "-r", "python", "--cwd", "/tmp", *made, "-e", code)
    assert (result["stdout"], [a["name"] for a in result["artifacts"]]) == ("/tmp\n", ["made"])
    assert (tmp_path / "made").read_text() == "x"
    for runtime in ["node", "bun"]:
        where = soulbox("exec", "-r", runtime, "--cwd", "../../var", "-e", "console.log(process.cwd())", timeout=170)
        assert where.stdout == "/var\n"
    missing = soulbox("exec", "-r", "python", "--cwd", "no/such", "-e", "print()", code=2)
    assert "/home/user/no/such" in missing.stderr


def test_flags_of_one_off_code_need_a_runtime_that_has_them(soulbox):
    for flag in (["--cwd", "/tmp"], ["--memory", "1GB"], ["--cpu", "1"]):
        assert "--runtime" in soulbox("exec", *flag, "--", "true", code=2).stderr
    assert "--cwd" in soulbox("exec", "-r", "browser", "--cwd", "/tmp", "-e", "1", code=2).stderr
    for flag in (["--memory", "1MB"], ["--memory", "512"], ["--cpu", "0"]):
        assert flag[0] in soulbox("exec", "-r", "python", *flag, "-e", "print()", code=2).stderr


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


def artifacts(soulbox, program, *flags, **more):
    result = soulbox.json("exec", "-r", "python", *flags, "-e", program, **more)
    return {a["name"]: a for a in result["artifacts"]}, result["artifacts_left_out"]


def test_artifacts_are_listed_and_brought_out(soulbox, tmp_path):
    code = "import os; os.makedirs('plots/deep'); [open(n, 'wb').write(b'x' * s) for n, s in " \
        "[('plots/a.png', 3), ('plots/b.csv', 4), ('plots/deep/c.json', 5), ('.hidden', 1), ('top.txt', 2)]]; raise SystemExit(3)"
    found, left_out = artifacts(soulbox, code, "--artifact", "plots/*.png", "--artifact", "*.txt", code=3)
    assert found == {
        "plots/a.png": {"name": "plots/a.png", "size": 3, "media_type": "image/png", "truncated": False},
        "top.txt": {"name": "top.txt", "size": 2, "media_type": "text/plain", "truncated": False},
    }
    assert left_out == 0
    out = tmp_path / "out"
    found, _ = artifacts(soulbox, code, "--artifact", "plots", "--artifacts-to", out, code=3)
    assert set(found) == {"plots/a.png", "plots/b.csv", "plots/deep/c.json"}
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert files == {"plots/a.png": b"xxx", "plots/b.csv": b"xxxx", "plots/deep/c.json": b"xxxxx"}
    assert artifacts(soulbox, code, "--artifact", "*", code=3)[0].keys() >= {"top.txt"} and ".hidden" not in found
    for bad in ("/etc/passwd", "../x", ""):
        soulbox("exec", "-r", "python", "--artifact", bad, "-e", "1", code=2)


HOSTILE = r"""
import os
os.mkdir('out'); os.chdir('out')
open('good', 'w').write('good')
os.symlink('/etc/passwd', 'link'); os.symlink('/', 'root'); os.symlink('..', 'up')
os.mkfifo('pipe')
for name in ('line\nbreak', 'escape\x1b[2J', '\u202egnp.exe', 'back\\slash'):
    open(name, 'w').write('bad')
open(b'\xff\xfe', 'w').write('bad')
os.truncate(os.open('huge', os.O_CREAT | os.O_WRONLY), 1 << 33)
deep = 'd'
for _ in range(40):
    os.mkdir(deep); os.chdir(deep)
open('bottom', 'w').write('bad')
"""


def test_artifacts_of_an_attacker_stay_in_their_directory(soulbox, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "good").write_text("mine")
    out = tmp_path / "kept"
    out.mkdir()
    # What the user has there may be links: they are not followed.
    (out / "out").symlink_to(outside)
    found, left_out = artifacts(soulbox, HOSTILE, "--artifact", "out", "--artifacts-to", out)
    assert found == {} and left_out >= 8
    assert [path.name for path in outside.iterdir()] == ["good"] and (outside / "good").read_text() == "mine"
    (out / "out").unlink()
    found, left_out = artifacts(soulbox, HOSTILE, "--artifact", "out", "--artifacts-to", out)
    assert set(found) == {"out/good", "out/huge"} and left_out >= 8
    assert found["out/huge"]["truncated"] and (out / "out/huge").stat().st_size == 64 << 20
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == ["out", "out/good", "out/huge"]


def test_artifacts_without_number_or_end_are_bounded(soulbox, tmp_path):
    code = "import os; os.mkdir('many'); [open(f'many/{n}', 'w').close() for n in range(3000)]"
    found, left_out = artifacts(soulbox, code, "--artifact", "many/*", "--artifacts-to", tmp_path / "out")
    assert len(found) == 256 == len(list((tmp_path / "out/many").iterdir())) and left_out == 3000 - 256
    # A file that is another one whenever it is looked at.
    code = """if os.fork() == 0:
    os.setsid(); os.close(0); os.close(1); os.close(2)
    while True:
        for make in (lambda: os.symlink('/dev/zero', 'new'), lambda: open('new', 'w').close(), lambda: os.mkfifo('new')):
            make(); os.rename('new', 'moving')
import time; time.sleep(0.3)"""
    began = time.monotonic()
    done = soulbox("exec", "-r", "python", "--artifact", "moving", "--artifacts-to", tmp_path / "moving", "-e", f"import os\n{code}", code=None)
    assert time.monotonic() - began < 75, done.stderr
    assert sum(path.stat().st_size for path in (tmp_path / "moving").rglob("*") if path.is_file()) <= 64 << 20


def test_cold_starts_are_measured_against_the_same_programs_outside(soulbox):
    report = soulbox.json("bench", "runtime", "-n", "1", timeout=170)
    names = [row["name"] for row in report["rows"]]
    assert [name.split()[0] for name in names[:8:2]] == ["python3", "node", "bun", "deno"]
    assert all(row["p50_ms"] > 1 for row in report["rows"])
    assert len(report["figures"]) == 5

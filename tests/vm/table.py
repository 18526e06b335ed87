"""The last results, for people: the table in docs/kernels.md."""

import json

BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def record(results, docs):
    """Takes `results` over into docs/kernels.json, beside those of kernels that were not run, and renders it."""
    path = docs / "kernels.json"
    known = {r["kernel"]: r for r in json.loads(path.read_text())} if path.exists() else {}
    known |= {r["kernel"]: r for r in results if "machine" in r}
    path.write_text(json.dumps(list(known.values()), indent=1) + "\n")
    page = docs / "kernels.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{render(list(known.values()))}{END}{after}")


def render(results):
    checks = []
    for result in results:
        checks += [(c["id"], c["title"]) for c in result["checks"] if (c["id"], c["title"]) not in checks]
    head = ["", *(f"{r['kernel']}<br>{r['machine']['kernel']}" for r in results)]
    rows = [
        ["when", *(r["when"] for r in results)],
        ["cgroups", *("version 2" for _ in results)],
        ["controllers", *(", ".join(r["machine"]["controllers"]) for r in results)],
        ["what sandboxes write to", *(layers(r) for r in results)],
        ["passed, failed, skipped", *(f"{r['passed']}, {r['failed']}, {r['skipped']}" for r in results)],
    ]
    for name, title in checks:
        rows.append([title, *(outcome(r, name) for r in results)])
    for suite in dict.fromkeys(s["id"] for r in results for s in r["suites"]):
        rows.append([f"{suite}: passed, failed, skipped", *(counts(r, suite) for r in results)])
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def layers(result):
    """What the server said that it uses, `layers="…"`."""
    for check in result["checks"]:
        if check["id"] == "start" and isinstance(check["why"], dict):
            return check["why"]["ready"].partition("layers=")[2].strip('"')
    return "-"


def counts(result, suite):
    found = [s for s in result["suites"] if s["id"] == suite]
    return ", ".join(str(found[0][key]) for key in ("passed", "failed", "skipped")) if found else "-"


def outcome(result, name):
    found = [c for c in result["checks"] if c["id"] == name]
    return found[0]["result"] if found else "-"

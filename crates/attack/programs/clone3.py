# clone3 with and without namespaces; then whether the C library still starts processes and threads.
import subprocess, threading
answers = []
for flags in (0x10000000, 0, 0x20000, 0x200000000):
    arguments = struct.pack("<11Q", flags, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
    answers.append(call(435, arguments, len(arguments)))
thread = threading.Thread(target=lambda: None)
thread.start(); thread.join()
forked = subprocess.run(["/bin/sh", "-c", "exit 7"]).returncode == 7
tell({"clone3": answers, "fallback": "forked" if forked else "failed"})

# A tree as deep as the first argument says, and names as long as they may be.
depth = int(sys.argv[1])
os.mkdir("/tmp/deep"); os.chdir("/tmp/deep")
for _ in range(depth):
    os.mkdir("d"); os.chdir("d")
open("n" * 255, "w").close()
tell("made")

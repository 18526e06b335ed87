# Empty files for as long as the second argument says, or until the disk is full.
os.makedirs(sys.argv[1], exist_ok=True)
end, made, error = time.monotonic() + float(sys.argv[2]), 0, None
try:
    while time.monotonic() < end:
        os.close(os.open(f"{sys.argv[1]}/{made}", os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as failed:
    error = errno.errorcode[failed.errno]
tell({"made": made, "error": error})

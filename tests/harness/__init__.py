"""What the suites and the runner share: a server of one's own, and the host as the kernel shows it."""

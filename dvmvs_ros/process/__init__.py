"""What every node needs as a process: start and end, lifecycle, logs, quality of service, transport."""

"""The command line: reads arguments, calls, prints. Heavy imports stand inside the commands."""

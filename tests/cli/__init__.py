"""The command line, as people and monitors use it: real processes, their output and their exit codes."""

"""The command line: one file per verb, parse and print only."""

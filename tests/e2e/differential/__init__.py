"""The differential corpus: what is asked of Redis and of Terrace, and how it is compared.

corpus      what a case is: the dataset before it, its lines, the variants made of a line
strings … newer    the cases, one module per command family: data only
dialogues   cases of several commands on one connection
allowances  what may differ, each with its reason
play        sends dialogues in several ways, compares replies and the dataset left behind
coverage    which commands and subcommands were seen to succeed and to fail, and how

`python -m tests.e2e.differential` prints the report.
"""

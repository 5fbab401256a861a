"""Jobs that are killed at every file operation, and what the same command makes of the rest.

``python tests/kill --help`` says how; docs/killed.md what is compared.
"""

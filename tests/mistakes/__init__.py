"""What is shown of mistakes: each command is run, and docs/mistakes.md holds the table."""

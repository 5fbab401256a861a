"""What every room uses: files, locks, names."""
